// @ts-check
/** Load a part of a page: its skeleton once it takes long, its fault with what to do, and again once back online. */

import { ApiError } from "./api.js";
import { el, fill } from "./dom.js";
import { failure, wordsFor } from "./frame.js";

const PATIENCE_MS = 200;
/** @type {WeakMap<Element, number>} the newest load of each part: an older one draws nothing */
const newest = new WeakMap();

/**
 * Ask and draw. What is there stays until the answer is, and beneath a note where none comes.
 * @template T
 * @param {HTMLElement} part
 * @param {() => Promise<T>} ask
 * @param {(answer: T) => void} draw
 */
export async function load(part, ask, draw) {
  const turn = (newest.get(part) ?? 0) + 1;
  newest.set(part, turn);
  const isNewest = () => newest.get(part) === turn;
  const wasDrawn = part.dataset.drawn === "yes";
  part.setAttribute("aria-busy", "true");
  const timer = setTimeout(() => isNewest() && (wasDrawn ? part.classList.add("waiting") : fill(part, skeleton())), PATIENCE_MS);
  try {
    const answer = await ask();
    if (!isNewest()) return;
    part.dataset.drawn = "yes";
    keepingFocus(part, () => draw(answer));
  } catch (error) {
    if (!isNewest()) return;
    if (wasDrawn) noteAbove(part, error);
    else fill(part, failure(error));
    whenBack(error, () => isNewest() && load(part, ask, draw));
  } finally {
    clearTimeout(timer);
    if (isNewest()) {
      part.classList.remove("waiting");
      part.removeAttribute("aria-busy");
    }
  }
}

/**
 * Draw anew; what had the focus has it again, as far as it is still there.
 * @param {HTMLElement} part
 * @param {() => void} draw
 */
function keepingFocus(part, draw) {
  const had = document.activeElement;
  const told = (/** @type {Element} */ node) => `${node.tagName} ${node.getAttribute("role")} ${node.getAttribute("name")} ${node.textContent?.slice(0, 80)}`;
  const wanted = had && part.contains(had) ? told(had) : null;
  draw();
  if (wanted === null || (had && had.isConnected)) return;
  const same = [...part.querySelectorAll("button, a, input, select, summary, [tabindex]")].find((node) => told(node) === wanted);
  /** @type {HTMLElement | undefined} */ (same)?.focus({ preventScroll: true });
}

/** @param {HTMLElement} part @param {unknown} error */
function noteAbove(part, error) {
  part.querySelector(":scope > .note[role=alert]")?.remove();
  part.prepend(el("p.note.bad", { role: "alert" }, inWords(error)));
}

/** What went wrong, as a sentence or two. @param {unknown} error */
export function inWords(error) {
  return error instanceof ApiError ? wordsFor(error).join(". ").replace(/\.\. /, ". ") : String(/** @type {any} */ (error)?.message ?? error);
}

/** @param {unknown} error @param {() => void} again */
function whenBack(error, again) {
  if (error instanceof ApiError && error.status === 0) addEventListener("online", again, { once: true });
}

/** Lines where words will be. */
export function skeleton() {
  return el("div", { role: "status" }, el("span.visually-hidden", null, "Loading"),
    [1, 2, 3, 4].map(() => el("div.skeleton", { "aria-hidden": "true" })));
}
