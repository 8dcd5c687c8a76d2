// @ts-check
/** The list of conversations: by day, newest first. */

import { ask, el, fill } from "../core/dom.js";
import { ago, utc } from "../core/format.js";
import { visible } from "../answers/text.js";

/** @typedef {import("./store.js").Summary} Summary */

const DAY = 86_400_000;

/** @param {number} then @param {number} now */
function group(then, now) {
  const today = new Date(now).setHours(0, 0, 0, 0);
  if (then >= today) return "Today";
  if (then >= today - DAY) return "Yesterday";
  if (then >= today - 7 * DAY) return "Last week";
  return "Older";
}

/**
 * @param {HTMLElement} list
 * @param {Summary[]} all newest first
 * @param {string | null} current
 * @param {(id: string) => void} onOpen
 */
export function drawHistory(list, all, current, onOpen) {
  const now = Date.now();
  /** @type {Map<string, Summary[]>} */
  const groups = new Map();
  for (const each of all) {
    const name = group(each.updated, now);
    groups.set(name, [...(groups.get(name) ?? []), each]);
  }
  if (!all.length) return fill(list, el("p.small.muted", null, "What you ask is kept here, in this browser alone."));
  fill(list, [...groups].map(([name, conversations]) => el("section", null,
    el("h2", null, name),
    el("ul", null, conversations.map((each) => el("li", null, el("a", {
      href: `?c=${each.id}`,
      dir: "auto",
      title: `${ago(each.updated)}, ${utc(each.updated)}`,
      "aria-current": each.id === current ? "true" : null,
      onclick: (/** @type {MouseEvent} */ event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        onOpen(each.id);
      },
    }, visible(each.title))))))));
}

/**
 * Ask before something is gone.
 * @param {string} what
 * @returns {Promise<boolean>}
 */
export async function surely(what) {
  return Boolean(await ask(what, (close) => [
    el("p", null, "It is kept in this browser alone, so it cannot be brought back."),
    el("div.row.end", null,
      el("button", { type: "button", onclick: () => close(false) }, "Keep"),
      el("button.danger", { type: "button", onclick: () => close(true) }, "Delete")),
  ]));
}

/** @param {string} title @returns {Promise<string | null>} */
export async function newTitle(title) {
  return (await ask("Rename", (close) => {
    const field = el("input", { value: title, "aria-label": "Name", maxlength: 200 });
    return el("form", { method: "dialog", onsubmit: () => close(field.value.trim() || null) }, field,
      el("div.row.end", null, el("button", { type: "button", onclick: () => close(null) }, "Cancel"), el("button.primary", { type: "submit" }, "Rename")));
  })) ?? null;
}

/** Hand a file to the reader. @param {string} name @param {any} content */
export function download(name, content) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
