// @ts-check
/** Code from elsewhere, as people may safely read it. */

// What turns the direction of words around, or cannot be seen at all: https://trojansource.codes
const UNSEEN = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u00AD\u061C\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF]/g;

/** Text with its unseen characters shown as what they are. @param {string} text */
export function visible(text) {
  return text.replace(UNSEEN, (each) => `⟨U+${each.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}
