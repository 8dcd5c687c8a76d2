// @ts-check
/** Moments as people read them: how long ago, the exact one on hover; an open page keeps them true. */

import { el } from "./dom.js";
import { ago, utc } from "./format.js";

const EVERY_MS = 30_000;

/** "3 minutes ago", and "2026-11-28 20:55 UTC" on hover. @param {string | number | Date} moment @param {string} [kind] a class */
export function when(moment, kind) {
  return el(kind ? `time.${kind}` : "time", { datetime: new Date(moment).toISOString(), title: utc(moment) }, ago(moment));
}

/** From now on tell each anew as time goes by, while the page is seen. */
export function keepTimesTrue() {
  const tell = () => {
    if (document.hidden) return;
    for (const each of document.querySelectorAll("time[datetime]")) each.textContent = ago(String(each.getAttribute("datetime")));
  };
  setInterval(tell, EVERY_MS);
  document.addEventListener("visibilitychange", tell);
}
