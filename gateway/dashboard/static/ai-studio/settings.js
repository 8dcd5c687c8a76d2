// @ts-check
/** What is asked, and how: the left side. What is typed outlives a reload, never this tab. */

import { el } from "../core/dom.js";
import { ofTab } from "../core/kept.js";
import { pictures } from "./pictures.js";
import { readSchema } from "./schema.js";

/** @typedef {{system: string, message: string, temperature: number | null, maxTokens: number | null, schema: any, pictures: string[]}} Settings */

const EXAMPLE = `{
  "type": "object",
  "properties": {
    "title": { "type": "string" },
    "score": { "type": "integer" }
  },
  "required": ["title", "score"],
  "additionalProperties": false
}`;

/** @param {string} key under which what is typed is kept */
export function settingsForm(key) {
  const system = el("textarea", { rows: 3, name: "system" });
  const message = el("textarea", { rows: 4, name: "message", "data-search": true });
  const temperature = el("input", { type: "number", name: "temperature", min: 0, max: 2, step: "any", placeholder: "default", inputmode: "decimal" });
  const maxTokens = el("input", { type: "number", name: "maxTokens", min: 1, max: 10_000_000, step: 1, placeholder: "no bound", inputmode: "numeric" });
  const structured = el("input", { type: "checkbox", name: "structured" });
  const schema = el("textarea.mono", { rows: 10, name: "schema", spellcheck: "false", "aria-describedby": "schema-says", value: EXAMPLE });
  const says = el("p.small", { id: "schema-says", role: "status" });
  const box = el("div", { hidden: true }, el("label", null, "JSON schema of the answer", schema), says);
  const complaint = el("p.note.bad", { role: "alert", hidden: true });
  const zone = el("div.zone", null, el("label", null, "Message", message));
  const shown = pictures(zone, (words) => complain(words));
  zone.append(...shown.nodes);
  const fields = { system, message, temperature, maxTokens, schema };

  const form = el("form.settings", { novalidate: true },
    el("label", null, "System prompt", system), zone,
    el("div.pair", null, el("label", null, "Temperature (0 to 2)", temperature), el("label", null, "Longest answer, tokens", maxTokens)),
    el("label.check", null, structured, "Structured output"), box, complaint);

  /** @param {string} words "": nothing is wrong */
  function complain(words) {
    complaint.textContent = words;
    complaint.hidden = !words;
  }

  function checkSchema() {
    box.hidden = !structured.checked;
    const { fault } = readSchema(schema.value);
    says.className = fault ? "small bad" : "small good";
    says.textContent = fault ?? "✓ This is a schema.";
    schema.setAttribute("aria-invalid", String(Boolean(fault)));
  }

  form.addEventListener("input", () => {
    complain("");
    checkSchema();
    const typed = Object.entries(fields).map(([name, field]) => [name, field.value]);
    ofTab.write(key, JSON.stringify({ ...Object.fromEntries(typed), structured: structured.checked }));
  });
  const kept = JSON.parse(ofTab.read(key) ?? "{}");
  for (const [name, field] of Object.entries(fields)) if (typeof kept[name] === "string") field.value = kept[name];
  structured.checked = kept.structured === true;
  checkSchema();

  /** What is set; null where something is wrong, which is then said. @returns {Settings | null} */
  function read() {
    const fault = faultOf();
    complain(fault?.words ?? "");
    fault?.field.focus();
    if (fault) return null;
    return {
      system: system.value.trim() ? system.value : "",
      message: message.value,
      temperature: temperature.value === "" ? null : Number(temperature.value),
      maxTokens: maxTokens.value === "" ? null : Number(maxTokens.value),
      schema: structured.checked ? readSchema(schema.value).schema : null,
      pictures: shown.urls(),
    };
  }

  function faultOf() {
    if (!message.value.trim() && !shown.urls().length) return { field: message, words: "Write a message first." };
    if (!temperature.validity.valid) return { field: temperature, words: "The temperature is a number from 0 to 2." };
    if (!maxTokens.validity.valid) return { field: maxTokens, words: "The longest answer is a whole number of tokens, at least 1." };
    if (structured.checked && readSchema(schema.value).fault) return { field: schema, words: "The schema has a mistake; see below it." };
    return null;
  }
  return { form, read, message };
}

/** The messages of a request. @param {Settings} settings */
export function messagesOf({ message, pictures: urls }) {
  const words = message.trim() ? [{ type: "text", text: message }] : [];
  const content = urls.length ? [...words, ...urls.map((url) => ({ type: "image_url", image_url: { url } }))] : message;
  return [{ role: "user", content }];
}

/** @param {any} schema */
export function formatOf(schema) {
  return { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
}
