// @ts-check
/** Blocks of Markdown as DOM nodes: only what is still open is ever drawn again. */

import { copyButton, el, fill } from "../core/dom.js";
import { visible } from "./text.js";
import { inline } from "./inline.js";

/** @typedef {import("./inline.js").Inline} Inline */

const PIECE = 4096; // characters of a paragraph or of code that are laid out by themselves
const MOST_ROWS = 100; // of one table; what follows is a table of its own, so that none is slow to lay out
const MOST_ITEMS = 50; // of one list, for the same reason

/** A sink of blocks.js that builds below `root`. */
export class Nodes {
  /** @param {HTMLElement} root */
  constructor(root) {
    /** @type {HTMLElement[]} */
    this.boxes = [root];
    /** @type {HTMLElement | null} the block that is open */
    this.block = null;
    /** @type {HTMLElement | null} its last piece */
    this.piece = null;
    this.kind = "";
    this.text = ""; // of the last piece
    this.isStale = false;
    /** @type {string[]} of the open code, as it came */
    this.parts = [];
    /** @type {{head: string[], aligns: string[], body: HTMLElement, rows: number} | null} */
    this.grid = null;
  }

  get box() {
    return this.boxes[this.boxes.length - 1];
  }

  /** @param {"list" | "item" | "quote"} kind @param {{ordered?: boolean, start?: number}} about */
  enter(kind, { ordered, start }) {
    const tag = kind === "quote" ? "blockquote" : kind === "item" ? "li" : ordered ? "ol" : "ul";
    if (tag === "li" && this.box.childElementCount === MOST_ITEMS) this.goOn();
    const node = el(tag, { start: tag === "ol" && start !== 1 ? start : null });
    this.box.append(node);
    this.boxes.push(node);
  }

  /** A list goes on in a list of its own. */
  goOn() {
    const list = this.boxes.pop();
    if (!list) return;
    list.classList.add("goes-on");
    this.enter("list", { ordered: list.tagName === "OL", start: (list instanceof HTMLOListElement ? list.start : 1) + MOST_ITEMS });
  }

  leave() {
    this.boxes.pop();
  }

  /** @param {"paragraph" | "heading" | "code" | "rule"} kind @param {{level?: number, language?: string}} about */
  begin(kind, { level, language }) {
    this.kind = kind;
    this.text = "";
    if (kind === "code") return this.beginCode(language ?? "");
    // An answer stands below the page's own headings.
    const tag = kind === "rule" ? "hr" : kind === "heading" ? `h${Math.min(6, (level ?? 1) + 2)}` : "p";
    const block = el(tag); // its direction is the style's: `dir=auto` looks for it anew with each node that comes
    this.block = this.piece = block;
    this.box.append(block);
  }

  /** @param {string} language */
  beginCode(language) {
    const code = el("code", { dir: "ltr" });
    /** @type {string[]} */
    const parts = (this.parts = []);
    const block = el("figure.code", null,
      el("figcaption", null, el("span", null, visible(language) || "text"), copyButton(() => parts.join(""))),
      el("pre", { tabindex: "0", "aria-label": language ? `Code: ${visible(language)}` : "Code" }, code));
    this.block = code;
    this.piece = null;
    this.box.append(block);
  }

  /** @param {string} text */
  add(text) {
    this.text += text;
    if (this.kind === "code") this.parts.push(text);
    this.isStale = true;
    while (this.text.length >= PIECE) this.cut();
  }

  /** The first part of the open piece is drawn for good. */
  cut() {
    const at = breakIn(this.text, this.kind === "code" ? "\n" : " ");
    const rest = this.text.slice(at);
    this.text = this.text.slice(0, at);
    const isWholeLine = this.kind === "code" && this.text.endsWith("\n");
    this.draw(isWholeLine ? this.text.slice(0, -1) : this.text, false);
    if (this.kind !== "code" && this.piece === this.block && this.block) {
      const first = el("span.piece", null, ...this.block.childNodes); // from here on the block has pieces
      this.block.append(first);
    }
    this.piece = null;
    this.text = rest;
  }

  /** @param {string} text @param {boolean} growing */
  draw(text, growing) {
    if (!this.block) return;
    const piece = this.piece ?? el("span.piece");
    if (!this.piece) this.block.append(piece);
    this.piece = piece;
    if (this.kind === "code") piece.textContent = visible(text);
    else fill(piece, inlineNodes(inline(this.kind === "heading" ? text.replace(/(?:^|[ \t])#{1,9}[ \t]*$/, "") : text, growing)));
  }

  /** Draw what has changed of the open block. */
  flush() {
    if (this.isStale) this.draw(this.text, true);
    this.isStale = false;
  }

  end() {
    if (this.text || this.isStale) this.draw(this.text, false);
    if (this.kind === "paragraph" && this.box.tagName === "LI" && this.box.firstChild === this.block) task(this.box, this.block);
    this.isStale = false;
    this.block = this.piece = this.grid = null;
    this.text = "";
  }

  retract() {
    this.block?.remove();
    this.block = this.piece = null;
    this.isStale = false;
    this.text = "";
  }

  /** @param {string[]} head @param {string[]} aligns */
  table(head, aligns) {
    const body = el("tbody");
    const row = el("tr", null, head.map((cell, place) => el("th", { scope: "col", class: aligns[place] }, inlineNodes(inline(cell)))));
    this.box.append(el("div.scrolls", { tabindex: "0", role: "group", "aria-label": "Table" }, el("table", null, el("thead", null, row), body)));
    this.grid = { head, aligns, body, rows: 0 };
  }

  /** @param {string[]} cells */
  row(cells) {
    if (!this.grid) return;
    if (this.grid.rows === MOST_ROWS) this.table(this.grid.head, this.grid.aligns);
    const { aligns, body } = this.grid;
    this.grid.rows++;
    body.append(el("tr", null, aligns.map((align, place) => el("td", { class: align }, inlineNodes(inline(cells[place] ?? ""))))));
  }
}

/** @param {Inline[]} items @returns {Node[]} */
function inlineNodes(items) {
  return items.map((item) => {
    if (item.type === "link") return el("a", { href: item.href, title: item.href, target: "_blank", rel: "noopener noreferrer" }, inlineNodes(item.children));
    if ("children" in item) return el(item.type, null, inlineNodes(item.children));
    return item.type === "text" ? document.createTextNode(item.text) : el("code", { dir: "ltr" }, visible(item.text));
  });
}

/** Where to cut: behind the last such character of the second half, else in the middle of a word, never of a pair. @param {string} text @param {string} mark */
function breakIn(text, mark) {
  const found = text.lastIndexOf(mark, PIECE - 1) + 1;
  if (found > PIECE / 2) return found;
  return /[\uD800-\uDBFF]/.test(text[PIECE - 1]) ? PIECE - 1 : PIECE;
}

/** `[ ] thing`: a box that is ticked or not. @param {HTMLElement} item @param {HTMLElement | null} block */
function task(item, block) {
  const first = block?.firstChild;
  const found = first instanceof Text && /^\[([ xX])\] /.exec(first.data);
  if (!found || !(first instanceof Text)) return;
  const done = found[1] !== " ";
  first.data = first.data.slice(found[0].length);
  first.before(el("span.tick", { role: "img", "aria-label": done ? "done" : "to do" }, done ? "☑ " : "☐ "));
  item.classList.add("task");
}
