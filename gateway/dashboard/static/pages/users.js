// @ts-check
/** Users, organisations, plans and features: a list with search, and a panel for each. */

import { api, ApiError, raw } from "../core/api.js";
import { el, fill, toast } from "../core/dom.js";
import { asked, loaded, mark, named, part, plain, remember } from "../desk/desk.js";
import { page, state } from "../core/frame.js";
import { features } from "../users/features.js";
import { ownerPanel } from "../users/owner.js";

const MOST = 300;
const KINDS = [
  { word: "user", plural: "users", title: "Users" },
  { word: "organisation", plural: "organisations", title: "Organisations" },
  { word: "plan", plural: "plans", title: "Plans" },
];
const FEATURES = "features";

page(({ content, me }) => {
  const tabs = el("div.tabs", { role: "group", "aria-label": "What is listed" });
  const room = el("div");
  const go = () => {
    const of = [...KINDS.map((each) => each.plural), FEATURES].find((each) => each === asked("of")) ?? "users";
    [...tabs.children].forEach((/** @type {any} */ each) => each.setAttribute("aria-pressed", String(each.dataset.of === of)));
    const kind = KINDS.find((each) => each.plural === of);
    if (kind) listed(room, kind);
    else features(room, Object.keys(me.features));
  };
  const tab = (/** @type {string} */ of, /** @type {string} */ title) => el("button", { type: "button", dataset: { of }, onclick: () => { remember({ of, q: "" }, true); go(); } }, title);
  fill(tabs, KINDS.map((each) => tab(each.plural, each.title)), tab(FEATURES, "Features"));
  fill(content, tabs, room);
  addEventListener("popstate", go);
  go();
});

/**
 * @param {HTMLElement} room
 * @param {{word: string, plural: string, title: string}} kind
 */
function listed(room, kind) {
  const search = el("input", { type: "search", value: asked("q"), "data-search": true, "aria-label": `Search ${kind.plural}`, placeholder: "Search by name; Enter opens an id" });
  const list = el("div");
  /** @type {any[]} */
  let owners = [];
  /** @type {any[]} */
  let models = [];
  /** @type {{file: string, lines: Record<string, number>}} */
  let file = { file: "gateway.yaml", lines: {} };
  let after = "";
  const place = (/** @type {any} */ owner) => (file.lines[owner.id] ? `${file.file}:${file.lines[owner.id]}` : file.file);
  const tiers = () => [...new Set(owners.map((each) => each.tier).filter(Boolean))];
  const open = (/** @type {any} */ owner) => ownerPanel(kind, owner, { place: owner && place(owner), tiers: tiers(), models, changed: load });
  const isUser = kind.word === "user";

  function draw() {
    if (!search.isConnected) return; // another tab was chosen meanwhile
    remember({ q: search.value });
    const wanted = search.value.trim().toLowerCase();
    const found = owners.filter((each) => [each.name, each.id, each.tier].some((text) => String(text ?? "").toLowerCase().includes(wanted)));
    if (!owners.length) return fill(list, state(`No ${kind.word} yet`, isUser ? "Whoever has a key is a user; make a record to give a tier, plans or models." : `Make one, and link models to it for all of its users.`,
      el("button.primary", { type: "button", onclick: () => open(null) }, "Make the first")));
    fill(list,
      found.length === 0 ? el("p.muted", null, "None of those listed is like “", named(search.value), "”. Enter opens it as an id.") : table(found),
      found.length > MOST && el("p.muted", null, `${found.length - MOST} more; search for them.`),
      after && el("button", { type: "button", onclick: more }, "List more"));
  }
  const table = (/** @type {any[]} */ found) => el("div.scrolls", null, el("table.list", null,
    el("thead.headed", null, el("tr", null, ["name", ...(isUser ? ["tier", "organisations, plans"] : []), "models", "defined"].map((each) => el("th", { scope: "col" }, each)))),
    el("tbody", null, found.slice(0, MOST).map((each) => el("tr", null,
      el("td", null, el("button", { type: "button", onclick: () => open(each) }, named(each.name ?? each.id)), el("div.small.muted", null, named(each.id))),
      isUser && el("td", null, named(each.tier), each.enabled === false && el("div", null, mark("bad", "switched off"))),
      isUser && el("td", null, named([...each.organisations, ...each.plans].join(", "))),
      el("td", null, each.grants.length),
      el("td", null, each.source === "file" ? el("code", { title: place(each) }, place(each).split("/").pop()) : "here"))))));
  async function fetched() {
    const response = await raw(`/api/admin/${kind.plural}?limit=1000${after && `&after=${after}`}`);
    after = response.headers.get("x-next-after") ?? "";
    return response.json();
  }
  async function more() {
    try {
      owners = [...owners, ...(await fetched())];
      draw();
    } catch (error) {
      toast(/** @type {Error} */ (error).message.slice(0, 300));
    }
  }
  const load = () => {
    after = "";
    return loaded(list, () => Promise.all([fetched(), api(`/api/admin/file/${kind.word}`), api("/api/admin/ai/models")]), ([found, lines, all]) => {
      [owners, file, models] = [found, lines, all];
      draw();
    });
  };
  search.addEventListener("input", draw);
  search.addEventListener("keydown", async (/** @type {KeyboardEvent} */ event) => {
    const id = search.value.trim();
    if (event.key !== "Enter" || !id) return;
    try {
      open(await api(`/api/admin/${kind.plural}/${part(id)}`));
    } catch (error) {
      toast(error instanceof ApiError && error.status === 404 ? `There is no ${kind.word} with the id ${plain(id)}.` : plain(/** @type {Error} */ (error).message, 300));
    }
  });
  fill(room, el("div.spread.bar", null, search, el("button.primary", { type: "button", onclick: () => open(null) }, `New ${kind.word}`)), list);
  load();
}
