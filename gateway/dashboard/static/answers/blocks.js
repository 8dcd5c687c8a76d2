// @ts-check
/**
 * Markdown's blocks, read as they come: each character is looked at once, and what is told is never taken back
 * (but for a paragraph of one line that turns out to be a table's head). No DOM here: a sink is told.
 */

import { cells, skip, width } from "./lines.js";

/**
 * Who is told.
 * @typedef {object} Sink
 * @property {(kind: "list" | "item" | "quote", about: {ordered?: boolean, start?: number}) => void} enter
 * @property {() => void} leave
 * @property {(kind: "paragraph" | "heading" | "code" | "rule", about: {level?: number, language?: string}) => void} begin
 * @property {(text: string) => void} add text of what was begun
 * @property {() => void} end
 * @property {() => void} retract what was begun is none
 * @property {(head: string[], aligns: string[]) => void} table
 * @property {(cells: string[]) => void} row
 */

/** @typedef {{kind: "list" | "item" | "quote", ordered: boolean, indent: number, content: number, start: number}} Box */

const DEEPEST = 24; // boxes inside each other; beyond it marks are text
const MOST_COLUMNS = 50;
const LONGEST_ROW = 16_384; // a longer line is no row of a table
const LONGEST_HEAD = 300; // of a line: beyond it its first characters have said what it is
const FENCE = /^(?:(`{3,})([^`]*)|(~{3,})(.*))$/;
const RULE = /^(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const HEADING = /^(#{1,6})(?:[ \t]+|$)/;
const MARKER = /^(?:[-+*]|(\d{1,9})[.)])(?:[ \t]|$)/;
const UNDECIDED = /^(?:[\s>\-*+_=#`~|:]*(?:\d{1,9}[.)]?)?[\s>\-*+_=#`~|:]*)$/;
const DELIMITERS = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

export class Blocks {
  /** @param {Sink} sink */
  constructor(sink) {
    this.sink = sink;
    this.rest = ""; // of a line that is not decided yet
    this.inLine = false; // the line's start is told; what follows belongs to what is open
    /** @type {Box[]} */
    this.boxes = [];
    /** @type {"" | "paragraph" | "heading" | "code" | "table"} */
    this.leaf = "";
    this.fence = { mark: "", size: 0, indent: 0 };
    this.lines = 0; // of the open paragraph
    this.first = ""; // its first line, while it may be a table's head
    this.columns = 0;
  }

  /** Read on. @param {string} text */
  feed(text) {
    this.rest += text;
    let at = 0;
    for (;;) {
      const found = this.rest.indexOf("\n", at);
      const end = found < 0 ? this.rest.length : found;
      if (this.inLine) this.more(this.rest.slice(at, end));
      else if (found >= 0 || this.decided(at)) this.line(this.rest.slice(at, end).replace(/\r$/, ""), found >= 0);
      else break;
      at = end;
      if (found < 0) break;
      at++;
      this.inLine = false;
    }
    this.rest = this.rest.slice(at);
  }

  /** All is read. */
  finish() {
    if (this.rest && !this.inLine) this.line(this.rest.replace(/\r$/, ""), true);
    this.rest = "";
    this.endLeaf();
    this.leaveTo(0);
  }

  /** Whether the unfinished line has shown what it is. @param {number} at */
  decided(at) {
    const size = this.rest.length - at;
    if (this.leaf === "table") return size > LONGEST_ROW;
    const head = this.rest.slice(at, at + LONGEST_HEAD);
    if (this.leaf === "code") return size > LONGEST_HEAD || !/^[\s>]*[`~]*\s*$/.test(head);
    if (/^[\s>\-*+\d.)]*(?:```|~~~)/.test(head)) return size > LONGEST_HEAD; // the language is still to come
    return size > LONGEST_HEAD || !UNDECIDED.test(head);
  }

  /** More of the line that is open. @param {string} text */
  more(text) {
    if (!text) return;
    if (this.leaf === "paragraph" && this.lines === 1 && this.first.length <= LONGEST_ROW) this.first += text;
    if (this.leaf) this.sink.add(text.endsWith("\r") ? text.slice(0, -1) : text);
  }

  /** A line, or the start of one that is decided. @param {string} line @param {boolean} whole */
  line(line, whole) {
    this.inLine = !whole;
    let { at, matched } = this.matched(line);
    if (this.leaf === "code") {
      if (matched === this.boxes.length) return this.codeLine(line.slice(at));
      this.endLeaf();
    }
    let isNew = false; // a box is this line's own
    for (let depth = matched; depth <= DEEPEST; depth = this.boxes.length) {
      const indent = width(line, at);
      const opener = this.opener(line.slice(indent.end), indent.columns);
      if (!opener) break;
      if (!isNew) {
        this.endLeaf();
        this.leaveTo(this.keeps(depth, opener) ? depth + 1 : depth);
      }
      isNew = true;
      this.enter(opener.box);
      at = indent.end + opener.size;
    }
    const indent = width(line, at);
    const text = line.slice(indent.end);
    const goesOn = this.leaf === "paragraph" && text && !interrupts(text); // without the marks of its boxes
    if (!isNew && matched < this.boxes.length && !goesOn) {
      this.endLeaf();
      this.leaveTo(matched);
    }
    this.content(text, whole, indent.columns);
  }

  /** How many open boxes this line goes on with, and where its own begins. @param {string} line */
  matched(line) {
    let at = 0;
    let matched = 0;
    const blank = !line.trim();
    for (const box of this.boxes) {
      const indent = width(line, at);
      if (box.kind === "quote") {
        if (line[indent.end] !== ">") break;
        at = indent.end + (line[indent.end + 1] === " " ? 2 : 1);
      } else if (box.kind === "item") {
        if (!blank && indent.columns < box.indent + 2) break;
        at = skip(line, at, box.content);
      }
      matched++;
    }
    if (matched && this.boxes[matched - 1].kind === "list") matched--;
    return { at, matched };
  }

  /** A mark that opens a box. @param {string} text @param {number} indent @returns {{box: Box, size: number} | null} */
  opener(text, indent) {
    if (text[0] === ">") {
      return { box: { kind: "quote", ordered: false, indent, content: 0, start: 0 }, size: text[1] === " " ? 2 : 1 };
    }
    const found = MARKER.exec(text);
    if (!found || RULE.test(text)) return null;
    const ordered = found[1] !== undefined;
    const inList = this.boxes.some((box) => box.kind === "list");
    if (this.leaf === "paragraph" && !inList && ((ordered && found[1] !== "1") || !text.slice(found[0].length).trim())) return null;
    const size = found[0].length;
    return { box: { kind: "item", ordered, indent, content: indent + size, start: Number(found[1]) }, size };
  }

  /** Whether the list that is open at this depth goes on with this item. @param {number} depth @param {{box: Box}} opener */
  keeps(depth, { box }) {
    const list = this.boxes[depth];
    return box.kind === "item" && list?.kind === "list" && list.ordered === box.ordered;
  }

  /** @param {Box} box */
  enter(box) {
    const last = this.boxes[this.boxes.length - 1];
    if (box.kind === "item" && last?.kind !== "list") {
      this.sink.enter("list", { ordered: box.ordered, start: box.start });
      this.boxes.push({ ...box, kind: "list" });
    }
    this.sink.enter(box.kind, {});
    this.boxes.push(box);
  }

  /** @param {number} depth */
  leaveTo(depth) {
    while (this.boxes.length > depth) {
      this.boxes.pop();
      this.sink.leave();
    }
  }

  /** What stands in the innermost box. @param {string} text @param {boolean} whole @param {number} indent */
  content(text, whole, indent) {
    if (!text.trim() && whole) return this.endLeaf();
    const fence = FENCE.exec(text);
    if (fence) {
      const marks = fence[1] ?? fence[3];
      this.begin("code", { language: (fence[2] ?? fence[4]).trim().split(/\s/, 1)[0].slice(0, 32) });
      this.fence = { mark: marks[0], size: marks.length, indent };
      this.lines = whole ? 0 : 1; // of an endless first line the rest is code
      return;
    }
    const heading = HEADING.exec(text);
    if (heading) {
      this.begin("heading", { level: heading[1].length });
      this.sink.add(text.slice(heading[0].length));
      return;
    }
    if (whole && RULE.test(text)) {
      this.begin("rule", {});
      this.endLeaf();
      return;
    }
    if (this.leaf === "table") {
      if (whole && text.length <= LONGEST_ROW && text.includes("|")) return this.sink.row(cells(text).slice(0, this.columns));
      this.endLeaf();
    }
    if (this.leaf === "paragraph" && whole && this.isHead(text)) return this.table(text);
    if (this.leaf === "paragraph") {
      this.lines++;
      this.sink.add(`\n${text}`);
      return;
    }
    this.begin("paragraph", {});
    this.lines = 1;
    this.first = text;
    this.sink.add(text);
  }

  /** @param {string} text */
  codeLine(text) {
    const { mark, size, indent } = this.fence;
    const inner = text.slice(Math.min(indent, width(text, 0).end));
    const bare = inner.trim();
    if (!this.inLine && bare.length >= size && bare === mark.repeat(bare.length)) return this.endLeaf();
    this.sink.add(this.lines++ ? `\n${inner}` : inner);
  }

  /** Whether a row of dashes under the open paragraph makes a table of it. @param {string} text */
  isHead(text) {
    if (this.lines !== 1 || text.length > LONGEST_ROW || this.first.length > LONGEST_ROW) return false;
    if (!text.includes("|") || !this.first.includes("|") || !DELIMITERS.test(text)) return false;
    const columns = cells(text).length;
    return columns === cells(this.first).length && columns <= MOST_COLUMNS;
  }

  /** @param {string} delimiters */
  table(delimiters) {
    this.sink.retract();
    const aligns = cells(delimiters).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "end") : "start"));
    this.leaf = "table";
    this.columns = aligns.length;
    this.sink.table(cells(this.first), aligns);
  }

  /** @param {"paragraph" | "heading" | "code" | "rule"} kind @param {{level?: number, language?: string}} about */
  begin(kind, about) {
    this.endLeaf();
    this.leaf = kind === "rule" ? "" : kind;
    this.lines = 0;
    this.sink.begin(kind, about);
    if (kind === "rule") this.sink.end();
  }

  endLeaf() {
    if (this.leaf) this.sink.end();
    this.leaf = "";
    this.first = "";
  }
}

/** Whether this text ends a paragraph before it. @param {string} text */
function interrupts(text) {
  return FENCE.test(text) || HEADING.test(text) || RULE.test(text);
}
