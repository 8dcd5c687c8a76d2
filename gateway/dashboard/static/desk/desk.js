// @ts-check
/** What the operators' pages share: names that others chose, panels at the side, errors, loading. */

import { ApiError, part } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { wordsFor } from "../core/frame.js";
import { load } from "../core/loading.js";
import { named, short } from "../core/names.js";

export { named, part };

/**
 * A text that somebody else chose, on one line, whatever is in it.
 * @param {any} value
 * @param {number} [most]
 */
export const plain = (value, most = 120) => short(value ?? "", most);

/** A state in a word, with a shape beside its colour. @param {"good"|"warn"|"bad"|"quiet"} tone @param {string} word */
export function mark(tone, word) {
  const shape = { good: "●", warn: "◐", bad: "✕", quiet: "○" }[tone];
  return el(`span.mark-${tone}`, null, el("span", { "aria-hidden": "true" }, `${shape} `), word);
}

/**
 * What went wrong, in words, with the request's id.
 * @param {any} error
 */
export function fault(error) {
  if (!(error instanceof ApiError)) return el("p.note.bad", { role: "alert" }, plain(error?.message ?? error, 300));
  const [title, words] = wordsFor(error);
  return el("div.note.bad", { role: "alert" },
    el("strong", null, `${title}.`), " ", el("span", null, plain(words, 600)),
    error.requestId && el("div.small.muted", null, "Request ", el("code", null, error.requestId)));
}

/**
 * Fill a node with what a promise brings; a skeleton where it takes long, an error with a way to try again.
 * @template T
 * @param {HTMLElement} node
 * @param {() => Promise<T>} ask
 * @param {(found: T) => any} draw
 */
export function loaded(node, ask, draw) {
  return load(node, ask, (found) => {
    const drawn = draw(found);
    if (drawn !== undefined) fill(node, drawn);
  });
}

/**
 * A panel at the side, which Escape closes; it asks before it drops what was typed.
 * @param {string} title
 * @param {(close: () => void, panel: HTMLDialogElement) => any} content
 * @returns {Promise<void>}
 */
export function side(title, content) {
  return new Promise((resolve) => {
    let touched = false;
    const close = () => {
      touched = false;
      panel.close();
    };
    const leave = () => {
      if (!touched || window.confirm("Drop what you have typed?")) close();
    };
    const panel = el("dialog.side", { "aria-label": plain(title) },
      el("header.spread", null, el("h1", null, named(title)), el("button.quiet", { type: "button", "aria-label": "Close", onclick: leave }, "✕")));
    panel.append(...[content(close, panel)].flat().filter(Boolean));
    panel.addEventListener("input", (/** @type {Event} */ event) => {
      if (!(/** @type {HTMLElement} */ (event.target).closest("[data-untracked]"))) touched = true;
    });
    panel.addEventListener("cancel", (/** @type {Event} */ event) => {
      event.preventDefault();
      leave();
    });
    panel.addEventListener("close", () => {
      panel.remove();
      resolve();
    });
    document.body.append(panel);
    panel.showModal();
  });
}

/**
 * A form that sends by a promise, and says what went wrong.
 * @param {any[]} fields
 * @param {string} verb
 * @param {() => Promise<any>} send
 * @param {any[]} [more] other buttons
 */
export function form(fields, verb, send, more = []) {
  const words = el("div", { "aria-live": "polite" });
  const submit = el("button.primary", { type: "submit" }, verb);
  return el("form", {
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      submit.disabled = true;
      fill(words);
      try {
        await send();
      } catch (error) {
        fill(words, fault(error));
        words.scrollIntoView({ block: "nearest" });
      } finally {
        submit.disabled = false;
      }
    },
  }, fields, words, el("div.row.end.sticky", null, more, submit));
}

/**
 * A labelled field.
 * @param {string} label
 * @param {any} input
 * @param {string} [hint]
 */
export function field(label, input, hint) {
  return el("label", null, label, input, hint && el("span.hint", null, hint));
}

/**
 * A tick box with its words.
 * @param {string} label
 * @param {boolean} checked
 */
export function tick(label, checked) {
  const box = el("input", { type: "checkbox" });
  box.checked = checked;
  return { box, node: el("label.tick", null, box, el("span", null, label)) };
}

/** @param {string} value @param {string[]} options @param {Record<string, any>} [attributes] */
export function choice(value, options, attributes = {}) {
  const node = el("select", attributes, options.map((option) => el("option", { value: option }, option)));
  node.value = value;
  return node;
}

/** "a, b" as a list of texts @param {string} text */
export const words = (text) => text.split(",").map((each) => each.trim()).filter(Boolean);

/** Ask by name before something goes for good. @param {string} what @param {string} verb */
export const sure = (what, verb = "Delete") => window.confirm(`${verb} ${plain(what)}? This cannot be undone.`);

const address = () => new URLSearchParams(location.search);

/** What the address says. @param {string} name */
export const asked = (name) => address().get(name) ?? "";

/**
 * Write into the address, so that a reload finds it; as a step of its own, so that back and forward do.
 * @param {Record<string, string>} values
 * @param {boolean} [isStep]
 */
export function remember(values, isStep = false) {
  const query = address();
  for (const [name, value] of Object.entries(values)) value ? query.set(name, value) : query.delete(name);
  const text = query.toString();
  const target = text ? `?${text}` : location.pathname;
  if (isStep) history.pushState(null, "", target);
  else history.replaceState(null, "", target);
}
