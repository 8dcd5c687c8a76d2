// @ts-check
/** The models that this user may use, and what is left of their limits. */

import { api } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { duration, exact, money } from "../core/format.js";
import { short } from "../core/names.js";

/** @typedef {{model: {id: number | string, name: string, tags: string[], operations?: string[] | null}, limits: Record<string, any> | null, used: Record<string, number>, source: string}} MyModel */

/** Those that chat. @returns {Promise<MyModel[]>} */
export async function chatModels() {
  const all = /** @type {MyModel[]} */ (await api("/api/ai/my-models"));
  return all.filter(({ model }) => !model.operations || model.operations.includes("chat"));
}

/**
 * A field to choose one in; its value is a model's name.
 * @param {MyModel[]} models
 * @param {string | null} chosen
 * @param {string} label
 */
export function modelPicker(models, chosen, label) {
  const picker = el("select.picker", { "aria-label": label });
  offer(picker, models, chosen);
  return picker;
}

/** @param {HTMLSelectElement} picker @param {MyModel[]} models @param {string | null} chosen */
export function offer(picker, models, chosen) {
  fill(picker, models.map(({ model }) => el("option", { value: model.name }, short(model.name))));
  picker.value = models.some(({ model }) => model.name === chosen) ? String(chosen) : (models[0]?.model.name ?? "");
}

const UNITS = /** @type {const} */ (["requests", "tokens", "cost"]);
const PERIODS = /** @type {Record<string, string>} */ ({ minute: "for this minute", hour: "for this hour", day: "for today", month: "for this month" });

/**
 * The limit of a model that is used up, in words with its reset; null where none is.
 * @param {MyModel | undefined} mine
 * @param {string | null} currency
 */
export function usedUp(mine, currency) {
  const { limits, used } = mine ?? {};
  const unit = UNITS.find((each) => limits?.[each] !== undefined && (used?.[each] ?? 0) >= limits[each]);
  if (!limits || !unit) return null;
  const reset = resetOf(limits.period, new Date());
  const amount = unit === "cost" ? money(limits.cost, currency) : `${exact(limits[unit])} ${limits[unit] === 1 ? unit.slice(0, -1) : unit}`;
  const left = duration((reset.getTime() - Date.now()) / 1000);
  const day = reset.getTime() - Date.now() > 86_400_000 ? `${reset.toISOString().slice(0, 10)} ` : "";
  return `You have used your ${amount} ${PERIODS[limits.period] ?? ""}; more at ${day}${reset.toISOString().slice(11, 16)} UTC (in ${left}).`;
}

/** When a calendar period that runs now ends, in UTC. @param {string} period @param {Date} now */
export function resetOf(period, now) {
  const [year, month, day, hour, minute] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate(), now.getUTCHours(), now.getUTCMinutes()];
  switch (period) {
    case "minute": return new Date(Date.UTC(year, month, day, hour, minute + 1));
    case "hour": return new Date(Date.UTC(year, month, day, hour + 1));
    case "day": return new Date(Date.UTC(year, month, day + 1));
    default: return new Date(Date.UTC(year, month + 1, 1));
  }
}
