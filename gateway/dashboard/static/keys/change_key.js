// @ts-check
/** Rename, rotate and revoke a key. Each says whether something changed. */

import { api } from "../core/api.js";
import { ask, el, fill } from "../core/dom.js";
import { utc } from "../core/format.js";
import { inWords } from "../core/loading.js";
import { firstOf, shownOnce } from "./new_key.js";
import { called } from "./words.js";

/** @typedef {import("./words.js").Key} Key */
/** @typedef {import("./new_key.js").Model} Model */

const GRACES = [["0", "At once"], ["3600", "In an hour"], ["86400", "In a day"], ["604800", "In 7 days"], ["2592000", "In 30 days"]];

/** @param {Key} key */
const path = (key) => `/api/ai/keys/${encodeURIComponent(String(key.id))}`;

/** @param {Key} key */
export const rename = (key) => asked(`Rename ${called(key)}`, "Rename", (form) =>
  api(path(key), { method: "PATCH", body: { name: String(new FormData(form).get("name")).trim() || null } }),
[el("label", null, "Name", el("input", { name: "name", value: (key.name ?? "").slice(0, 1000), autofocus: true, autocomplete: "off", maxlength: "200" }))]);

/**
 * Revoke a key once its name has been typed.
 * @param {Key} key
 */
export function revoke(key) {
  const name = key.name && called(key) === key.name ? key.name : (key.last4 ?? called(key)); // what nobody can type is not asked for
  const field = el("input", { name: "typed", autofocus: true, autocomplete: "off" });
  return asked(`Revoke ${called(key)}?`, "Revoke", async () => {
    if (field.value.trim() !== name.trim()) {
      field.focus();
      throw new Error(`That is not it. Type ${name} to revoke it.`);
    }
    await api(path(key), { method: "DELETE" });
  }, [
    el("p", null, "What uses it stops working at once, and so do the keys that it made. This cannot be undone."),
    el("label", null, "Type ", name === key.name ? "its name, " : "the end of the key, ", el("strong", null, el("bdi", null, name)), ", to go on", field),
  ], "danger");
}

/**
 * Give a key a new text; the old one may hold for a while.
 * @param {Key} key
 * @param {Model[]} models
 */
export async function rotate(key, models) {
  let changed = false;
  await ask(`Rotate ${called(key)}`, (close) => {
    const room = el("div", null);
    const grace = el("select", { name: "grace", autofocus: true }, GRACES.map(([value, title]) => el("option", { value }, title)));
    fill(room, formOf("Rotate", "primary", close, async () => {
      const seconds = Number(grace.value);
      const made = await api(`${path(key)}/rotate`, { method: "POST", body: { grace_seconds: seconds } });
      changed = true;
      shownOnce(room, made.key, `New key of ${called(key)}`, firstOf(made, models), close,
        el("p", null, seconds === 0 ? "The old key no longer works." : ["The old key holds until ", el("strong", null, utc(ending(key, seconds))), "."]));
    }, [
      el("p", null, "It gets a new text; its name, scopes and limits stay."),
      el("label", null, "The old one ends", grace),
    ]));
    return room;
  });
  return changed;
}

/** When the old text ends: after its grace, and never after the key itself. @param {Key} key @param {number} seconds */
function ending(key, seconds) {
  const end = Date.now() + seconds * 1000;
  return key.expires ? Math.min(end, new Date(key.expires).getTime()) : end;
}

/**
 * @param {string} title
 * @param {string} verb
 * @param {(form: HTMLFormElement) => Promise<any>} send
 * @param {any[]} fields
 * @param {string} [kind]
 */
async function asked(title, verb, send, fields, kind = "primary") {
  return (await ask(title, (close) => formOf(verb, kind, close, async (form) => {
    await send(form);
    close(true);
  }, fields))) === true;
}

/**
 * @param {string} verb
 * @param {string} kind
 * @param {(value?: any) => void} close
 * @param {(form: HTMLFormElement) => Promise<any>} send
 * @param {any[]} fields
 */
function formOf(verb, kind, close, send, fields) {
  const words = el("p.note.bad", { role: "alert", hidden: true });
  const submit = el(`button.${kind}`, { type: "submit" }, verb);
  const form = el("form", {
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      submit.disabled = true;
      words.hidden = true;
      try {
        await send(form);
      } catch (error) {
        words.textContent = inWords(error);
        words.hidden = false;
      } finally {
        submit.disabled = false;
      }
    },
  }, fields, words, el("div.row.end", null, el("button", { type: "button", onclick: () => close() }, "Cancel"), submit));
  return form;
}
