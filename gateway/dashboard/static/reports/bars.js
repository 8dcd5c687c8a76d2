// @ts-check
/** Stacked bars by day, in SVG: read by pointing at them, by arrow keys, or as a table. */

import { el, fill, svg } from "../core/dom.js";
import { named, short } from "../core/names.js";

const HEIGHT = 200;
const BELOW = 22; // days' names
const LEFT = 56; // amounts
const TICKS = 10; // events

/** @typedef {import("./figures.js").Series} Series */
/** @typedef {{days: string[], series: Series[], measure: import("./asked.js").Measure, show: (value: number) => string, events?: Promise<Map<string, number>>}} Chart */

const dayName = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
const longDay = new Intl.DateTimeFormat("en", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

/** @param {Chart} chart */
export function bars(chart) {
  const { days, series, show, measure } = chart;
  /** @type {Map<string, number>} */
  let events = new Map(); // they may come later
  const value = (/** @type {Series} */ one, /** @type {string} */ day) => one.byDay.get(day)?.[measure] ?? 0;
  const sums = days.map((day) => series.reduce((sum, one) => sum + value(one, day), 0));
  const top = round(Math.max(...sums, measure === "cost" ? 0 : 2));
  const readout = el("p.readout.small", { "aria-hidden": "true" });
  const picture = el("div.bars", {
    tabindex: "0", role: "slider", "aria-label": `${measure} by day`, "aria-valuemin": "1", "aria-valuemax": String(days.length), "aria-orientation": "horizontal",
  });
  let here = days.length - 1;

  /** @param {number} place */
  function read(place) {
    here = Math.max(0, Math.min(days.length - 1, place));
    const day = days[here];
    const parts = series.filter((one) => value(one, day) > 0);
    const counted = events.get(day) ?? 0;
    const limited = counted ? `${counted} ${counted === 1 ? "endpoint" : "endpoints"} cooled` : "";
    const said = `${longDay.format(new Date(day))}: ${show(sums[here])}`;
    picture.setAttribute("aria-valuenow", String(here + 1));
    picture.setAttribute("aria-valuetext", [said, ...parts.map((one) => `${short(one.name)} ${show(value(one, day))}`)].join(", ") + (limited && `; ${limited}`));
    fill(readout, el("strong", null, said), parts.map((one) => el("span.part", null, dot(series.indexOf(one)), named(one.name), " ", show(value(one, day)))), limited && el("span.part", null, `▲ ${limited}`));
    picture.querySelector(".here")?.classList.remove("here");
    picture.querySelector(`[data-place="${here}"]`)?.classList.add("here");
  }

  function paint() {
    const wide = Math.max(picture.clientWidth, 240);
    const step = (wide - LEFT) / days.length;
    const tall = HEIGHT - BELOW - (events.size ? TICKS : 0);
    const y = (/** @type {number} */ amount) => tall - (amount / top) * (tall - 12);
    const columns = days.map((day, place) => {
      let sum = 0;
      const stack = series.map((one, color) => {
        const amount = value(one, day);
        if (amount <= 0) return null;
        const from = y(sum);
        sum += amount;
        return svg("rect", { class: `s${color}`, x: LEFT + place * step + step * 0.12, width: Math.max(step * 0.76, 0.5), y: y(sum), height: Math.max(from - y(sum), 0.5) });
      });
      const tick = events.get(day) ? svg("path", { class: "tick", d: `M${LEFT + (place + 0.5) * step - 4} ${tall + TICKS} l4 -7 l4 7z` }) : null;
      return svg("g", { "data-place": place }, svg("rect", { class: "back", x: LEFT + place * step, width: step, y: 0, height: tall }), ...stack, tick);
    });
    const lines = [0, 0.5, 1].map((part) => [
      svg("line", { class: "grid", x1: LEFT, x2: wide, y1: y(top * part), y2: y(top * part) }),
      svg("text", { x: LEFT - 8, y: y(top * part) + 4, "text-anchor": "end" }, show(top * part)),
    ]).flat();
    const every = Math.max(1, Math.ceil(days.length / Math.max(2, Math.floor((wide - LEFT) / 72))));
    const names = days.map((day, place) => place % every === 0 && LEFT + (place + 0.5) * step < wide - 20
      ? svg("text", { x: LEFT + (place + 0.5) * step, y: HEIGHT - 4, "text-anchor": "middle" }, dayName.format(new Date(day))) : null);
    fill(picture, svg("svg", { viewBox: `0 0 ${wide} ${HEIGHT}`, width: "100%", height: HEIGHT, "aria-hidden": "true" }, ...lines, ...columns, ...names));
    read(here);
  }

  picture.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    const place = /** @type {Element} */ (event.target).closest("[data-place]")?.getAttribute("data-place");
    if (place) read(Number(place));
  });
  picture.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const to = { ArrowRight: here + 1, ArrowUp: here + 1, ArrowLeft: here - 1, ArrowDown: here - 1, PageUp: here + 7, PageDown: here - 7, Home: 0, End: days.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    read(to);
  });
  chart.events?.then((found) => {
    events = found;
    if (events.size && picture.isConnected) paint();
  });
  new ResizeObserver(() => picture.isConnected && paint()).observe(picture);
  return el("figure.chart", null, picture, readout, legend(series), asTable(chart, value, sums));
}

/** A top that reads well, and so does its half: 1 or an even digit, and zeros. @param {number} most */
function round(most) {
  if (most <= 0) return 1;
  const zeros = 10 ** Math.floor(Math.log10(most));
  return (/** @type {number} */ ([1, 2, 4, 6, 8, 10].find((each) => each * zeros >= most)) ?? 10) * zeros;
}

/** @param {number} color */
export function dot(color) {
  return svg("svg", { class: "dot", width: 10, height: 10, viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: `s${color}`, width: 10, height: 10, rx: 2 }));
}

/** @param {Series[]} series */
function legend(series) {
  return el("figcaption.row.small.muted", null, series.map((one, color) => el("span.part", null, dot(color), named(one.name))));
}

/**
 * @param {Chart} chart
 * @param {(one: Series, day: string) => number} value
 * @param {number[]} sums
 */
function asTable({ days, series, show, measure }, value, sums) {
  const withCached = measure === "tokens";
  const cached = (/** @type {string} */ day) => series.reduce((sum, one) => sum + (one.byDay.get(day)?.cachedTokens ?? 0), 0);
  const room = el("div.scrolls", { tabindex: "0", role: "region", "aria-label": "Each day" });
  const draw = () => fill(room, el("table", null,
    el("thead", null, el("tr", null, el("th", { scope: "col" }, "Day (UTC)"), series.map((one) => el("th.number", { scope: "col" }, named(one.name))), el("th.number", { scope: "col" }, "All"), withCached && el("th.number", { scope: "col" }, "Of it cached"))),
    el("tbody", null, days.map((day, place) => el("tr", null, el("th", { scope: "row" }, day), series.map((one) => el("td.number", null, show(value(one, day)))), el("td.number", null, show(sums[place])), withCached && el("td.number", null, show(cached(day))))))));
  return el("details.small", { ontoggle: () => room.childElementCount || draw() }, el("summary.muted", null, "As a table"), room);
}
