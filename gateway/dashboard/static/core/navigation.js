// @ts-check
/** From page to page: the column at the left, the bar below on narrow screens, keys that work everywhere. */

import { ask, el } from "./dom.js";

/** @typedef {{name: string, title: string, key: string, ai?: boolean, scope?: string}} Place */

/** @type {Place[]} */
export const PAGES = [
  { name: "ai-chat", title: "Chat", key: "c", ai: true },
  { name: "ai-studio", title: "Studio", key: "s", ai: true },
  { name: "usage", title: "Usage", key: "u", ai: true },
  { name: "keys", title: "Keys", key: "k", ai: true },
  { name: "models", title: "Models", key: "m", scope: "ai:manage" },
  { name: "users", title: "Users", key: "p", scope: "ai:manage" },
  { name: "fleet", title: "Fleet", key: "f", scope: "ai:manage" },
  { name: "soc", title: "SOC", key: "o", scope: "usage:read" },
];
const IN_BAR = 4; // on a narrow screen; the rest is behind "More"

/** The pages that this user may open. @param {import("./frame.js").Me} me */
export const pagesOf = (me) => PAGES.filter((each) => (each.scope ? me.scopes.includes(each.scope) : me.features.ai !== false));

/** @param {Place[]} mine @param {string} current */
export function navigation(mine, current) {
  const link = (/** @type {Place} */ each) =>
    el("a", { href: `/dashboard/${each.name}`, "aria-current": each.name === current ? "page" : null }, each.title);
  const first = mine.slice(0, IN_BAR);
  const rest = mine.slice(IN_BAR);
  const isBehind = rest.some((each) => each.name === current);
  const behind = el("div.behind", { id: "more-pages" }, rest.map(link));
  const more = el(`button.quiet.more${isBehind ? ".here" : ""}`, {
    type: "button", "aria-expanded": "false", "aria-controls": "more-pages", onclick: () => open(!behind.classList.contains("open")),
  }, "More");
  const open = (/** @type {boolean} */ now) => {
    behind.classList.toggle("open", now);
    more.setAttribute("aria-expanded", String(now));
    if (now) behind.querySelector("a")?.focus();
  };
  const nav = el("nav.pages", { "aria-label": "Pages" },
    el("div.mark", { "aria-hidden": "true" }, "ecli"), first.map(link),
    rest.length > 0 && [first.some((each) => !each.scope) && el("hr", null), behind, more].filter(Boolean));
  nav.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !behind.classList.contains("open")) return;
    open(false);
    more.focus();
  });
  document.addEventListener("click", (event) => !nav.contains(/** @type {Node} */ (event.target)) && open(false));
  nav.addEventListener("focusout", (/** @type {FocusEvent} */ event) => event.relatedTarget && !nav.contains(/** @type {Node} */ (event.relatedTarget)) && open(false));
  return nav;
}

/** `g` and a letter go to a page, `/` to the search or the message, `?` lists them. @param {Place[]} mine */
export function pageKeys(mine) {
  let going = false;
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
    if (going) {
      const wanted = mine.find((each) => each.key === event.key);
      going = false;
      if (wanted) location.href = `/dashboard/${wanted.name}`;
    } else if (event.key === "g") {
      going = true;
      setTimeout(() => (going = false), 1500);
    } else if (event.key === "/") {
      const field = /** @type {HTMLElement | null} */ (document.querySelector("[data-search]"));
      if (field) event.preventDefault();
      field?.focus();
    } else if (event.key === "?") listKeys(mine);
  });
}

/** @param {Place[]} mine */
function listKeys(mine) {
  const row = (/** @type {string} */ key, /** @type {string} */ words) => el("tr", null, el("td", null, el("kbd", null, key)), el("td", null, words));
  ask("Keys", (close) => [
    el("table", null, el("tbody", null, row("/", "search, or the message"), mine.map((each) => row(`g ${each.key}`, each.title)))),
    el("div.row.end", null, el("button", { type: "button", onclick: () => close() }, "Close")),
  ]);
}
