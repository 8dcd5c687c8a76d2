// @ts-check
/** A user's keys: made and rotated with the key shown once, revoked by name. */

import { api, raw } from "../core/api.js";
import { ask, copyButton, el, fill, toast } from "../core/dom.js";
import { choice, field, form, loaded, named, part, plain, sure, tick } from "../desk/desk.js";
import { limitWords } from "../desk/limits.js";
import { utc } from "../core/format.js";
import { when } from "../core/times.js";

const SCOPES = ["ai:use", "usage:read", "ai:manage", "act:as"];
const GRACES = /** @type {[string, number][]} */ ([["at once", 0], ["in an hour", 3600], ["in a day", 86_400], ["in a week", 7 * 86_400], ["in 30 days", 30 * 86_400]]);
const MOST_PAGES = 20;

/** All keys of a user. @param {any} user */
async function found(user) {
  /** @type {any[]} */
  const keys = [];
  let after = "";
  for (let page = 0; page < MOST_PAGES; page++) {
    const response = await raw(`/api/admin/keys?limit=1000${after && `&after=${after}`}`);
    keys.push(...(await response.json()).filter((/** @type {any} */ each) => String(each.user) === String(user)));
    after = response.headers.get("x-next-after") ?? "";
    if (!after) break;
  }
  return keys;
}

/** The key itself, this once. @param {string} key @param {string} words */
export function onceShown(key, words) {
  return ask("Your new key", (close) => [
    el("p", null, words),
    el("code.secret", null, key),
    el("div.row.end", null, copyButton(() => key), el("button.primary", { type: "button", onclick: () => close() }, "I have it")),
  ]);
}

/** @param {any} user */
export function keysOf(user) {
  const list = el("div");
  const load = () => loaded(list, () => found(user), (keys) => keys.length === 0
    ? el("p.muted.small", null, "No key yet.")
    : el("table", null, el("tbody", null, keys.map((each) => row(each, load)))));
  const name = el("input", { autocomplete: "off" });
  const expires = el("input", { type: "date" });
  const scopes = SCOPES.map((scope) => ({ scope, ...tick(scope, scope === "ai:use") }));
  load();
  return el("section", { "data-untracked": true }, el("h2", null, "Keys"), list,
    el("details", null, el("summary", null, "New key"), form([
      el("div.pair", null, field("Name", name), field("Expires", expires, "empty: never")),
      el("div.row", null, scopes.map((each) => each.node)),
    ], "Make the key", async () => {
      const body = { user, name: name.value.trim() || null, expires: expires.value || null, scopes: scopes.filter((each) => each.box.checked).map((each) => each.scope) };
      const made = await api("/api/admin/keys", { method: "POST", body });
      await load();
      await onceShown(made.key, "Copy it now: it is shown this once, and stored nowhere.");
    })));
}

/** @param {any} key @param {() => Promise<void>} load */
function row(key, load) {
  const label = plain(key.name ?? key.id);
  return el("tr", null,
    el("td", null, named(key.name ?? key.id), el("div.small.muted", null, key.last4 ? `…${plain(key.last4)}` : named(key.id))),
    el("td", null, plain(key.scopes.join(", ")), el("div.small.muted", null, `limits ${limitWords(key.limits)}`)),
    el("td", null, key.enabled === false ? "revoked" : key.expires ? ["expires ", when(key.expires)] : "never expires"),
    el("td.number", null, key.source === "file" ? el("span.muted", null, "in the file") : [
      el("button.quiet", { type: "button", "aria-label": `Rotate ${label}`, onclick: () => rotate(key, load) }, "Rotate"),
      el("button.quiet.danger", { type: "button", "aria-label": `Revoke ${label}`, onclick: () => revoke(key, load) }, "Revoke"),
    ]));
}

/** @param {any} key @param {() => Promise<void>} load */
async function rotate(key, load) {
  const grace = choice("at once", GRACES.map(([words]) => words));
  const words = el("div");
  const made = await ask(`Rotate ${plain(key.name ?? key.id)}`, (close) => [
    form([field("The old key ends", grace), words], "Rotate", async () => {
      const seconds = GRACES.find(([each]) => each === grace.value)?.[1] ?? 0;
      close({ seconds, ...(await api(`/api/admin/keys/${part(key.id)}/rotate`, { method: "POST", body: { grace_seconds: seconds } })) });
    }, [el("button", { type: "button", onclick: () => close() }, "Cancel")]),
  ]);
  if (!made) return;
  await load();
  await onceShown(made.key, made.seconds ? `The old key holds until ${utc(Date.now() + made.seconds * 1000)}.` : "The old key no longer works.");
}

/** @param {any} key @param {() => Promise<void>} load */
async function revoke(key, load) {
  if (!sure(key.name ?? key.id, "Revoke")) return;
  try {
    await api(`/api/admin/keys/${part(key.id)}`, { method: "DELETE" });
    toast("Revoked, and the keys that it made.");
    await load();
  } catch (error) {
    toast(/** @type {Error} */ (error).message.slice(0, 300));
  }
}
