// @ts-check
/** A model's panel: made, edited, linked, deleted; what gateway.yaml defines is only shown. */

import { api } from "../core/api.js";
import { el, fill, toast } from "../core/dom.js";
import { choice, field, form, named, part, side, sure, tick, words } from "../desk/desk.js";
import { limitFields, limitWords } from "../desk/limits.js";
import { priceFields } from "../desk/price.js";
import { endpointForm } from "./endpoint.js";

const KINDS = /** @type {Record<string, string>} */ ({ user: "userId", org: "orgId", plan: "planId" });
const ROTATIONS = ["round_robin", "weighted", "least_busy", "cache_affinity"];
const OPERATIONS = ["chat", "completions", "embeddings", "moderations", "images", "speech", "transcriptions", "rerank", "realtime"];
const BOUNDS = ["max_completion_tokens", "max_tokens", "max_output_tokens"];

/**
 * @param {any} model null: a new one
 * @param {string | null} place where gateway.yaml defines it
 * @param {string | null} currency
 * @param {() => Promise<void>} changed
 */
export function modelPanel(model, place, currency, changed) {
  return side(model ? model.name : "New model", (close) =>
    model?.source === "file"
      ? [el("p.note", null, "Defined in ", el("code", null, place ?? "gateway.yaml"), "; it can only be changed there. Links may be made here."), shown(model), links(model)]
      : [edited(model, currency, changed, close), model && links(model)]);
}

/** @param {any} model */
function shown(model) {
  const line = (/** @type {string} */ name, /** @type {any} */ value) => el("tr", null, el("th", { scope: "row" }, name), el("td", null, value));
  return el("table", null, el("tbody", null,
    line("Id", named(model.id)),
    line("Model id at providers", model.config?.modelId ? named(model.config.modelId) : "the same as its name"),
    line("Also called", named(model.aliases.join(", ") || "nothing else")),
    line("For", model.global ? "everyone" : "whom it is linked to"),
    line("Limits", limitWords(model.limits)),
    line("Rotation", model.rotation),
    model.endpoints.map((/** @type {any} */ each) => line("Endpoint", [named(each.id), " ", named(each.url), el("div.small.muted", null, `credential ${each.api_key ?? "none"}, priority ${each.priority}, weight ${each.weight}`)]))));
}

/**
 * @param {any} model
 * @param {string | null} currency
 * @param {() => Promise<void>} changed
 * @param {() => void} close
 */
