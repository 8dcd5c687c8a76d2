// @ts-check
/** What a report's address asks for: days, group, measure, whose; back and forward work. */

import { el } from "../core/dom.js";

/** @typedef {"cost" | "tokens" | "requests"} Measure */
/** @typedef {{from: string, to: string, days: number | null, by: string, measure: Measure, only: string | null, user: string | null, org: string | null}} Asked */

const DAY_MS = 86_400_000;
const MEASURES = /** @type {Measure[]} */ (["cost", "tokens", "requests"]);
const RANGES = [7, 30, 90];

/** @param {number} ms */
const dayOf = (ms) => new Date(ms).toISOString().slice(0, 10);

/**
 * Read the address; what is odd in it counts as not there.
 * @param {string[]} groups the first is the usual one
 * @returns {Asked}
 */
export function asked(groups) {
  const query = new URLSearchParams(location.search);
  const isDay = (/** @type {string | null} */ text) => /^\d{4}-\d{2}-\d{2}$/.test(text ?? "") && !Number.isNaN(Date.parse(String(text)));
  const [from, to] = [query.get("from"), query.get("to")];
  const custom = isDay(from) && isDay(to) && String(from) <= String(to);
  const days = RANGES.find((each) => String(each) === query.get("days")) ?? 30;
  return {
    days: custom ? null : days,
    from: custom ? String(from) : dayOf(Date.now() - (days - 1) * DAY_MS),
    to: custom ? String(to) : dayOf(Date.now()),
    by: groups.find((each) => each === query.get("by")) ?? groups[0],
    measure: MEASURES.find((each) => each === query.get("measure")) ?? "cost",
    only: query.get("only"),
    user: query.get("user"),
    org: query.get("org"),
  };
}

/**
 * Change the address; what is null leaves it.
 * @param {Record<string, string | number | null>} changes
 */
export function ask(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  history.pushState(null, "", location.pathname + (text ? `?${text}` : ""));
  dispatchEvent(new PopStateEvent("popstate"));
}

/** Every day from the first to the last. @param {Asked} wanted */
export function daysOf(wanted) {
  const first = Date.parse(wanted.from);
  const count = Math.min(Math.round((Date.parse(wanted.to) - first) / DAY_MS) + 1, 1100);
  return Array.from({ length: count }, (_, place) => dayOf(first + place * DAY_MS));
}

/**
 * Buttons for the range, two days for one's own.
 * @param {Asked} wanted
 */
export function rangePicker(wanted) {
  const day = (/** @type {string} */ name, /** @type {string} */ value) => el("input", { type: "date", name, value, required: true, "aria-label": name === "from" ? "First day" : "Last day" });
  const custom = el("form.row.dates", {
    hidden: wanted.days !== null,
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const [from, to] = [String(new FormData(custom).get("from")), String(new FormData(custom).get("to"))].sort();
      ask({ from, to, days: null });
    },
  }, day("from", wanted.from), "to", day("to", wanted.to), el("button", { type: "submit" }, "Show"));
  const choose = (/** @type {number} */ days) => el("button", {
    type: "button", "aria-pressed": String(wanted.days === days), onclick: () => ask({ days, from: null, to: null }),
  }, `${days} d`);
  const own = el("button", {
    type: "button", "aria-pressed": String(wanted.days === null), "aria-expanded": String(wanted.days === null),
    onclick: () => {
      custom.hidden = !custom.hidden;
      own.setAttribute("aria-expanded", String(!custom.hidden));
      if (!custom.hidden) custom.querySelector("input").focus();
    },
  }, "Custom");
  return el("div.row.range", { role: "group", "aria-label": "Days" }, custom, el("div.chosen", null, RANGES.map(choose), own));
}

/**
 * Buttons of which one is chosen.
 * @param {string} title
 * @param {string} name of the field in the address
 * @param {string[]} values
 * @param {string} chosen
 * @param {Record<string, string | null>} [also] changes with it
 */
export function chooser(title, name, values, chosen, also = {}) {
  return el("div.chosen", { role: "group", "aria-label": title }, values.map((value) =>
    el("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => ask({ [name]: value, ...also }) }, value)));
}
