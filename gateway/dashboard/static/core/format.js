// @ts-check
/** Numbers, money and times as people read them. */

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12,400 @param {number} value */
export const exact = (value) => plain.format(value);

/** 12.4K; small numbers whole @param {number} value */
export const brief = (value) => (Math.abs(value) < 10_000 ? plain.format(value) : short.format(value));

/**
 * $18.42; of less than a cent, the first digits that say something.
 * @param {number} value
 * @param {string | null | undefined} currency
 */
export function money(value, currency) {
  const digits = value !== 0 && Math.abs(value) < 0.01 ? 6 : 2;
  const options = { minimumFractionDigits: 2, maximumFractionDigits: digits };
  if (currency && /^[A-Z]{3}$/.test(currency)) {
    return new Intl.NumberFormat("en", { style: "currency", currency, ...options }).format(value);
  }
  return new Intl.NumberFormat("en", options).format(value) + (currency ? ` ${currency}` : "");
}

const steps = /** @type {[Intl.RelativeTimeFormatUnit, number][]} */ ([
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
]);
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** "3 minutes ago" @param {string | number | Date} moment */
export function ago(moment) {
  const seconds = (new Date(moment).getTime() - Date.now()) / 1000;
  for (const [unit, size] of steps) {
    if (Math.abs(seconds) >= size || unit === "second") return relative.format(Math.trunc(seconds / size), unit);
  }
  return "now";
}

/** "2026-11-28 20:55 UTC" @param {string | number | Date} moment */
export const utc = (moment) => `${new Date(moment).toISOString().slice(0, 16).replace("T", " ")} UTC`;

/** "1 h 12 min" @param {number} seconds */
export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
