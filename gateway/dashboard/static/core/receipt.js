// @ts-check
/** What one request was: where it went, its parts with their cost, its attempts. */

import { copyButton, el } from "./dom.js";
import { exact, money, utc } from "./format.js";
import { named, short } from "./names.js";

/** @param {any} one @returns {any[]} */
export function receiptContents(one) {
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