function edited(model, currency, changed, close) {
  const name = el("input", { value: model?.name ?? "", required: true, autocomplete: "off" });
  const providerModel = el("input", { value: model?.config?.modelId ?? "", autocomplete: "off" });
  const aliases = el("input", { value: (model?.aliases ?? []).join(", ") });
  const tags = el("input", { value: (model?.tags ?? []).join(", ") });
  const fallbacks = el("input", { value: (model?.fallbacks ?? []).join(", ") });
  const everyone = tick("open to everyone", model?.global ?? false);
  const reasoning = tick("reasons before it answers", model?.reasoning ?? false);
  const rotation = choice(model?.rotation ?? "round_robin", ROTATIONS);
  if (model && rotation.value !== model.rotation) rotation.append(el("option", { value: model.rotation, selected: true }, model.rotation));
  const limits = limitFields(model?.limits ?? null);
  const price = priceFields(model?.price ?? null, `Price of a million tokens${currency ? `, ${currency}` : ""}`);
  const id = el("input", { autocomplete: "off", placeholder: "one is made" });
  const bound = choice(model?.max_tokens_field ?? BOUNDS[0], BOUNDS);
  const operations = [...new Set([...OPERATIONS, ...(model?.operations ?? [])])].map((name) => ({ name, ...tick(name, model?.operations?.includes(name) ?? false) }));
  /** @type {{node: HTMLElement, value: () => any}[]} */
  const endpoints = [];
  const list = el("div");
  const add = (/** @type {any} */ known) => {
    const one = endpointForm(known, () => {
      endpoints.splice(endpoints.indexOf(one), 1);
      one.node.remove();
    });
    endpoints.push(one);
    list.append(one.node);
    if (!known && model) one.node.querySelector("input")?.focus();
  };
  (model?.endpoints ?? [null]).forEach(add);
  const send = async () => {
    const { source: _, ...kept } = model ?? {};
    const body = {
      ...kept,
      name: name.value.trim(),
      config: { ...(model?.config ?? {}), modelId: providerModel.value.trim() || null },
      aliases: words(aliases.value), tags: words(tags.value), fallbacks: words(fallbacks.value),
      global: everyone.box.checked, reasoning: reasoning.box.checked, rotation: rotation.value,
      limits: limits.value(), price: price.value(), max_tokens_field: bound.value,
      operations: operations.some((each) => each.box.checked) ? operations.filter((each) => each.box.checked).map((each) => each.name) : null,
      ...(!model && id.value.trim() ? { id: id.value.trim() } : {}),
      endpoints: endpoints.map((each) => each.value()),
    };
    await api(model ? `/api/admin/ai/models/${part(model.id)}` : "/api/admin/ai/models", { method: model ? "PUT" : "POST", body });
    close();
    toast("Saved. It holds for the next request.");
    await changed();
  };
  const remove = async () => {
    if (!sure(model.name)) return;
    try {
      await api(`/api/admin/ai/models/${part(model.id)}`, { method: "DELETE" });
      close();
      await changed();
    } catch (error) {
      toast(/** @type {Error} */ (error).message.slice(0, 300));
    }
  };
  return form([
    el("div.pair", null, field("Name", name), field("Model id at its providers", providerModel)),
    el("div.pair", null, field("Aliases", aliases, "by commas"), field("Tags", tags, "by commas")),
    el("div.row", null, everyone.node, reasoning.node),
    el("h2", null, "Endpoints"), list,
    el("button", { type: "button", onclick: () => add(null) }, "Another endpoint"),
    el("h2", null, "Limits and price"), limits.node,
    price.node,
    el("div.pair", null, field("Rotation", rotation), field("Fallback models", fallbacks, "ids or names, by commas")),
    el("details", null, el("summary", null, "More of this model"),
      el("fieldset", null, el("legend", null, "Operations (none ticked: all)"), el("div.row", null, operations.map((each) => each.node))),
      el("div.pair", null, field("Bound of translated answers", bound, "what max_tokens of Messages becomes"), !model && field("Id of the model", id))),
  ], "Save", send, [model && el("button.danger", { type: "button", onclick: remove }, "Delete")].filter(Boolean));
}

/** Link a model to a user, an organisation or a plan. @param {any} model */
function links(model) {
  const kind = choice("user", Object.keys(KINDS));
  kind.options[1].textContent = "organisation";
  const owner = el("input", { required: true, autocomplete: "off" });
  const limits = limitFields(null, "Limits of this link");
  const say = el("p.small.muted", { role: "status" });
  const send = async () => {
    const found = await api(`/api/admin/ai/models/${part(model.id)}/link-${kind.value}`, { method: "POST", body: { [KINDS[kind.value]]: owner.value.trim(), limits: limits.value() } });
    fill(say, "Linked: ", named(owner.value), ` (link ${found.link.id}).`);
    owner.value = "";
  };
  const unlink = async () => {
    if (!owner.value.trim()) return owner.focus();
    try {
      await api(`/api/admin/ai/models/${part(model.id)}/unlink-${kind.value}/${part(owner.value.trim())}`, { method: "DELETE" });
      fill(say, "Link taken away: ", named(owner.value), ".");
    } catch (error) {
      fill(say, /** @type {Error} */ (error).message.slice(0, 300));
    }
  };
  return el("section", { "data-untracked": true }, el("h2", null, "Links"),
    form([el("div.pair", null, field("To a", kind), field("Id", owner)), el("details", null, el("summary", null, "Limits of this link"), limits.node), say],
      "Link", send, [el("button.danger", { type: "button", onclick: unlink }, "Unlink")]));
}
