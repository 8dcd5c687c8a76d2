// @ts-check
/** The pool: a model a row, its endpoints as tiles in priority order. */

import { api } from "../core/api.js";
import { el, fill, toast } from "../core/dom.js";
import { fault, loaded, mark, named, part, plain } from "../desk/desk.js";
import { state } from "../core/frame.js";

/** @typedef {{modelId: any, modelName: string, endpointId: any, url: string, priority: number, weight: number, state: string, cause: string | null, secondsLeft: number, failures: number, inFlight: number}} Endpoint */

const EVERY = 2000;
const CAUSES = /** @type {Record<string, string>} */ ({
  rate_limited: "its provider asked us to slow down",
  credentials: "its provider refused our credential",
  timed_out: "it did not answer in time",
  broken: "it failed several requests in a row",
});

/** The state in a word. @param {Endpoint} endpoint */
function inWords(endpoint) {
  const left = `${Math.max(1, Math.ceil(endpoint.secondsLeft))} s`;
  if (endpoint.cause === "credentials") return mark("bad", `refused credential ${left}`);
  if (endpoint.state === "cooling") return mark("warn", `cooling ${left}`);
  if (endpoint.state === "probing") return mark("warn", "probing");
  if (endpoint.state === "full") return mark("warn", "full");
  return mark("good", "serving");
}

/** @param {string | null} cause */
const why = (cause) => (cause === null ? null : CAUSES[cause] ?? plain(cause.replaceAll("_", " ")));

/**
 * Draw the pool, and keep it as it is now while the page is seen.
 * @param {HTMLElement} node
 * @param {(model: any, endpoint: any) => number | null} shareOf share of a model's requests that this page saw
 */
export async function pool(node, shareOf) {
  const trouble = el("div");
  const rows = el("div.models");
  fill(node, trouble, rows);
  const draw = (/** @type {Endpoint[]} */ endpoints) => {
    if (!endpoints.length) {
      fill(rows, state("No model yet", "Make one, and its endpoints are watched here.", el("a.button", { href: "/dashboard/models" }, "Make a model")));
      return;
    }
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.cooldown;
    fill(rows, byModel(endpoints).map((each) => row(each, shareOf, refresh)));
    if (focused) /** @type {HTMLElement | null} */ (rows.querySelector(`[data-cooldown="${CSS.escape(focused)}"]`))?.focus();
  };
  async function refresh() {
    try {
      draw(await api("/api/admin/ai/endpoints"));
      fill(trouble);
    } catch (error) {
      fill(trouble, fault(error));
    }
  }
  await loaded(rows, () => api("/api/admin/ai/endpoints"), draw);
  setInterval(() => {
    if (!document.hidden) refresh();
  }, EVERY);
  document.addEventListener("visibilitychange", () => !document.hidden && refresh());
}

/** @param {Endpoint[]} endpoints */
function byModel(endpoints) {
  /** @type {Map<any, Endpoint[]>} */
  const models = new Map();
  for (const each of endpoints) models.set(each.modelId, [...(models.get(each.modelId) ?? []), each]);
  return [...models.values()].map((each) => each.sort((one, other) => one.priority - other.priority));
}

/**
 * @param {Endpoint[]} endpoints
 * @param {(model: any, endpoint: any) => number | null} shareOf
 * @param {() => Promise<void>} refresh
 */
function row(endpoints, shareOf, refresh) {
  const running = endpoints.reduce((sum, each) => sum + each.inFlight, 0);
  return el("section.model", { "aria-label": plain(endpoints[0].modelName) },
    el("header", null, el("h2", null, named(endpoints[0].modelName)), el("span.small.muted.number", null, `${running} in flight`)),
    el("div.tiles", null, endpoints.map((each) => tile(each, shareOf(each.modelId, each.endpointId), refresh))));
}

/**
 * @param {Endpoint} endpoint
 * @param {number | null} share
 * @param {() => Promise<void>} refresh
 */
function tile(endpoint, share, refresh) {
  const reason = why(endpoint.cause);
  const held = endpoint.state === "cooling" || endpoint.state === "probing";
  return el("div.tile", { title: plain(endpoint.url, 300) },
    el("div.spread", null, el("strong", null, named(endpoint.endpointId)), inWords(endpoint)),
    el("div.small.muted.number", null, `${endpoint.inFlight} in flight`, share !== null && el("span", { title: "of this model's requests that ended in the last 5 minutes while this page was open" }, ` · share ${share} %`)),
    reason && el("div.small", null, `because ${reason}`),
    endpoint.failures > 0 && el("div.small.muted", null, `${endpoint.failures} failure${endpoint.failures === 1 ? "" : "s"} in a row`),
    held && el("button.small", {
      type: "button",
      dataset: { cooldown: `${endpoint.modelId}/${endpoint.endpointId}` },
      onclick: async () => {
        try {
          await api(`/api/admin/ai/endpoints/${part(endpoint.modelId)}/${part(endpoint.endpointId)}/cooldown`, { method: "DELETE" });
          toast(`${plain(endpoint.endpointId)} is asked again.`);
          await refresh();
        } catch (error) {
          toast(plain(/** @type {Error} */ (error).message, 300));
        }
      },
    }, "End cooldown"));
}
