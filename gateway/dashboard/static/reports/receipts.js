// @ts-check
/** Single requests, newest first, each a receipt. */

import { api } from "../core/api.js";
import { copyButton, el, fill } from "../core/dom.js";
import { ago, brief, exact, money, utc } from "../core/format.js";
import { load } from "../core/loading.js";
import { named, short } from "../core/names.js";

const PAGE = 20;
const OUTCOMES = /** @type {Record<string, string>} */ ({
  ok: "answered", cancelled: "left before the end", upstream_error: "upstream failed", interrupted: "the gateway was stopped",
});

/**
 * Draw a list of receipts, a page at a time.
 * @param {HTMLElement} part
 * @param {Record<string, string>} query of /api/ai/usage/requests
 */
export function receipts(part, query) {
  const path = (/** @type {string | null} */ after) => `/api/ai/usage/requests?${new URLSearchParams({ ...query, limit: String(PAGE), ...(after ? { after } : {}) })}`;
  return load(part, () => api(path(null)), (first) => {
    const list = el("div", null);
    const more = el("button", { type: "button" }, "Older ones");
    const words = el("p.note.bad", { role: "alert", hidden: true });
    let last = first.lastId;
    /** @param {any} page */
    function show(page) {
      list.append(...page.data.map(receipt));
      last = page.lastId;
      more.hidden = !page.hasMore;
    }
    more.addEventListener("click", async () => {
      more.disabled = true;
      try {
        show(await api(path(last)));
        words.hidden = true;
      } catch (error) {
        words.textContent = String(/** @type {any} */ (error)?.message ?? error);
        words.hidden = false;
      } finally {
        more.disabled = false;
      }
    });
    show(first);
    fill(part, el("h2", null, "Requests"), first.data.length ? [list, words, el("div.row.older", null, more)] : el("p.muted", null, "None in these days."));
  });
}

/** @param {any} one */
export function receipt(one) {
  const inside = el("div.inside", null);
  const details = el("details.receipt", { ontoggle: () => inside.childElementCount || fill(inside, ...contents(one)) },
    el("summary", null,
      el("time.when", { datetime: one.time, title: utc(one.time) }, ago(one.time)),
      el("span.what", null, named(one.name ?? one.model)),
      el("span.number.tokens", { title: exact(one.tokens.total) }, `${brief(one.tokens.total)} tokens`),
      el("span.number.cost", null, money(one.cost, one.currency)),
      el(`span.how.${one.status < 400 ? "muted" : "bad"}`, null, outcome(one))),
    inside);
  return details;
}

/** @param {any} one */
const outcome = (one) => `${OUTCOMES[one.outcome] ?? one.outcome.replaceAll("_", " ")} (${one.status})`;

/** @param {any} one @returns {any[]} */
function contents(one) {
  const lines = (/** @type {[string, any][]} */ rows) => el("table", null, el("tbody", null, rows.filter(([, shown]) => shown !== null && shown !== undefined).map(([title, shown]) =>
    el("tr", null, el("th", { scope: "row" }, title), el("td.number", null, shown)))));
  const seconds = (/** @type {number | null} */ ms) => (ms === null ? null : `${(ms / 1000).toFixed(2)} s`);
  const kinds = Object.keys({ ...one.tokens.kinds, ...one.parts });
  return [
    lines([
      ["Request", el("span", null, el("code", null, one.id), copyButton(() => one.id))],
      ["At", utc(one.time)], ["Route", short(one.route)], ["Key", named(one.key)], ["Endpoint", one.endpoint === null ? "none reached" : named(one.endpoint)],
      ["First word after", seconds(one.firstByteMs)], ["All after", seconds(one.durationMs)],
    ]),
    el("table", null,
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "Part"), el("th.number", { scope: "col" }, "Count"), el("th.number", { scope: "col" }, "Cost"))),
      el("tbody", null,
        kinds.map((kind) => el("tr", null, el("th", { scope: "row" }, short(kind.replaceAll("_", " "))), el("td.number", null, one.tokens.kinds[kind] === undefined ? "" : exact(one.tokens.kinds[kind])), el("td.number", null, one.parts[kind] === undefined ? "" : money(one.parts[kind], one.currency)))),
        el("tr", null, el("th", { scope: "row" }, "All"), el("td.number", null, exact(one.tokens.total)), el("td.number", null, money(one.cost, one.currency))))),
    el("table", null,
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "Attempt"), el("th", { scope: "col" }, "Came to"), el("th.number", { scope: "col" }, "Took"))),
      el("tbody", null, one.attempts.map((/** @type {any} */ attempt) => el("tr", null,
        el("td", null, named(attempt.endpoint ?? "none")), el("td", null, attempt.reason ? `${short(String(attempt.reason).replaceAll("_", " "))}${attempt.status ? ` (${attempt.status})` : ""}` : "its answer"), el("td.number", null, seconds(attempt.ms)))))),
  ];
}
