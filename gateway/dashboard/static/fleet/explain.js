// @ts-check
/** Explain: who would get which model, and why. A sentence first, what it comes from beneath. */

import { api } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { asked, choice, field, form, mark, named, plain, remember } from "../desk/desk.js";
import { exact, utc } from "../core/format.js";

/** @param {HTMLElement} node */
export function explain(node) {
  const kind = choice(asked("by") === "key" ? "key" : "user", ["user", "key"], { "aria-label": "By" });
  const who = el("input", { value: asked("who"), required: true, autocomplete: "off" });
  const model = el("input", { value: asked("for"), autocomplete: "off" });
  const answer = el("div.answer", { "aria-live": "polite" });
  const send = async () => {
    remember({ who: who.value, for: model.value, by: kind.value === "key" ? "key" : "" });
    const query = new URLSearchParams({ [kind.value]: who.value.trim() });
    if (model.value.trim()) query.set("model", model.value.trim());
    fill(answer, ...shown(await api(`/api/admin/explain?${query}`)));
  };
  fill(node, form([
    el("div.filters", null, field("By", kind), field("Who (id)", who), field("Model", model, "empty: the assigned one")),
  ], "Explain", send), answer);
}

/** @param {any} found */
function shown(found) {
  return [
    el("p.sentence", null, ...sentence(found)),
    el("h3", null, "Sources, in order"),
    el("ol.plain", null, found.sources.map((/** @type {any} */ each) =>
      el("li", null, mark(each.wins ? "good" : "quiet", each.wins ? "grants" : each.granted ? "would grant" : "no"), " ",
        el("strong", null, each.source), " ", named(each.name ?? each.id ?? ""), el("span.muted", null, `: ${plain(each.why, 300)}`)))),
    found.limits.length > 0 && el("h3", null, "Limits"),
    found.limits.length > 0 && el("ul.plain", null, found.limits.map((/** @type {any} */ each) =>
      el("li.number", null, `${plain(each.counts)}: ${each.limit} ${each.used === null ? "cannot be told now" : exact(each.used)} of ${exact(each.most)} (${each.window})`,
        each.resetsAt && el("span.muted", null, `, resets ${utc(each.resetsAt)}`)))),
    found.pools.map((/** @type {any} */ pool) => [
      el("h3", null, pool.fallback ? "Fallback " : "Pool of ", named(pool.model)),
      el("ol.plain", null, pool.endpoints.map((/** @type {any} */ each) =>
        el("li", null, named(each.endpointId), el("span.muted", null, ` ${each.state}${each.secondsLeft > 0 ? ` for ${Math.ceil(each.secondsLeft)} s more` : ""}, ${each.inFlight} in flight`)))),
    ]).flat(),
  ].filter(Boolean);
}

/** "User 42 would get gpt-4o through organisation Example Org, from openai-b: openai-a cools for 12 s." @param {any} found */
function sentence(found) {
  const who = [found.key ? "Key " : "User ", named(found.key ? found.key.id : found.user.name ?? found.user.id)];
  const { verdict } = found;
  if (!verdict.served) return [...who, " would get no answer: ", named(verdict.why), verdict.code && el("code", null, ` ${verdict.code}`)];
  const source = found.sources.find((/** @type {any} */ each) => each.wins);
  const by = source?.source === "user" ? [" by a link of its own"] : source && source.source !== "global" ? [` through ${source.source} `, named(source.name ?? source.id)] : [", which is open to everyone"];
  const pool = found.pools.find((/** @type {any} */ each) => !each.fallback);
  const first = pool?.order[0];
  const blocked = (pool?.endpoints ?? []).filter((/** @type {any} */ each) => each.state === "cooling");
  const from = first === undefined ? [] : [", from ", named(first)];
  const but = blocked.length === 0 ? [] : [": ", ...blocked.flatMap((/** @type {any} */ each, /** @type {number} */ index) => [index ? ", " : "", named(each.endpointId), ` cools for ${Math.ceil(each.secondsLeft)} s`])];
  return [...who, " would get ", named(verdict.model), ...by, ...from, ...but, "."];
}
