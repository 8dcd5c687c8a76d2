// @ts-check
/** Limits as fields: an empty one does not limit. */

import { el } from "../core/dom.js";
import { choice, field } from "./desk.js";

const FIELDS = /** @type {[string, string][]} */ ([
  ["rpm", "Requests a minute"],
  ["tpm", "Tokens a minute"],
  ["concurrency", "At once"],
  ["requests", "Requests"],
  ["tokens", "Tokens"],
  ["cost", "Cost"],
]);

/**
 * @param {any} limits as they stand; null: none
 * @param {string} [title]
 * @returns {{node: HTMLElement, value: () => any}}
 */
export function limitFields(limits, title = "Limits") {
  const inputs = FIELDS.map(([name, label]) => ({
    name,
    label,
    input: el("input", { type: "number", min: "0", step: name === "cost" ? "any" : "1", value: limits?.[name] ?? "", placeholder: "none" }),
  }));
  const period = choice(limits?.period ?? "month", ["minute", "hour", "day", "month"]);
  const node = el("fieldset", null, el("legend", null, title),
    el("div.triple", null, inputs.map((each) => field(each.label, each.input))),
    field("Requests, tokens and cost are counted by", period));
  const value = () => {
    /** @type {Record<string, any>} */
    const found = {};
    for (const { name, input } of inputs) if (input.value !== "") found[name] = Number(input.value);
    if (!Object.keys(found).length) return null;
    if (["requests", "tokens", "cost"].some((name) => name in found)) found.period = period.value;
    return found;
  };
  return { node, value };
}

/** Limits in a line. @param {any} limits */
export function limitWords(limits) {
  if (!limits) return "none";
  const texts = FIELDS.filter(([name]) => limits[name] !== null && limits[name] !== undefined).map(([name]) => `${limits[name].toLocaleString("en")} ${name}`);
  return texts.length ? texts.join(", ") + (limits.period ? ` a ${limits.period}` : "") : "none";
}
