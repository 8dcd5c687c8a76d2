// @ts-check
/** One's own keys: make, rename, rotate, revoke; how to use one. */

import { api } from "../core/api.js";
import { el, fill, toast } from "../core/dom.js";
import { when } from "../core/times.js";
import { page, state } from "../core/frame.js";
import { load } from "../core/loading.js";
import { named, short } from "../core/names.js";
import { rename, revoke, rotate } from "../keys/change_key.js";
import { newKey } from "../keys/new_key.js";
import { snippets } from "../keys/snippets.js";
import { called, isOver, limitsInWords } from "../keys/words.js";

/** @typedef {import("../keys/words.js").Key} Key */

page(async ({ content, me }) => {
  const list = el("div", { id: "keys" });
  const use = el("section", { "aria-label": "Use a key" });
  const make = el("button.primary", { type: "button", onclick: async () => (await newKey({ scopes: me.scopes, models })) && refresh() }, "New key");
  /** @type {import("../keys/new_key.js").Model[]} */
  let models = [];
  fill(content, el("div.spread", null, el("p.muted.flat", null, "A key is you, for a program: keep each where one program reads it, and give each a name."), make), list, use);

  const refresh = () => load(list, () => api("/api/ai/keys"), (keys) => {
    fill(list, keys.length ? table(keys) : state("No key yet", "Make one for each program that shall use models in your name."));
  });

  /** @param {() => Promise<boolean>} change @param {string} said */
  async function changing(change, said) {
    if (!(await change())) return;
    toast(said);
    await refresh();
    make.focus();
  }

  /** @param {Key[]} keys */
  function table(keys) {
    const titles = ["Name", "Key", "May", "Models", "Limits", "Last used", "Ends", ""];
    return el("table.cards", null,
      el("thead", null, el("tr", null, titles.map((title) => el("th", { scope: "col" }, title || el("span.visually-hidden", null, "Change"))))),
      el("tbody", null, keys.map(row)));
  }

  /** @param {Key} key */
  function row(key) {
    const cell = (/** @type {string} */ title, /** @type {any} */ ...shown) => el("td", { dataset: { title } }, ...shown);
    return el("tr", null,
      el("th", { scope: "row" }, named(key.name || key.id)),
      cell("Key", key.last4 ? el("code", null, `…${short(key.last4)}`) : el("span.muted", null, "not told")),
      cell("May", key.scopes.join(", ")),
      cell("Models", key.models ? key.models.slice(0, 8).map((model, place) => [place > 0 && ", ", named(nameOf(model))]).flat() : el("span.muted", null, "all of yours"), key.models && key.models.length > 8 && ` and ${key.models.length - 8} more`),
      cell("Limits", limitsInWords(key.limits, me.currency) || el("span.muted", null, "none of its own"), key.ips.length > 0 && el("div.muted", null, `from ${short(key.ips.join(", "))}`)),
      cell("Last used", key.lastUsed ? when(key.lastUsed) : el("span.muted", null, "never")),
      cell("Ends", end(key)),
      el("td.actions", null, key.source === "file" ? el("span.muted", null, "set by your operator") : actions(key)));
  }

  /** @param {Key} key */
  function end(key) {
    if (!key.expires) return el("span.muted", null, "never");
    return isOver(key) ? el("span.bad", null, "ended ", when(key.expires)) : when(key.expires);
  }

  /** @param {Key} key */
  function actions(key) {
    const name = called(key);
    const button = (/** @type {string} */ verb, /** @type {string} */ kind, /** @type {() => void} */ onclick) =>
      el(`button.quiet.small${kind}`, { type: "button", "aria-label": `${verb} ${name}`, onclick }, verb);
    return [
      button("Rename", "", () => changing(() => rename(key), "Renamed.")),
      button("Rotate", "", () => changing(() => rotate(key, models), "Rotated.")),
      button("Revoke", ".danger", () => changing(() => revoke(key), "Revoked.")),
    ];
  }

  /** @param {number | string} model */
  const nameOf = (model) => models.find((each) => String(each.id) === String(model))?.name ?? model;

  const asked = api("/api/ai/my-models").then((mine) => (models = mine.map((/** @type {any} */ each) => each.model)), () => {});
  await Promise.race([asked, new Promise((resolve) => setTimeout(resolve, 300))]);
  await refresh();
  await asked;
  fill(use, el("h2", null, "Use a key"), snippets({ key: "YOUR_KEY", model: models[0]?.name ?? null }));
});
