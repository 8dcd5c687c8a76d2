// @ts-check
/** Requests as they run: one stream a tab, none in a hidden one. */

import { api, ApiError, events, raw } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { asked, choice, fault, field, mark, named, plain, remember } from "../desk/desk.js";
import { brief, utc } from "../core/format.js";

/** @typedef {{id: string, outcome: string, began: number, milliseconds: number, firstByteMs: number | null, user: any, key: any, model: string | null, modelId: any, queued: boolean, asked: string | null, endpoint: any, route: string, streamed: boolean, attempts: number, status: number, code: string | null, promptTokens: number | null, completionTokens: number | null}} Seen */

const MOST = 200;
const MOST_QUEUES = 8;
const SHARE_SECONDS = 300;
const AGAIN_MS = 2000;
const TONES = /** @type {Record<string, "good" | "warn" | "bad" | "quiet">} */ ({
  running: "quiet", ok: "good", cancelled: "quiet", refused: "warn", upstream_error: "bad", interrupted: "bad",
});
const OUTCOMES = ["", "running", "ok", "cancelled", "refused", "upstream_error", "interrupted"];

/** What this page has seen end, for the share of each endpoint. */
export class Shares {
  constructor() {
    /** @type {{at: number, model: string, endpoint: string}[]} */
    this.seen = [];
  }

  /** @param {Seen} request */
  add(request) {
    if (request.outcome === "running" || request.endpoint === null) return;
    this.seen.push({ at: Date.now() / 1000, model: String(request.modelId), endpoint: String(request.endpoint) });
    if (this.seen.length > 20_000) this.seen.splice(0, 5000);
  }

  /**
   * Percent of a model's requests; null where none were seen.
   * @param {any} model
   * @param {any} endpoint
   */
  of(model, endpoint) {
    const since = Date.now() / 1000 - SHARE_SECONDS;
    const all = this.seen.filter((each) => each.at >= since && each.model === String(model));
    if (!all.length) return null;
    return Math.round((100 * all.filter((each) => each.endpoint === String(endpoint)).length) / all.length);
  }
}

/**
 * Draw the requests, and follow them while the page is seen.
 * @param {HTMLElement} node
 * @param {Shares} shares
 */
