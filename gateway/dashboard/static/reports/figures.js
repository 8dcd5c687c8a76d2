// @ts-check
/** A report's rows as series by day: what charts and tables draw. */

/** @typedef {{requests: number, tokens: number, promptTokens: number, cachedTokens: number, completionTokens: number, cost: number}} Amounts */
/** @typedef {{id: string, name: string, link: any, total: Amounts, byDay: Map<string, Amounts>}} Series */

const NOTHING = { requests: 0, tokens: 0, promptTokens: 0, cachedTokens: 0, completionTokens: 0, cost: 0 };
const FIELDS = /** @type {(keyof Amounts)[]} */ (Object.keys(NOTHING));
export const MOST_SERIES = 6; // as many as colours can be told apart

/** @param {Amounts} sum @param {Amounts} more */
function add(sum, more) {
  for (const field of FIELDS) sum[field] += more[field] ?? 0;
}

/** The id of what a row is of, as text that no other has. @param {any} row @param {string} by */
export function idOf(row, by) {
  if (by === "endpoint") return JSON.stringify([row.model, row.endpoint]);
  return row[by] === null || row[by] === undefined ? "" : String(row[by]);
}

/** @param {any} row @param {string} by */
function nameOf(row, by) {
  if (by === "model") return row.name ?? String(row.model);
  if (by === "endpoint") return `${row.name ?? row.model} · ${row.endpoint ?? "none reached"}`;
  return row[by] ?? `no ${by}`;
}

/**
 * Rows of `group=day,BY` as series, the largest first.
 * @param {any[]} rows
 * @param {string} by
 * @param {keyof Amounts} measure
 * @returns {Series[]}
 */
export function seriesOf(rows, by, measure) {
  /** @type {Map<string, Series>} */
  const found = new Map();
  for (const row of rows) {
    const id = idOf(row, by);
    let series = found.get(id);
    if (!series) {
      series = { id, name: String(nameOf(row, by)), link: row, total: { ...NOTHING }, byDay: new Map() };
      found.set(id, series);
    }
    add(series.total, row);
    const day = series.byDay.get(row.day) ?? { ...NOTHING };
    add(day, row);
    series.byDay.set(row.day, day);
  }
  return [...found.values()].sort((one, other) => other.total[measure] - one.total[measure] || other.total.requests - one.total.requests);
}

/**
 * At most so many as there are colours: the rest is one.
 * @param {Series[]} all
 * @returns {Series[]}
 */
export function drawn(all) {
  if (all.length <= MOST_SERIES) return all;
  const rest = all.slice(MOST_SERIES - 1);
  /** @type {Series} */
  const others = { id: "\0", name: `${rest.length} others`, link: null, total: total(rest), byDay: new Map() };
  for (const series of rest) {
    for (const [day, amounts] of series.byDay) {
      const sum = others.byDay.get(day) ?? { ...NOTHING };
      add(sum, amounts);
      others.byDay.set(day, sum);
    }
  }
  return [...all.slice(0, MOST_SERIES - 1), others];
}

/** @param {Series[]} all @returns {Amounts} */
export function total(all) {
  const sum = { ...NOTHING };
  for (const series of all) add(sum, series.total);
  return sum;
}
