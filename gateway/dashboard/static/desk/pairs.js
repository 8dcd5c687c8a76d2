// @ts-check
/** Names with values that are never shown again: headers, a query's fields. */

import { el } from "../core/dom.js";
import { plain } from "./desk.js";

const SET = "set"; // what the gateway says of a value that it has, and takes as "as it is"

/**
 * Rows of a name and a value; one more can be added, each taken away.
 * @param {string} title
 * @param {Record<string, string>} known each value is "set"
 * @returns {{node: HTMLElement, value: () => Record<string, string>}}
 */
export function pairs(title, known) {
  /** @type {{name: () => string, value: () => string}[]} */
  const rows = [];
  const list = el("div");
  /** @param {string | null} kept its name, where there is one already */
  function add(kept) {
    const name = el("input", { value: kept ?? "", readonly: kept !== null, "aria-label": `${title}: name`, placeholder: "name", autocomplete: "off" });
    const value = el("input", { type: "password", "aria-label": `${title}: value of ${kept === null ? "the new one" : plain(kept)}`, placeholder: kept === null ? "value" : "set; type to replace", autocomplete: "new-password" });
    const row = { name: () => name.value.trim(), value: () => value.value || (kept === null ? "" : SET) };
    const node = el("div.pair-row", null, name, value, el("button.quiet", { type: "button", "aria-label": `Take ${kept === null ? "the new one" : plain(kept)} away`, onclick: () => {
      rows.splice(rows.indexOf(row), 1);
      node.remove();
      more.focus();
    } }, "✕"));
    rows.push(row);
    list.append(node);
    if (kept === null) name.focus();
  }
  const more = el("button.small", { type: "button", onclick: () => add(null) }, "Add one");
  Object.keys(known).forEach(add);
  return {
    node: el("fieldset", null, el("legend", null, title), list,
      Object.keys(known).length > 0 && el("p.small.muted", null, "Where one changes, all values and the credential must be typed again."),
      el("div.row", null, more)),
    value: () => Object.fromEntries(rows.filter((row) => row.name()).map((row) => [row.name(), row.value()])),
  };
}
