// @ts-check
/** Names and code from elsewhere, as people may safely read them. */

// What turns the direction of words around, or cannot be seen at all: https://trojansource.codes
const UNSEEN = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u00AD\u061C\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF]/g;
const LONGEST_NAME = 80;

/** Text with its unseen characters shown as what they are. @param {string} text */
export function visible(text) {
  return text.replace(UNSEEN, (each) => `⟨U+${each.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** A name without unseen characters, on one line, not longer than people read. @param {unknown} name */
export function shownName(name) {
  const plain = String(name).slice(0, 4 * LONGEST_NAME).replace(UNSEEN, "").replace(/\s+/g, " ").trim();
  const short = [...plain].slice(0, LONGEST_NAME).join("");
  return short.length < plain.length || String(name).length > 4 * LONGEST_NAME ? `${short}…` : short || "(no name)";
}
