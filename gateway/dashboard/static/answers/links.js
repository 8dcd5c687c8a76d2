// @ts-check
/** Addresses in a model's words: which may be followed, and where they end. */

const LONGEST = 2000;
const PROTOCOLS = ["http:", "https:", "mailto:"];
const SPACE = /\s/;

/**
 * A link's address, where it is one that may be followed: with a scheme that runs nothing.
 * @param {string} target
 * @returns {string | null}
 */
export function safeAddress(target) {
  let url;
  try {
    url = new URL(target);
  } catch {
    return null;
  }
  return PROTOCOLS.includes(url.protocol) ? url.href : null;
}

/**
 * `(address "title")` right here; parentheses in an address to the third level.
 * @param {string} text
 * @param {number} at
 * @returns {{address: string, end: number} | null}
 */
export function destination(text, at) {
  if (text[at] !== "(") return null;
  const angled = text[at + 1] === "<";
  const start = at + (angled ? 2 : 1);
  let end = start;
  let depth = 0;
  for (; end < text.length && end - start < LONGEST; end++) {
    const each = text[end];
    if (angled ? each === ">" || each === "\n" : SPACE.test(each)) break;
    if (!angled && each === "(" && ++depth > 3) return null;
    if (!angled && each === ")" && depth-- === 0) break;
  }
  const address = text.slice(start, end);
  const rest = /\s*(?:"[^"\n]{0,300}"|'[^'\n]{0,300}')?\s{0,9}\)/y;
  rest.lastIndex = angled ? end + 1 : end;
  return address && rest.test(text) ? { address, end: rest.lastIndex } : null;
}

/** A bare address without the punctuation of the sentence around it. @param {string} address */
export function trimmed(address) {
  let spare = 0;
  for (const each of address) spare += each === "(" ? 1 : each === ")" ? -1 : 0;
  let end = address.length;
  for (; end > 0; end--) {
    const last = address[end - 1];
    if (last === ")" && spare < 0) spare++;
    else if (!/[.,;:!?*_~\]]/.test(last)) break;
  }
  return address.slice(0, end);
}
