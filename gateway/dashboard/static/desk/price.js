// @ts-check
/** A price: its usual components as fields, all others as they are written. */

import { el } from "../core/dom.js";
import { field } from "./desk.js";

const USUAL = /** @type {[string, string][]} */ ([["input", "Input"], ["output", "Output"], ["cached_input", "Cached input"]]);

/**
 * @param {any} price as it stands; null: none
 * @param {string} title
 * @returns {{node: HTMLElement, value: () => any}}
 */
export function priceFields(price, title) {
  const inputs = USUAL.map(([name, label]) => ({ name, label, input: el("input", { type: "number", min: "0", step: "any", value: price?.[name] ?? "", placeholder: "none" }) }));
  const others = Object.fromEntries(Object.entries(price ?? {}).filter(([name]) => !USUAL.some(([usual]) => usual === name)));
  const written = Object.keys(others).length ? JSON.stringify(others, null, 2) : "";
  const rest = el("textarea.mono", { rows: written ? 6 : 2, value: written, spellcheck: "false", placeholder: "{\"cache_write\": 3.75, \"batch\": 0.5}" });
  const value = () => {
    const found = Object.fromEntries(inputs.filter(({ input }) => input.value !== "").map(({ name, input }) => [name, Number(input.value)]));
    Object.assign(found, othersIn(rest.value));
    return Object.keys(found).length ? found : null;
  };
  return {
    node: el("fieldset", null, el("legend", null, title),
      el("div.triple", null, inputs.map((each) => field(each.label, each.input))),
      el("details", { open: written !== "" }, el("summary", null, "Other components"),
        field("Other components, as JSON", rest, "cache_write, audio_input, reasoning, request, image, tools, batch, above, service_tiers: as in gateway.yaml"))),
    value,
  };
}

/** @param {string} text @returns {Record<string, any>} */
function othersIn(text) {
  if (!text.trim()) return {};
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    found = null;
  }
  if (typeof found !== "object" || found === null || Array.isArray(found)) throw new Error("The other components of a price are a JSON object: {\"cache_write\": 3.75}.");
  return found;
}
