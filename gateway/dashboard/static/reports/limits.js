// @ts-check
/** One bar a limit: how much of it is used, and when it begins anew. The fullest first. */

import { el } from "../core/dom.js";
import { brief, money, utc } from "../core/format.js";
import { named, short } from "../core/names.js";
import { when } from "../core/times.js";

const SHOWN = 5;

/** When a period ends, by the calendar in UTC. @param {string} period @param {Date} now */
export function resetOf(period, now) {
  const [year, month, day, hour, minute] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate(), now.getUTCHours(), now.getUTCMinutes()];
  switch (period) {
    case "minute": return new Date(Date.UTC(year, month, day, hour, minute + 1));
    case "hour": return new Date(Date.UTC(year, month, day, hour + 1));
    case "day": return new Date(Date.UTC(year, month, day + 1));
    default: return new Date(Date.UTC(year, month + 1, 1));
  }
}

/**
 * Every total of every model that is limited.
 * @param {any[]} models of /api/ai/my-models
 * @param {string | null} currency
 */
export function limitBars(models, currency) {
  const rows = models.flatMap((one) => ["requests", "tokens", "cost"].filter((each) => one.limits?.[each]).map((each) => ({
    model: one.model.name, of: each, used: one.used[each], limit: one.limits[each], period: one.limits.period ?? "month", shared: one.source === "organisation",
  }))).sort((one, other) => other.used / other.limit - one.used / one.limit);
  if (rows.length === 0) return null;
  const list = el("div.limits", null, rows.slice(0, SHOWN).map((row) => bar(row, currency)));
  if (rows.length <= SHOWN) return el("section", { "aria-label": "Limits" }, list);
  const more = el("button.quiet.small", { type: "button", onclick: () => { list.append(...rows.slice(SHOWN, 200).map((row) => bar(row, currency))); more.remove(); } }, `${rows.length - SHOWN} more limits`);
  return el("section", { "aria-label": "Limits" }, list, more);
}

/** @param {any} row @param {string | null} currency */
function bar({ model, of, used, limit, period, shared }, currency) {
  const part = Math.min(used / limit, 1);
  const level = part >= 1 ? "bad" : part >= 0.8 ? "warn" : "fine";
  const show = (/** @type {number} */ value) => (of === "cost" ? money(value, currency) : brief(value));
  const unit = of === "cost" ? "" : ` ${of}`;
  const reset = resetOf(period, new Date());
  const filled = el(`div.filled.${level}`);
  filled.style.width = `${part * 100}%`;
  const percent = `${Math.floor((used / limit) * 100)} %`;
  return el("div.limit", null,
    el("div.meter", { role: "meter", "aria-label": `${of} of ${short(model)}`, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(part * 100)), "aria-valuetext": `${percent}: ${show(used)} of ${show(limit)}${unit}` }, filled),
    el("div.small", null,
      el("strong", { class: level === "fine" ? null : level }, part >= 1 ? "Used up: " : "", percent),
      ` of ${show(limit)}${unit} of `, named(model), shared ? ", all of your organisation together" : "",
      el("span.muted", null, ", resets ", when(reset), ` (${utc(reset)})`)));
}
