// @ts-check
/** Names as people gave them: of any length, with anything in them. What is shown of them is short and harmless. */

import { el } from "./dom.js";

const MOST = 64;
// control characters, and those that turn the direction of what stands beside them
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/**
 * A name on one line: cut, and with a mark for what cannot be seen.
 * @param {unknown} name
 * @param {number} [most] characters
 */
export function short(name, most = MOST) {
  const text = String(name).slice(0, most * 2 + 2).replace(INVISIBLE, "\ufffd");
  const characters = Array.from(text);
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : text;
}

/**
 * A name as a node, apart from the text around it.
 * @param {unknown} name
 * @param {string} [tag]
 */
export function named(name, tag = "bdi") {
  const text = short(name);
  return el(tag, { dir: tag === "bdi" ? null : "auto", title: text === String(name) ? null : short(name, 400) }, text);
}
