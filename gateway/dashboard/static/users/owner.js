// @ts-check
/** The panel of a user, an organisation or a plan, with its links; a user's with its keys. */

import { api } from "../core/api.js";
import { el, fill, toast } from "../core/dom.js";
import { choice, fault, field, form, named, part, side, sure, tick, words } from "../desk/desk.js";
import { limitFields, limitWords } from "../desk/limits.js";
import { keysOf } from "./keys.js";

/** @typedef {{word: string, plural: string, title: string}} Kind */

/**
 * @param {Kind} kind
 * @param {any} owner null: a new one
 * @param {{place: string | null, tiers: string[], models: any[], changed: () => Promise<void>}} around
 */
export function ownerPanel(kind, owner, around) {
  return side(owner ? owner.name ?? owner.id : `New ${kind.word}`, (close) => {
    const ofFile = owner?.source === "file";
    const parts = ofFile
      ? [el("p.note", null, "Defined in ", el("code", null, around.place ?? "gateway.yaml"), "; it can only be changed there. Links and keys may be made here."), shown(kind, owner)]
      : [edited(kind, owner, around, close)];
    if (owner) parts.push(links(kind, owner, around));
    if (owner && kind.word === "user") parts.push(keysOf(owner.id));
    return parts;
  });
}

/** @param {Kind} kind @param {any} owner */
function shown(kind, owner) {
  const line = (/** @type {string} */ name, /** @type {any} */ value) => el("tr", null, el("th", { scope: "row" }, name), el("td", null, value));
  return el("table", null, el("tbody", null, line("Id", named(owner.id)), line("Name", named(owner.name ?? "none")),
    kind.word === "user" && [
      line("Tier", named(owner.tier)), line("Enabled", owner.enabled === false ? "no" : "yes"),
      line("Organisations", named(owner.organisations.join(", ") || "none")), line("Plans", named(owner.plans.join(", ") || "none")),
    ]));
}

/**
 * @param {Kind} kind
 * @param {any} owner
 * @param {{tiers: string[], changed: () => Promise<void>}} around
 * @param {() => void} close
 */
function edited(kind, owner, around, close) {
  const isUser = kind.word === "user";
  const id = el("input", { value: owner?.id ?? "", required: true, readonly: owner !== null, autocomplete: "off" });
  const name = el("input", { value: owner?.name ?? "", autocomplete: "off" });
  const tiers = [...new Set([...around.tiers, ...(owner?.tier ? [owner.tier] : [])])];
  const tier = el("input", { value: owner?.tier ?? "", list: "tiers", placeholder: "the lowest", autocomplete: "off" });
  const enabled = tick("enabled: their keys work", owner?.enabled ?? true);
  const organisations = el("input", { value: (owner?.organisations ?? []).join(", ") });
  const plans = el("input", { value: (owner?.plans ?? []).join(", ") });
  const send = async () => {
    /** @type {Record<string, any>} */
    const body = { name: name.value.trim() || null };
    if (isUser) {
      Object.assign(body, { enabled: enabled.box.checked, organisations: words(organisations.value), plans: words(plans.value) });
      if (tier.value.trim()) body.tier = tier.value.trim();
    }
    await api(`/api/admin/${kind.plural}/${part(id.value.trim())}`, { method: "PUT", body });
    close();
    toast("Saved. It holds for the next request.");
    await around.changed();
  };
  const remove = async () => {
    if (!sure(owner.name ?? owner.id)) return;
    try {
      await api(`/api/admin/${kind.plural}/${part(owner.id)}`, { method: "DELETE" });
      close();
      await around.changed();
    } catch (error) {
      toast(/** @type {Error} */ (error).message.slice(0, 300));
    }
  };
  return form([
    el("div.pair", null, field("Id", id), field("Name", name)),
    isUser && [
      el("datalist", { id: "tiers" }, tiers.map((each) => el("option", { value: each }))),
      el("div.pair", null, field("Tier", tier), enabled.node),
      el("div.pair", null, field("Organisations", organisations, "ids, by commas"), field("Plans", plans, "ids, by commas")),
    ],
  ].flat().filter(Boolean), owner ? "Save" : `Make the ${kind.word}`, send, [owner && el("button.danger", { type: "button", onclick: remove }, "Delete")].filter(Boolean));
}

/**
 * What it may use: each link with its limits.
 * @param {Kind} kind
 * @param {any} owner
 * @param {{models: any[], changed: () => Promise<void>}} around
 */
function links(kind, owner, around) {
  const list = el("div");
  const base = `/api/admin/${kind.plural}/${part(owner.id)}`;
  const nameOf = (/** @type {any} */ id) => around.models.find((each) => String(each.id) === String(id))?.name ?? id;
  const model = choice("", around.models.slice(0, 500).map((each) => String(each.id)), { "aria-label": "Model" });
  [...model.options].forEach((option) => (option.textContent = String(nameOf(option.value)).slice(0, 80)));
  model.selectedIndex = 0;
  const limits = limitFields(null, "Limits of this link");
  const draw = (/** @type {any[]} */ grants) => fill(list, grants.length === 0
    ? el("p.muted.small", null, "No link of its own.")
    : el("table", null, el("tbody", null, grants.map((each) => el("tr", null,
        el("td", null, named(nameOf(each.model))), el("td", null, limitWords(each.limits)),
        el("td.number", null, each.source === "file" ? el("span.muted", null, "in the file") : [
          el("button.quiet", { type: "button", "aria-label": `Limits of the link to ${String(nameOf(each.model)).slice(0, 80)}`, onclick: () => change(each) }, "Limits"),
          el("button.quiet.danger", { type: "button", "aria-label": `Unlink ${String(nameOf(each.model)).slice(0, 80)}`, onclick: () => drop(each) }, "Unlink"),
        ]))))));
  const reload = async () => {
    try {
      draw((await api(base)).grants);
    } catch (error) {
      fill(list, fault(error));
    }
  };
  const drop = async (/** @type {any} */ grant) => {
    try {
      await api(`${base}/ai/${part(grant.id)}`, { method: "DELETE" });
      await reload();
    } catch (error) {
      toast(/** @type {Error} */ (error).message.slice(0, 300));
    }
  };
  const change = (/** @type {any} */ grant) => side(`Link to ${nameOf(grant.model)}`, (close) => {
    const now = limitFields(grant.limits);
    return [form([now.node], "Save", async () => {
      await api(`${base}/ai/${part(grant.id)}`, { method: "PUT", body: { limits: now.value() } });
      close();
      await reload();
    })];
  });
  draw(owner.grants);
  return el("section", { "data-untracked": true }, el("h2", null, "Models"), list,
    around.models.length > 0 && form([field("Model", model), el("details", null, el("summary", null, "Limits of this link"), limits.node)], "Link", async () => {
      await api(`${base}/ai/new`, { method: "POST", body: { modelId: model.value, limits: limits.value() } });
      await reload();
    }));
}
