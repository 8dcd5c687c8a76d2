// @ts-check
/** What stands under an answer: tokens, cost, time to the first word; the whole receipt behind it. */

import { api, ApiError } from "../core/api.js";
import { ask, el, fill } from "../core/dom.js";
import { brief, exact, money } from "../core/format.js";
import { receiptContents } from "../core/receipt.js";

/** @typedef {{tokens?: {prompt: number, completion: number, total: number} | null, firstWord?: number | null, cost?: number | null, requestId?: string | null}} Counted */

const TRIES = 4;
const PAUSE = 400; // milliseconds: a receipt is there within a second of the end

let isKept = true; // whether this gateway keeps receipts

/**
 * The receipt of a request that has just ended; null where there is none.
 * @param {string} requestId
 * @returns {Promise<any>}
 */
export async function receiptOf(requestId) {
  for (let left = TRIES; isKept && left > 0; left--) {
    try {
      return await api(`/api/ai/usage/requests/${encodeURIComponent(requestId)}`);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) return null;
      if (error.code === "not_found") isKept = false;
    }
    if (isKept && left > 1) await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  return null;
}

/** A receipt's whole cost. @param {any} receipt @returns {number | null} */
export function costIn(receipt) {
  const cost = receipt?.cost;
  const total = typeof cost === "object" && cost !== null ? cost.total : cost;
  return total === null || total === undefined || !Number.isFinite(Number(total)) ? null : Number(total);
}

/**
 * One quiet line.
 * @param {Counted} counted
 * @param {string | null} currency
 */
export function receiptLine({ tokens, firstWord, cost, requestId }, currency) {
  const words = [
    tokens && `${brief(tokens.total)} tokens`,
    cost !== null && cost !== undefined && (currency ? money(cost, currency) : `cost ${money(cost, null)}`),
    typeof firstWord === "number" && `first word ${(firstWord / 1000).toFixed(2)} s`,
  ].filter(Boolean);
  if (!words.length) return null;
  const title = tokens ? `${exact(tokens.prompt)} in, ${exact(tokens.completion)} out` : null;
  if (!requestId) return el("span.counted.number", { title }, words.join(" · "));
  return el("button.quiet.counted.number", { type: "button", title, "aria-label": `Receipt: ${words.join(", ")}`, onclick: () => show(requestId) }, words.join(" · "));
}

/** @param {string} requestId */
async function show(requestId) {
  const body = el("div", { "aria-live": "polite" }, el("p.muted", null, "Looking it up …"));
  receiptOf(requestId).then((receipt) => {
    fill(body, receipt ? receiptContents(receipt) : el("p.muted", null, "This gateway has no receipt of it (any more)."));
  });
  await ask("Receipt", (close) => [
    body,
    el("div.row.end", null, el("button", { type: "button", onclick: () => close() }, "Close")),
  ]);
}
