// @ts-check
/** One endpoint in a model's form. What the form does not know is sent back as it came. */

import { el } from "../core/dom.js";
import { choice, field, plain, tick, words } from "../desk/desk.js";
import { pairs } from "../desk/pairs.js";
import { priceFields } from "../desk/price.js";

const PROTOCOLS = ["openai", "anthropic"];
const TIMEOUTS = /** @type {[string, string][]} */ ([["connect", "To connect"], ["first_byte", "First byte"], ["idle", "Between bytes"], ["total", "In all"]]);

/**
 * @param {any} known the endpoint as it stands, null for a new one
 * @param {() => void} remove
 * @returns {{node: HTMLElement, value: () => any}}
 */
export function endpointForm(known, remove) {
  const id = el("input", { value: known?.id ?? "", required: true, autocomplete: "off" });
  const url = el("input", { value: known?.url ?? "", type: "url", required: true, placeholder: "https://api.example.com/v1", autocomplete: "off" });
  const credential = el("input", { type: "password", autocomplete: "new-password", placeholder: known?.api_key ? "set; type to replace" : "none" });
  const priority = el("input", { type: "number", value: known?.priority ?? 0, step: "1" });
  const weight = el("input", { type: "number", value: known?.weight ?? 1, min: "0", step: "1" });
  const most = el("input", { type: "number", value: known?.max_in_flight ?? "", min: "0", step: "1", placeholder: "no limit" });
  const providerModel = el("input", { value: known?.provider_model ?? "", placeholder: "as the model's" });
  const auth = choice(known?.auth_header ?? "", ["", "authorization", "x-api-key", "api-key"]);
  auth.options[0].textContent = "as usual for its protocol";
  const protocols = PROTOCOLS.map((name) => ({ name, ...tick(name, (known?.protocols ?? ["openai"]).includes(name)) }));
  const account = el("input", { value: known?.account ?? "" });
  const passed = el("input", { value: (known?.pass_headers ?? []).join(", ") });
  const usage = tick("asks for usage in streams", known?.stream_usage ?? true);
  const objects = tick("keeps objects (files, batches, responses)", known?.objects ?? false);
  const websocket = tick("takes WebSockets", known?.websocket ?? false);
  const headers = pairs("Headers", known?.headers ?? {});
  const query = pairs("Query", known?.query ?? {});
  const authority = el("input", { value: known?.ca_file ?? "", placeholder: "the system's authorities", autocomplete: "off" });
  const timeouts = TIMEOUTS.map(([name, label]) => ({ name, label, input: el("input", { type: "number", min: "0", step: "any", value: known?.timeouts?.[name] ?? "", placeholder: "as usual" }) }));
  const price = priceFields(known?.price ?? null, "Price here, in place of the model's");
  const node = el("fieldset", null,
    el("legend", null, known ? plain(known.id) : "New endpoint"),
    el("div.pair", null, field("Id", id), field("Credential", credential, known?.api_key ? "There is one; it is never shown." : "")),
    field("URL", url, known ? "To another place the credential must be typed again." : ""),
    el("div.triple", null, field("Priority", priority, "lower is asked first"), field("Weight", weight), field("At once, at most", most)),
    el("details", null, el("summary", null, "More of this endpoint"),
      el("div.pair", null, field("Model id there", providerModel), field("Credential's header", auth)),
      el("div.pair", null, field("Account", account), field("Headers passed on", passed, "names, by commas")),
      el("div.row", null, protocols.map((each) => each.node)),
      usage.node, objects.node, websocket.node,
      headers.node, query.node,
      el("fieldset", null, el("legend", null, "Time-outs, seconds"), el("div.pair", null, timeouts.map((each) => field(each.label, each.input)))),
      field("File of its authority", authority, "PEM, an absolute path on the gateway's machine"),
      price.node),
    el("div.row.end", null, el("button.quiet.danger", { type: "button", onclick: remove }, "Take this endpoint away")));
  const value = () => {
    const { source: _, ...kept } = known ?? {};
    const body = {
      ...kept,
      id: known && String(known.id) === id.value ? known.id : id.value.trim(),
      url: url.value.trim(),
      priority: Number(priority.value),
      weight: Number(weight.value),
      max_in_flight: most.value === "" ? null : Number(most.value),
      provider_model: providerModel.value.trim() || null,
      auth_header: auth.value || null,
      account: account.value.trim() || null,
      pass_headers: words(passed.value),
      protocols: protocols.filter((each) => each.box.checked).map((each) => each.name),
      stream_usage: usage.box.checked,
      objects: objects.box.checked,
      websocket: websocket.box.checked,
      headers: headers.value(),
      query: query.value(),
      ca_file: authority.value.trim() || null,
      timeouts: Object.fromEntries(timeouts.filter(({ input }) => input.value !== "").map(({ name, input }) => [name, Number(input.value)])),
      price: price.value(),
    };
    if (credential.value) body.api_key = credential.value;
    return body;
  };
  return { node, value };
}
