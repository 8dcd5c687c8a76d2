// @ts-check
/** Single requests, newest first, each a receipt. */

import { api } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { brief, exact, money } from "../core/format.js";
import { load } from "../core/loading.js";
import { named } from "../core/names.js";
import { receiptContents } from "../core/receipt.js";
import { when } from "../core/times.js";

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
  const details = el("details.receipt", { ontoggle: () => inside.childElementCount || fill(inside, ...receiptContents(one)) },
    el("summary", null,
      when(one.time, "when"),
      el("span.what", null, named(one.name ?? one.model)),
      el("span.number.tokens", { title: exact(one.tokens.total) }, `${brief(one.tokens.total)} tokens`),
      el("span.number.cost", null, money(one.cost, one.currency)),
      el(`span.how.${one.status < 400 ? "muted" : "bad"}`, null, outcome(one))),
    inside);
  return details;
}

/** @param {any} one */
const outcome = (one) => `${OUTCOMES[one.outcome] ?? one.outcome.replaceAll("_", " ")} (${one.status})`;
