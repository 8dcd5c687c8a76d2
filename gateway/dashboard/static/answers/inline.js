// @ts-check
/** What stands inside a line of Markdown: a tree of plain objects, made in one pass over the text. No DOM here. */

import { destination, safeAddress, trimmed } from "./links.js";

/**
 * @typedef {{type: "text" | "code", text: string}} Words
 * @typedef {{type: "strong" | "em" | "del", children: Inline[]}} Stressed
 * @typedef {{type: "link", href: string, children: Inline[]}} Link
 * @typedef {Words | Stressed | Link} Inline
 */

/** @typedef {{mark: string, count: number, at: number, items: Inline[]}} Frame `mark`: `*`, `_`, `~`, `[` or `![` */

const DEEPEST = 12; // what is open inside each other; beyond it a mark is only a mark
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;
const SPACE = /\s/;
const BARE = /https?:\/\/[^\s<>"'`\\|]{1,2000}/y;
const ANGLED = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;

/**
 * Read one paragraph's text.
 * @param {string} text
 * @param {boolean} [growing] more may follow: what is open at the end is shown as if it were closed there
 * @returns {Inline[]}
 */
export function inline(text, growing = false) {
  return new Reader(text).read(growing);
}

class Reader {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
    this.at = 0;
    this.from = 0; // of the plain text that is not taken yet
    /** @type {Frame[]} */
    this.frames = [{ mark: "", count: 0, at: 0, items: [] }];
    /** @type {Map<number, number[]> | null} */
    this.ticks = null;
  }

  /** @param {boolean} growing */
  read(growing) {
    const { text } = this;
    while (this.at < text.length) {
      switch (text[this.at]) {
        case "\\": this.escape(); break;
        case "`": this.code(growing); break;
        case "*": case "_": case "~": this.stress(); break;
        case "[": this.open("[", 1); break;
        case "!": text[this.at + 1] === "[" ? this.open("![", 2) : this.at++; break;
        case "]": this.close(); break;
        case "<": this.angled(); break;
        case "h": this.bare(); break;
        default: this.at++;
      }
    }
    this.take(text.length);
    while (this.frames.length > 1) this.give(growing);
    return this.frames[0].items;
  }

  get top() {
    return this.frames[this.frames.length - 1];
  }

  /** Plain text up to here becomes an item. @param {number} end */
  take(end) {
    if (end > this.from) push(this.top.items, this.text.slice(this.from, end));
    this.from = end;
  }

  /** @param {Inline} item @param {number} start @param {number} end */
  put(item, start, end) {
    this.take(start);
    this.top.items.push(item);
    this.at = this.from = end;
  }

  escape() {
    const next = this.text[this.at + 1] ?? "";
    if (!PUNCTUATION.test(next)) {
      this.at++;
      return;
    }
    this.take(this.at);
    this.from = this.at + 1;
    this.at += 2;
  }

  /** @param {boolean} growing */
  code(growing) {
    const start = this.at;
    const size = run(this.text, start, "`");
    const close = this.closing(size, start + size);
    if (close < 0 && !(growing && size === 1)) {
      this.at = start + size;
      return;
    }
    const end = close < 0 ? this.text.length : close;
    let inner = this.text.slice(start + size, end).replaceAll("\n", " ");
    if (inner.length > 2 && inner.startsWith(" ") && inner.endsWith(" ") && inner.trim()) inner = inner.slice(1, -1);
    if (inner) this.put({ type: "code", text: inner }, start, close < 0 ? end : close + size);
    else this.at = start + size;
  }

  /** Where the next run of exactly so many backticks begins; each run is looked at once. @param {number} size @param {number} from */
  closing(size, from) {
    if (!this.ticks) {
      this.ticks = new Map();
      for (const found of this.text.matchAll(/`+/g)) {
        const places = this.ticks.get(found[0].length);
        if (places) places.push(found.index);
        else this.ticks.set(found[0].length, [found.index]);
      }
      for (const places of this.ticks.values()) places.reverse();
    }
    const places = this.ticks.get(size);
    while (places?.length && places[places.length - 1] < from) places.pop();
    return places?.length ? places[places.length - 1] : -1;
  }

  stress() {
    const start = this.at;
    const mark = this.text[start];
    const size = run(this.text, start, mark);
    const end = start + size;
    const before = start ? this.text[start - 1] : " ";
    const after = this.text[end] ?? " ";
    let opens = !SPACE.test(after);
    let closes = !SPACE.test(before);
    if (mark === "_") [opens, closes] = [opens && !WORD.test(before), closes && !WORD.test(after)];
    if (mark === "~" && size !== 2) opens = closes = false;
    this.at = end;
    let left = size;
    while (closes && left) {
      const place = this.nearest(mark);
      if (place < 0) break;
      this.take(start + size - left);
      left -= this.wrap(place, left);
      this.from = end - left;
    }
    if (left && opens && this.frames.length <= DEEPEST) {
      this.take(end - left);
      this.frames.push({ mark, count: left, at: end - left, items: [] });
      this.from = end;
    }
  }

  /** The innermost open frame with this mark; brackets are walls. @param {string} mark */
  nearest(mark) {
    for (let place = this.frames.length - 1; place > 0; place--) {
      const frame = this.frames[place];
      if (frame.mark === mark) return place;
      if (frame.mark.endsWith("[")) return -1;
    }
    return -1;
  }

  /** Stress what a frame holds; how many marks that used. @param {number} place @param {number} most */
  wrap(place, most) {
    while (this.frames.length - 1 > place) this.give(false);
    const frame = this.top;
    const used = Math.min(2, frame.count, most);
    const type = frame.mark === "~" ? "del" : used === 2 ? "strong" : "em";
    const item = /** @type {Stressed} */ ({ type, children: frame.items });
    frame.count -= used;
    frame.items = [item];
    if (frame.count === 0) {
      this.frames.pop();
      this.top.items.push(item);
    }
    return used;
  }

  /** The innermost frame was none: its mark is text. @param {boolean} growing */
  give(growing) {
    const frame = /** @type {Frame} */ (this.frames.pop());
    const { items } = this.top;
    const isStress = !frame.mark.endsWith("[");
    if (growing && isStress && frame.items.length) {
      const type = frame.mark === "~" ? "del" : frame.count >= 2 ? "strong" : "em";
      items.push({ type, children: frame.items });
      return;
    }
    push(items, isStress ? frame.mark.repeat(frame.count) : frame.mark);
    for (const item of frame.items) item.type === "text" ? push(items, item.text) : items.push(item);
  }

  /** @param {string} mark @param {number} size */
  open(mark, size) {
    const start = this.at;
    this.at += size;
    if (this.frames.length > DEEPEST) return;
    this.take(start);
    this.frames.push({ mark, count: 1, at: start, items: [] });
    this.from = this.at;
  }

  close() {
    const end = this.at;
    let place = this.frames.length - 1;
    while (place > 0 && !this.frames[place].mark.endsWith("[")) place--;
    this.at++;
    if (place === 0) return;
    this.take(end);
    while (this.frames.length - 1 > place) this.give(false);
    const target = destination(this.text, end + 1);
    const href = target && safeAddress(target.address);
    if (!target || !href) {
      this.give(false);
      this.from = end; // and what stands in parentheses is text
      return;
    }
    const frame = /** @type {Frame} */ (this.frames.pop());
    const children = frame.mark === "![" ? [{ type: /** @type {const} */ ("text"), text: `${said(frame.items) || "picture"} (picture)` }] : flat(frame.items);
    this.top.items.push({ type: "link", href, children: children.length ? children : [{ type: "text", text: href }] });
    this.at = this.from = target.end;
  }

  angled() {
    ANGLED.lastIndex = this.at;
    const found = ANGLED.exec(this.text);
    const href = found && safeAddress(found[1]);
    if (!found || !href) this.at++;
    else this.put({ type: "link", href, children: [{ type: "text", text: found[1] }] }, this.at, ANGLED.lastIndex);
  }

  bare() {
    BARE.lastIndex = this.at;
    const before = this.at ? this.text[this.at - 1] : " ";
    const found = this.text.startsWith("http", this.at) && !WORD.test(before) && BARE.exec(this.text);
    const shown = found ? trimmed(found[0]) : "";
    const href = shown && safeAddress(shown);
    if (!href) this.at++;
    else this.put({ type: "link", href, children: [{ type: "text", text: shown }] }, this.at, this.at + shown.length);
  }
}

/** @param {string} text @param {number} at @param {string} mark */
function run(text, at, mark) {
  let end = at;
  while (text[end] === mark) end++;
  return end - at;
}

/** @param {Inline[]} items @param {string} text */
function push(items, text) {
  const last = items[items.length - 1];
  if (last?.type === "text") last.text += text;
  else if (text) items.push({ type: "text", text });
}

/** The words of items, without what stresses them. @param {Inline[]} items @returns {string} */
export function said(items) {
  return items.map((item) => ("text" in item ? item.text : said(item.children))).join("");
}

/** No link inside a link. @param {Inline[]} items @returns {Inline[]} */
function flat(items) {
  return items.flatMap((item) => {
    if (item.type === "link") return flat(item.children);
    return "children" in item ? [{ ...item, children: flat(item.children) }] : [item];
  });
}
