// @ts-check
/** What anybody used: everybody, an organisation or a user; who the most, and who was held up by rate limits. */

import { api, part } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { brief, exact, money } from "../core/format.js";
import { page } from "../core/frame.js";
import { load } from "../core/loading.js";
import { named, short } from "../core/names.js";
import { when } from "../core/times.js";
import { ask, asked } from "../reports/asked.js";
import { receipts } from "../reports/receipts.js";
import { daysQuery, report, requestsOf } from "../reports/report.js";

const GROUPS = ["model", "endpoint", "key", "organisation"];
const TOP = 10;

/** @typedef {import("../reports/asked.js").Asked} Asked */

page(async ({ content, me }) => {
  const whose = el("div", null);
  const whole = el("div", null);
  const tops = el("div", null);
  const requests = el("section", { "aria-label": "Requests" });
  const events = el("section", { "aria-label": "Rate limits" });
  fill(content, whose, whole, tops, requests, events);
  const mayManage = me.scopes.includes("ai:manage");
  /** @type {(found: any[]) => void} */
  let tell = () => {};
  /** @type {Promise<any[]>} asked for once, and drawn wherever they belong as soon as they are there */
  const cooldowns = new Promise((resolve) => (tell = resolve));

  async function draw() {
    const wanted = asked(GROUPS);
    fill(whose, subject(wanted));
    if (wanted.user === null) fill(requests);
    const most = wanted.user === null ? load(tops, () => mostOf(wanted), (found) => fill(tops, topTables(found, wanted))) : fill(tops);
    const drawn = report(whole, wanted, {
      path: pathOf(wanted), groups: GROUPS, currency: me.currency, events: cooldowns.then((found) => byDay(found, wanted)),
      empty: ["Nothing used", "In these days nothing was asked. Choose more days, or somebody else."],
      onOnly: (series) => {
        const filters = wanted.user === null ? null : requestsOf(series, wanted.by);
        if (filters === null) fill(requests);
        else receipts(requests, { ...daysQuery(wanted), ...filters, user: String(wanted.user) });
      },
    });
    await Promise.all([drawn, most]);
  }

  /** One after the other, beside the report: one caller gets few at a time. @param {Asked} wanted */
  async function mostOf(wanted) {
    /** @type {[string, any[]][]} */
    const found = [];
    for (const group of wanted.org === null ? ["user", "organisation", "key"] : ["user", "key"]) {
      const query = new URLSearchParams({ ...daysQuery(wanted), group, order: wanted.measure, limit: String(TOP) });
      found.push([group, (await api(`${pathOf(wanted)}?${query}`)).rows]);
    }
    return found;
  }

  /** @param {[string, any[]][]} found @param {Asked} wanted */
  function topTables(found, wanted) {
    return el("div.tops", null, found.filter(([, rows]) => rows.length > 0).map(([group, rows]) => el("section", { "aria-label": `Top ${group}s` },
      el("h2", null, `Most by ${group}`),
      el("div.scrolls", { tabindex: "0", role: "group", "aria-label": `Most by ${group}` }, el("table.report", null,
        el("thead", null, el("tr", null, el("th", { scope: "col" }, group), ["Requests", "Tokens", "Cached", "Cost"].map((head) => el("th.number", { scope: "col" }, head)))),
        el("tbody", null, rows.map((row) => el("tr", null,
          el("th", { scope: "row" }, row[group] === null ? el("span.muted", null, `no ${group}`) : whoseButton(group, row[group], mayManage)),
          count(row.requests), count(row.tokens), count(row.cachedTokens ?? 0), el("td.number", { title: String(row.cost) }, money(row.cost, me.currency))))))))));
  }

  addEventListener("popstate", draw);
  const known = mayManage && load(events, () => api("/api/admin/ai/cooldowns"), (found) => {
    tell(found);
    fill(events, el("h2", null, "Rate limits of upstreams"), eventTable(found));
  });
  await Promise.all([known, draw()]);
});

/** @param {number} value */
const count = (value) => el("td.number", { title: exact(value) }, brief(value));

/** @param {Asked} wanted */
function pathOf(wanted) {
  if (wanted.user !== null) return `/api/soc/usage/user/${encodeURIComponent(wanted.user)}`;
  return wanted.org === null ? "/api/soc/usage" : `/api/soc/usage/org/${encodeURIComponent(wanted.org)}`;
}

/** Whose usage it is, and a form for somebody else's. @param {Asked} wanted */
function subject(wanted) {
  const kind = el("select", { name: "kind", onchange: () => (field.hidden = kind.value === "") },
    [["", "Everybody"], ["user", "User"], ["org", "Organisation"]].map(([value, title]) =>
      el("option", { value, selected: value === (wanted.user !== null ? "user" : wanted.org !== null ? "org" : "") }, title)));
  const id = el("input", { name: "id", value: (wanted.user ?? wanted.org ?? "").slice(0, 1000), "data-search": true, autocomplete: "off", spellcheck: "false" });
  const field = el("label", { hidden: wanted.user === null && wanted.org === null }, "Id", id);
  return el("form.whose", {
    role: "search",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const given = id.value.trim();
      ask({ user: kind.value === "user" && given ? given : null, org: kind.value === "org" && given ? given : null, only: null });
    },
  }, el("label", null, "Whose", kind), field, el("button", { type: "submit" }, "Show"));
}

/** @type {Map<string, Promise<string | null>>} names that were looked up, by kind and id */
const looked = new Map();

/** The name of a user or an organisation; null where none is written down. @param {string} kind @param {string | number} id */
function nameOf(kind, id) {
  const key = `${kind} ${id}`;
  const known = looked.get(key) ?? api(`/api/admin/${kind}s/${part(id)}`).then((one) => one.name ?? null, () => null);
  looked.set(key, known);
  return known;
}

/** Ids at once; names beside them once they are known. @param {string} group @param {string | number} id @param {boolean} mayManage */
function whoseButton(group, id, mayManage) {
  if (group === "key") return named(id);
  const shown = el("span", null, named(id));
  if (mayManage) nameOf(group, id).then((name) => name !== null && fill(shown, named(name), " ", el("span.muted", null, named(id))));
  return el("button.name", { type: "button", onclick: () => ask({ user: group === "user" ? String(id) : null, org: group === "user" ? null : String(id), only: null }) }, shown);
}

/** How many endpoints began to cool on each day. @param {any[]} cooldowns @param {Asked} wanted */
function byDay(cooldowns, wanted) {
  /** @type {Map<string, number>} */
  const found = new Map();
  for (const { timestamp } of cooldowns) {
    const day = String(timestamp).slice(0, 10);
    if (day >= wanted.from && day <= wanted.to) found.set(day, (found.get(day) ?? 0) + 1);
  }
  return found;
}

/** @param {any[]} found */
function eventTable(found) {
  if (found.length === 0) return el("p.muted", null, "No upstream has asked us to wait.");
  return el("div.scrolls", { tabindex: "0", role: "region", "aria-label": "Newest cooldowns" }, el("table", null,
    el("thead", null, el("tr", null, ["When", "Model", "Endpoint", "Waited"].map((title) => el("th", { scope: "col" }, title)))),
    el("tbody", null, found.slice(0, 100).map((one) => el("tr", null,
      el("td", null, when(one.timestamp)),
      el("td", null, named(one.modelName)), el("td", null, el("code", null, short(one.endpoint, 80))),
      el("td", null, `${Math.round(one.waitMs / 1000)} s`))))));
}
