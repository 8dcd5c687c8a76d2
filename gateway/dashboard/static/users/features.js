// @ts-check
/** Feature switches: what is set here holds over gateway.yaml. */

import { api } from "../core/api.js";
import { el, fill, toast } from "../core/dom.js";
import { fault, field, form, loaded, plain, tick } from "../desk/desk.js";

/** @param {HTMLElement} node @param {string[]} names */
export function features(node, names) {
  const name = el("input", { required: true, autocomplete: "off" });
  const list = el("div");
  const shown = [...new Set(["ai", ...names])];
  const load = () => loaded(list, () => Promise.all(shown.map((each) => api(`/api/admin/features/${encodeURIComponent(each)}`))), (found) => found.map(row));
  fill(node, el("p.muted", null, "While ", el("code", null, "ai"), " is off, models answer nobody and the users' pages are hidden; these stay."), list,
    form([field("Another feature", name)], "Show", async () => {
      if (!shown.includes(name.value.trim())) shown.push(name.value.trim());
      name.value = "";
      await load();
    }));
  load();
}

/** @param {{name: string, enabled: boolean}} feature */
function row(feature) {
  const { box, node } = tick(plain(feature.name), feature.enabled);
  const words = el("div");
  box.addEventListener("change", async () => {
    box.disabled = true;
    try {
      await api(`/api/admin/features/${encodeURIComponent(feature.name)}`, { method: "PUT", body: { enabled: box.checked } });
      toast(`${plain(feature.name)} is ${box.checked ? "on" : "off"}, on every worker.`);
      fill(words);
    } catch (error) {
      box.checked = !box.checked;
      fill(words, fault(error));
    }
    box.disabled = false;
    box.focus();
  });
  return el("div", null, node, words);
}