export function live(node, shares) {
  /** @type {Map<string, Seen>} */
  const known = new Map();
  let paused = false;
  let drawing = 0;
  let lost = 0;
  /** @type {AbortController | null} */
  let stream = null;
  const model = el("input", { type: "search", value: asked("model"), "data-search": true });
  const user = el("input", { type: "search", value: asked("user") });
  const outcome = choice(asked("outcome"), OUTCOMES);
  outcome.options[0].textContent = "any";
  const how = el("span.small.muted", { role: "status" }, "connecting …");
  const queues = el("p.small", { hidden: true });
  const body = el("tbody");
  const empty = el("p.muted", null, "Nothing has come yet. A request shows here the moment it begins.");
  const table = el("div.scrolls", { tabindex: "0", role: "region", "aria-label": "Requests" },
    el("table", null,
      el("thead.headed", null, el("tr", null, ["model", "user", "endpoint", "outcome"].map((each) => el("th", { scope: "col" }, each)),
        ["tokens", "time", "began (UTC)"].map((each) => el("th.number", { scope: "col" }, each)))),
      body), empty);
  fill(node,
    el("div.filters", null, field("Model", model), field("User", user), field("Outcome", outcome)),
    how, queues, table);

  const matches = (/** @type {Seen} */ each) =>
    (!model.value || [each.model, each.asked, each.modelId].some((name) => String(name ?? "").toLowerCase().includes(model.value.toLowerCase())))
    && (!user.value || String(each.user ?? "") === user.value.trim())
    && (!outcome.value || each.outcome === outcome.value);

  function draw() {
    drawing = 0;
    if (paused) return;
    const waiting = inQueues(known.values());
    queues.hidden = !waiting.length;
    fill(queues, waiting.length && "Waiting for an endpoint: ", waiting);
    const shown = [...known.values()].filter(matches).reverse().slice(0, MOST);
    fill(body, shown.map(row));
    empty.hidden = shown.length > 0;
    empty.textContent = known.size ? "Nothing of what was seen is like this." : "Nothing has come yet. A request shows here the moment it begins.";
  }
  const soon = () => {
    drawing ||= window.setTimeout(draw, 200);
  };
  const say = (/** @type {string} */ text) => {
    how.textContent = lost ? `${text} · ${brief(lost)} not shown: they came too fast` : text;
  };
  const pause = (/** @type {boolean} */ on) => {
    paused = on;
    say(on ? "paused while you look" : "as they run");
    if (!on) soon();
  };
  table.addEventListener("pointerenter", (/** @type {PointerEvent} */ event) => event.pointerType === "mouse" && pause(true));
  table.addEventListener("pointerleave", () => pause(false));
  table.addEventListener("focus", () => pause(true));
  table.addEventListener("blur", () => pause(false));
  for (const each of [model, user, outcome]) {
    each.addEventListener("input", () => {
      remember({ model: model.value, user: user.value, outcome: outcome.value });
      soon();
    });
  }

  /** @param {any} event */
  function take(event) {
    if (event.type === "request") {
      known.delete(event.id);
      known.set(event.id, event);
      shares.add(event);
      for (const id of known.keys()) {
        if (known.size <= 5 * MOST) break;
        known.delete(id);
      }
      soon();
    } else if (event.type === "lost") {
      lost += event.requests;
      if (!paused) say("as they run");
    } else if (event.type === "partial") {
      say(event.partial ? "as they run, of this worker alone: the others cannot be heard" : "as they run");
    } else if (event.type === "begun") {
      known.forEach((each, id) => each.outcome === "running" && known.delete(id)); // what still runs is told anew
      say("as they run");
    }
  }

  async function follow() {
    stream = new AbortController();
    const { signal } = stream;
    try {
      for await (const data of events(await raw("/api/admin/ai/requests", { signal }))) take(JSON.parse(data));
      if (signal.aborted) return;
      await api("/api/ai/me"); // the stream ended: is it the session?
      say("the gateway ended the stream; connecting again …");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && [401, 403].includes(error.status)) {
        fill(how, fault(error));
        return;
      }
      say("not connected; trying again …");
    }
    setTimeout(() => !document.hidden && stream?.signal === signal && follow(), AGAIN_MS);
  }
  const shown = () => {
    stream?.abort();
    stream = null;
    if (document.hidden) say("stopped while hidden");
    else follow();
  };
  document.addEventListener("visibilitychange", shown);
  window.addEventListener("pagehide", () => stream?.abort());
  shown();
}

/**
 * How many requests wait for an endpoint of each model, the longest queues first; nothing where none waits.
 * @param {Iterable<Seen>} seen
 */
function inQueues(seen) {
  /** @type {Map<string, number>} */
  const queues = new Map();
  for (const each of seen) {
    if (each.outcome === "running" && each.queued) queues.set(each.model ?? "", (queues.get(each.model ?? "") ?? 0) + 1);
  }
  const longest = [...queues].sort((one, other) => other[1] - one[1]).slice(0, MOST_QUEUES);
  return [...longest.map(([model, count], at) => [at ? ", " : null, named(model), ` ${brief(count)}`]), queues.size > MOST_QUEUES && ", …"].flat().filter(Boolean);
}

/** @param {number} milliseconds */
const took = (milliseconds) => (milliseconds < 1000 ? `${Math.max(1, Math.round(milliseconds))} ms` : `${(milliseconds / 1000).toFixed(1)} s`);

/** @param {Seen} each */
function row(each) {
  const tokens = each.promptTokens === null ? "" : `${brief(each.promptTokens)} + ${brief(each.completionTokens ?? 0)}`;
  const word = each.outcome === "running" && each.queued ? "waiting" : each.outcome.replaceAll("_", " ");
  const detail = each.code && each.outcome !== "ok" ? ` ${each.status}` : "";
  return el("tr", { title: plain(`Request ${each.id}, ${each.route}, key ${each.key ?? "none"}`, 300) },
    el("td", null, each.model === null ? el("span.muted", null, named(each.asked ?? "assigned")) : named(each.model)),
    el("td", null, named(each.user ?? "")),
    el("td", null, named(each.endpoint ?? ""), each.attempts > 1 && el("span.muted", null, ` try ${each.attempts}`)),
    el("td", null, mark(TONES[each.outcome] ?? "quiet", word + detail), each.code && each.outcome !== "ok" && el("div.small.muted", null, plain(each.code))),
    el("td.number", null, tokens),
    el("td.number", null, each.outcome === "running" ? "…" : took(each.milliseconds)),
    el("td.number", { title: utc(each.began * 1000) }, new Date(each.began * 1000).toISOString().slice(11, 19)));
}
