// @ts-check
/** The audit: who changed what, before and after. */

import { api } from "../core/api.js";
import { el } from "../core/dom.js";
import { loaded, named, plain } from "../desk/desk.js";
import { when } from "../core/times.js";

/** @param {HTMLElement} node */
export function audit(node) {
  return loaded(node, () => api("/api/admin/audit?limit=100"), (entries) =>
    entries.length === 0
      ? el("p.muted", null, "Nothing has been changed yet by these pages or by the admin routes.")
      : el("div.scrolls", { tabindex: "0", role: "region", "aria-label": "Audit" }, el("table", null,
          el("thead.headed", null, el("tr", null, ["when", "who", "what", "before → after"].map((each) => el("th", { scope: "col" }, each)))),
          el("tbody", null, entries.map(row)))));
}

/** @param {any} entry */
function row(entry) {
  return el("tr", null,
    el("td", null, when(entry.time)),
    el("td", null, named(entry.user), el("div.small.muted", null, "key ", named(entry.key))),
    el("td", null, `${entry.action} ${entry.kind} `, named(entry.id)),
    el("td", null, el("ul.plain.small", null, changes(entry.before, entry.after))));
}

/**
 * Each field that is another than before.
 * @param {Record<string, any> | null} before
 * @param {Record<string, any> | null} after
 */
function changes(before, after) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const text = (/** @type {any} */ value) => (value === undefined ? "nothing" : plain(JSON.stringify(value), 160));
  const found = names.filter((name) => JSON.stringify(before?.[name]) !== JSON.stringify(after?.[name]) && name !== "source");
  if (!found.length) return [el("li.muted", null, "as it was")];
  return found.slice(0, 12).map((name) => el("li", null, el("strong", null, plain(name)), " ",
    before && el("span.muted", null, text(before[name])), before && " → ", after ? el("bdi", null, text(after[name])) : "gone"));
}
