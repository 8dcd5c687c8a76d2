// @ts-check
/** "New key": a form, and the key once. */

import { api } from "../core/api.js";
import { ask, copyButton, el, fill } from "../core/dom.js";
import { inWords } from "../core/loading.js";
import { named } from "../core/names.js";
import { snippets } from "./snippets.js";

/** @typedef {{id: number | string, name: string}} Model */

const DAYS = [["", "Never"], ["7", "In 7 days"], ["30", "In 30 days"], ["90", "In 90 days"], ["365", "In a year"], ["on", "On a day …"]];
const SCOPES = /** @type {Record<string, string>} */ ({
  "ai:use": "use models", "ai:manage": "manage the gateway", "usage:read": "read everybody's usage", "act:as": "act for any user",
});

/**
 * Ask for a new key and make it. Whether one was made.
 * @param {{scopes: string[], models: Model[]}} may
 * @returns {Promise<boolean>}
 */
export async function newKey({ scopes, models }) {
  let made = false;
  await ask("New key", (close) => {
    const room = el("div", null);
    const form = formOf(scopes, models, close, async (body) => {
      const key = await api("/api/ai/keys", { method: "POST", body });
      made = true;
      shownOnce(room, key.key, "Your new key", firstOf(key, models), close);
    });
    fill(room, form);
    return room;
  });
  return made;
}

/** The name of the model that snippets are for. @param {{models: (string | number)[] | null}} key @param {Model[]} models */
export function firstOf(key, models) {
  const usable = key.models ? models.filter((model) => key.models?.some((each) => String(each) === String(model.id) || each === model.name)) : models;
  return usable[0]?.name ?? null;
}

/**
 * @param {string[]} scopes
 * @param {Model[]} models
 * @param {(value?: any) => void} close
 * @param {(body: any) => Promise<void>} send
 */
function formOf(scopes, models, close, send) {
  const words = el("p.note.bad", { role: "alert", hidden: true });
  const day = el("input", { type: "date", name: "day", min: new Date(Date.now() + 86_400_000).toISOString().slice(0, 10) });
  const dayRow = el("label", { hidden: true }, "Last day (UTC)", day);
  const ends = el("select", { name: "ends", onchange: () => (dayRow.hidden = ends.value !== "on") },
    DAYS.map(([value, title]) => el("option", { value }, title)));
  const submit = el("button.primary", { type: "submit" }, "Make key");
  const form = el("form", {
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      submit.disabled = true;
      words.hidden = true;
      try {
        await send(bodyOf(form, scopes));
      } catch (error) {
        words.textContent = inWords(error);
        words.hidden = false;
      } finally {
        submit.disabled = false;
      }
    },
  },
  el("label", null, "Name", el("input", { name: "name", autofocus: true, autocomplete: "off", maxlength: "200", placeholder: "phone, editor, nightly job …" })),
  el("label", null, "Ends", ends), dayRow,
  scopes.length > 1 && choices("scope", "What it may do", scopes.map((scope) => [scope, SCOPES[scope] ?? scope, scope === "ai:use"])),
  el("details", null, el("summary", null, "Limits, models, addresses"),
    models.length > 0 && choices("model", "Only these models (none ticked: all of yours)", models.map((model) => [String(model.id), named(model.name), false])),
    el("div.fields", null,
      number("requests", "Requests"), number("tokens", "Tokens"), number("cost", "Cost", "any"),
      el("label", null, "in each", el("select", { name: "period" }, ["month", "day", "hour", "minute"].map((period) => el("option", { value: period }, period)))),
      number("rpm", "Requests a minute"), number("concurrency", "At a time"),
    ),
    el("label", null, "Only from these addresses, as 203.0.113.0/24", el("input", { name: "ips", autocomplete: "off" })),
  ),
  words,
  el("div.row.end", null, el("button", { type: "button", onclick: () => close() }, "Cancel"), submit));
  return form;
}

/** @param {string} name @param {string} title @param {[string, any, boolean][]} rows */
function choices(name, title, rows) {
  return el("fieldset.choices", null, el("legend", null, title), rows.map(([value, shown, checked]) =>
    el("label.choice", null, el("input", { type: "checkbox", name, value, checked }), shown)));
}

/** @param {string} name @param {string} title @param {string} [step] */
function number(name, title, step = "1") {
  return el("label", null, title, el("input", { type: "number", name, min: step === "1" ? "1" : "0", step, inputmode: "decimal" }));
}

/** @param {HTMLFormElement} form @param {string[]} scopes */
function bodyOf(form, scopes) {
  const data = new FormData(form);
  const text = (/** @type {string} */ name) => String(data.get(name) ?? "").trim();
  /** @type {Record<string, any>} */
  const body = {};
  if (text("name")) body.name = text("name");
  if (scopes.length > 1) body.scopes = data.getAll("scope");
  if (text("ends") === "on" && text("day")) body.expires = `${text("day")}T23:59:59Z`;
  else if (text("ends") && text("ends") !== "on") body.expires = `${new Date(Date.now() + Number(text("ends")) * 86_400_000).toISOString().slice(0, 19)}Z`;
  if (data.getAll("model").length) body.models = data.getAll("model");
  const ips = text("ips").split(/[\s,]+/).filter(Boolean);
  if (ips.length) body.ips = ips;
  const limits = Object.fromEntries(["requests", "tokens", "cost", "rpm", "concurrency"].filter(text).map((name) => [name, Number(text(name))]));
  if (Object.keys(limits).length) body.limits = { ...limits, period: text("period") };
  return body;
}

/**
 * Show a key, this once; closing by accident asks first.
 * @param {HTMLElement} room within a dialog
 * @param {string} key
 * @param {string} title
 * @param {string | null} model
 * @param {(value?: any) => void} close
 * @param {...any} more words beneath
 */
export function shownOnce(room, key, title, model, close, ...more) {
  const dialog = /** @type {HTMLDialogElement} */ (room.closest("dialog"));
  const words = el("p.small.muted", { role: "status" }, "It is shown this once: copy it now. Nobody can show it again.");
  const heading = dialog.querySelector("h1");
  if (heading) heading.textContent = title;
  let warned = false;
  dialog.addEventListener("cancel", (event) => {
    if (warned) return;
    warned = true;
    event.preventDefault();
    words.className = "note warn";
    words.textContent = "Have you copied it? It is not shown again. Press Escape once more to close.";
  });
  const field = el("input.mono", { readonly: true, value: key, "aria-label": "Key", onfocus: () => field.select() });
  fill(room,
    el("div.row.key", null, field, copyButton(() => key)),
    words, ...more,
    el("h2", null, "Use it"), snippets({ key, model }),
    el("div.row.end", null, el("button.primary", { type: "button", onclick: () => close() }, "Done")));
  field.focus();
}
