// @ts-check
/** Models: the list, and a panel for each. */

import { api } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { asked, loaded, named, plain, remember } from "../desk/desk.js";
import { page, state } from "../core/frame.js";
import { limitWords } from "../desk/limits.js";
import { modelPanel } from "../models/model.js";

const MOST = 300;

page(({ content, me }) => {
  const search = el("input", { type: "search", value: asked("q"), "data-search": true, "aria-label": "Search models", placeholder: "Search by name, id or tag" });
  const list = el("div");
  /** @type {any[]} */
  let models = [];
  /** @type {{file: string, lines: Record<string, number>}} */
  let file = { file: "gateway.yaml", lines: {} };
  const place = (/** @type {any} */ model) => (file.lines[model.id] ? `${file.file}:${file.lines[model.id]}` : file.file);
  const open = (/** @type {any} */ model) => modelPanel(model, model && place(model), me.currency, load);

  function draw() {
    remember({ q: search.value });
    const wanted = search.value.toLowerCase();
    const found = models.filter((each) => [each.name, each.id, ...each.tags, ...each.aliases].some((text) => String(text).toLowerCase().includes(wanted)));
    if (!models.length) return fill(list, state("No model yet", "A model has a name and one or more endpoints that serve it.", el("button.primary", { type: "button", onclick: () => open(null) }, "Make the first")));
    if (!found.length) return fill(list, el("p.muted", null, "No model is like “", named(search.value), "”."));
    fill(list, el("div.scrolls", null, el("table.list", null,
      el("thead.headed", null, el("tr", null, ["name", "endpoints", "for", "limits", "defined"].map((each) => el("th", { scope: "col" }, each)))),
      el("tbody", null, found.slice(0, MOST).map((each) => el("tr", null,
        el("td", null, el("button", { type: "button", onclick: () => open(each) }, named(each.name)), el("div.small.muted", null, named(each.id))),
        el("td", { title: plain(each.endpoints.map((/** @type {any} */ one) => one.id).join(", "), 300) }, each.endpoints.length),
        el("td", null, each.global ? "everyone" : "links"),
        el("td", null, limitWords(each.limits)),
        el("td", null, each.source === "file" ? el("code", { title: place(each) }, place(each).split("/").pop()) : "here")))))),
      found.length > MOST && el("p.muted", null, `${found.length - MOST} more; search for them.`));
  }
  const load = () => loaded(list, () => Promise.all([api("/api/admin/ai/models"), api("/api/admin/file/model")]), ([found, lines]) => {
    models = found;
    file = lines;
    draw();
  });
  search.addEventListener("input", draw);
  fill(content, el("div.spread.bar", null, search, el("button.primary", { type: "button", onclick: () => open(null) }, "New model")), list);
  load();
});
