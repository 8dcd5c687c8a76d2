// @ts-check
/** A key's parts in words. */

import { exact, money } from "../core/format.js";
import { short } from "../core/names.js";

/** @typedef {{rpm?: number, tpm?: number, concurrency?: number, requests?: number, tokens?: number, cost?: number, period?: string}} Limits */
/** @typedef {{id: number | string, name: string | null, last4: string | null, scopes: string[], models: (number | string)[] | null, limits: Limits | null, ips: string[], expires: string | null, created: string | null, lastUsed: string | null, source: "file" | "store"}} Key */

/** What a key is called: its name, else its id. @param {Key} key */
export const called = (key) => short(key.name || key.id);

/**
 * "30 a minute; 1,000 requests a month"
 * @param {Limits | null} limits
 * @param {string | null} currency
 */
export function limitsInWords(limits, currency) {
  if (!limits) return "";
  const period = limits.period ?? "month";
  return [
    limits.rpm && `${exact(limits.rpm)} requests a minute`,
    limits.tpm && `${exact(limits.tpm)} tokens a minute`,
    limits.concurrency && `${exact(limits.concurrency)} at a time`,
    limits.requests && `${exact(limits.requests)} requests a ${period}`,
    limits.tokens && `${exact(limits.tokens)} tokens a ${period}`,
    limits.cost && `${money(limits.cost, currency)} a ${period}`,
  ].filter(Boolean).join("; ");
}

/** Whether its end has come. @param {Key} key */
export const isOver = (key) => key.expires !== null && new Date(key.expires).getTime() <= Date.now();
