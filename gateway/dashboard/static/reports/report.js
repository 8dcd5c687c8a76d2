// @ts-check
/** A report: totals, bars by day, a table with its CSV. What both usage pages draw. */

import { api } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { brief, exact, money } from "../core/format.js";
import { state } from "../core/frame.js";
import { load } from "../core/loading.js";
import { named } from "../core/names.js";
import { ask, chooser, daysOf, rangePicker } from "./asked.js";
import { bars } from "./bars.js";
import { drawn, seriesOf, total } from "./figures.js";

const MOST_ROWS = 10_000;

/** @typedef {import("./asked.js").Asked} Asked */
/** @typedef {import("./figures.js").Series} Series */
/** @typedef {{path: string, groups: string[], currency: string | null, events?: Promise<Map<string, number>>, empty: [string, string], onOnly?: (series: Series | null) => void}} Source */

/** A query's days. @param {Asked} wanted */
export const daysQuery = (wanted) => ({ from: wanted.from, to: wanted.to });

/**
 * Load and draw a report.
 * @param {HTMLElement} part
 * @param {Asked} wanted
 * @param {Source} source
 */
export function report(part, wanted, source) {
  const query = new URLSearchParams({ ...daysQuery(wanted), group: `day,${wanted.by}`, limit: String(MOST_ROWS) });
  return load(part, () => api(`${source.path}?${query}`), (answer) => draw(part, wanted, source, answer));
}

/**
 * @param {HTMLElement} part
 * @param {Asked} wanted
 * @param {Source} source
 * @param {any} answer
 */
function draw(part, wanted, source, answer) {
  const { measure, by, only } = wanted;
  const all = seriesOf(answer.rows, by, measure);
  const chosen = only === null ? all : all.filter((one) => one.id === only);
  const sum = only === null ? answer.totals : total(chosen);
  const show = (/** @type {number} */ value) => (measure === "cost" ? money(value, source.currency) : brief(value));
  const anything = answer.totals.requests > 0;
  const csv = `${source.path}/export.csv?${new URLSearchParams(daysQuery(wanted))}`;
  fill(part,
    figures(sum, wanted, source.currency),
    only !== null && el("p.row", null, el("span.muted", null, `Only ${by} `), named(chosen[0]?.name ?? only), el("button", { type: "button", onclick: () => ask({ only: null }) }, "Show all")),
    el("div.report-head", null,
      chooser("By", "by", source.groups, by, { only: null }),
      chooser("What", "measure", ["cost", "tokens", "requests"], measure),
      el("div.end", null, rangePicker(wanted))),
    anything ? bars({ days: daysOf(wanted), series: drawn(chosen), measure, show, events: source.events }) : state(...source.empty),
    answer.hasMore === true && el("p.note.warn", null, `There is more than fits: the ${exact(MOST_ROWS)} first rows are drawn. Choose fewer days.`),
    anything && table(only === null ? all : chosen, wanted, source.currency),
    anything && el("div.row.end", null, el("a", { href: csv, download: true }, "CSV of every request")));
  source.onOnly?.(only === null ? null : (chosen[0] ?? null));
}

/** @param {any} sum @param {Asked} wanted @param {string | null} currency */
function figures(sum, wanted, currency) {
  const figure = (/** @type {string} */ shown, /** @type {string} */ whole, /** @type {string} */ words) =>
    el("div", null, el("div.big", { title: whole }, shown), el("div.muted", null, words));
  const span = wanted.days === null ? `${wanted.from} to ${wanted.to}` : `in ${wanted.days} days`;
  return el("section.figures", { "aria-label": "Totals" },
    figure(money(sum.cost, currency), String(sum.cost), span),
    figure(brief(sum.tokens), exact(sum.tokens), "tokens"),
    figure(brief(sum.requests), exact(sum.requests), "requests"));
}

/** @param {Series[]} all @param {Asked} wanted @param {string | null} currency */
function table(all, wanted, currency) {
  const count = (/** @type {number} */ value) => el("td.number", { title: exact(value) }, brief(value));
  const heads = ["Requests", "Prompt", "Cached", "Completion", "Tokens", "Cost"];
  return el("div.scrolls", { tabindex: "0", role: "region", "aria-label": `By ${wanted.by}` }, el("table.report", null,
    el("thead", null, el("tr", null, el("th", { scope: "col" }, wanted.by), heads.map((head) => el("th.number", { scope: "col" }, head)))),
    el("tbody", null, all.slice(0, 200).map((one) => el("tr", null,
      el("th", { scope: "row" }, el("button.name", { type: "button", onclick: () => ask({ only: one.id }) }, named(one.name))),
      count(one.total.requests), count(one.total.promptTokens), count(one.total.cachedTokens), count(one.total.completionTokens), count(one.total.tokens),
      el("td.number", { title: String(one.total.cost) }, money(one.total.cost, currency)))))),
    all.length > 200 && el("p.muted.small", null, `And ${all.length - 200} more, in the CSV.`));
}

/**
 * The filters of requests that a series stands for; null: they cannot be told apart so.
 * @param {Series | null} series
 * @param {string} by
 * @returns {Record<string, string> | null}
 */
export function requestsOf(series, by) {
  if (series === null) return {};
  if (by === "model") return { model: String(series.link.model) };
  if (by === "key") return { key: String(series.link.key) };
  return null;
}
