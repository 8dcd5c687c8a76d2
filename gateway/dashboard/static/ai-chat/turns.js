// @ts-check
/** One turn of a conversation: what was said, and below it what can be done with it. */

import { copyButton, el, fill } from "../core/dom.js";
import { receiptLine } from "../answers/receipts.js";
import { short } from "../core/names.js";
import { Writing } from "../answers/writing.js";

/** @typedef {import("./store.js").Turn} Turn */
/**
 * What a turn may ask for.
 * @typedef {object} Wishes
 * @property {(turn: Turn) => void} again a new answer in place of this one
 * @property {(turn: Turn, text: string) => void} resend say this instead, and forget what followed
 * @property {() => void} grown something was drawn
 * @property {string | null} currency
 */

const PIECE = 4096;

/** A reader's own words, as they were typed. @param {HTMLElement} root @param {string} text */
function plain(root, text) {
  for (let at = 0; at < text.length || at === 0; at += PIECE) root.append(el(text.length > PIECE ? "span.piece" : "span", null, text.slice(at, at + PIECE)));
}

/** @param {Turn} turn @param {Wishes} wishes @returns {HTMLElement} */
export function userTurn(turn, wishes) {
  const words = el("div.words.plain");
  plain(words, turn.text);
  const foot = el("span.tools", null,
    el("button.quiet", { type: "button", onclick: () => edit() }, "Edit"),
    copyButton(() => turn.text));
  const article = el("article.turn.user", { "aria-label": "You" }, el("header", null, el("span", null, "You"), foot), words);

  function edit() {
    const field = el("textarea", { value: turn.text, "aria-label": "Your message", rows: Math.min(8, turn.text.split("\n").length + 1) });
    const form = el("form.edit", {
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const text = field.value.trim();
        if (text) wishes.resend(turn, text);
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        if (event.key === "Escape") close();
        else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          form.requestSubmit();
        }
      },
    }, field, el("div.row.end", null,
      el("span.small.muted", null, "What followed is dropped."),
      el("button", { type: "button", onclick: () => close() }, "Cancel"),
      el("button.primary", { type: "submit" }, "Send again")));
    const close = () => {
      form.replaceWith(words);
      foot.hidden = false;
      foot.querySelector("button")?.focus();
    };
    foot.hidden = true;
    words.replaceWith(form);
    field.focus();
  }
  return article;
}

/** An answer: being written, or whole. */
export class AnswerTurn {
  /** @param {Turn} turn @param {Wishes} wishes */
  constructor(turn, wishes) {
    this.turn = turn;
    this.wishes = wishes;
    this.dots = el("p.dots", { "aria-hidden": "true" }, el("span", null, "●"), el("span", null, "●"), el("span", null, "●"));
    this.words = el("div.words", null);
    this.name = el("header", null);
    this.foot = el("footer", null);
    this.notice = el("div", null);
    this.root = el("article.turn.answer", null, this.name, this.words, this.notice, this.foot);
    /** @type {HTMLElement | null} */
    this.thought = null;
    this.writing = new Writing(this.words, wishes.grown);
    this.named();
    if (turn.thought) this.think(turn.thought);
    if (turn.text) this.writing.add(turn.text);
    else this.words.append(this.dots);
  }

  named() {
    const name = short(this.turn.model ?? "Answer");
    this.name.textContent = name;
    this.root.setAttribute("aria-label", name);
  }

  /** @param {string} text */
  add(text) {
    this.dots.remove();
    this.writing.add(text);
  }

  /** @param {string} text */
  think(text) {
    if (!this.thought) {
      const thought = (this.thought = el("div.plain.muted"));
      this.words.before(el("details.thought", null, el("summary", null, "Thoughts"), thought));
    }
    this.thought?.append(text);
  }

  /** All is there: what it cost, and what can be done now. @param {boolean} isLast */
  end(isLast) {
    this.dots.remove();
    this.writing.end();
    this.named();
    this.update(isLast);
  }

  /** @param {boolean} isLast */
  update(isLast) {
    const { turn } = this;
    fill(this.foot,
      receiptLine(turn, this.wishes.currency),
      isLast && !turn.fault && el("button.quiet", { type: "button", onclick: () => this.wishes.again(turn) }, "↻ Again"),
      turn.text && copyButton(() => turn.text));
    fill(this.notice, notice(turn, isLast, () => this.wishes.again(turn)));
  }
}

/** Why an answer is not whole, and what to do. @param {Turn} turn @param {boolean} isLast @param {() => void} again */
function notice(turn, isLast, again) {
  const { fault } = turn;
  if (fault) {
    return el("div.note.bad", { role: "alert" },
      el("p", null, el("strong", null, `${fault.title}. `), fault.words === fault.title ? null : fault.words),
      el("div.row", null,
        isLast && el("button", { type: "button", onclick: again }, "Try again"),
        fault.code === "insufficient_quota" && el("a", { href: "/dashboard/usage" }, "See your usage"),
        fault.requestId && copyButton(() => String(fault.requestId), "Copy request id")));
  }
  if (turn.stopped) return el("p.small.muted", null, turn.text ? "Stopped." : "Stopped before the first word.");
  if (turn.finish === "length") return el("p.small.muted", null, "The model ended here: its answer had reached the longest length. Ask it to go on.");
  if (turn.finish === "content_filter") return el("p.small.muted", null, "The provider’s content filter ended this answer.");
  return !turn.text && turn.finish ? el("p.small.muted", null, "The model had no words to say.") : null;
}
