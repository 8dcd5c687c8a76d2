// @ts-check
/** Where a message is written: grows to eight lines; Enter sends, Shift+Enter breaks, Escape stops. */

import { el } from "../core/dom.js";

const MOST_LINES = 8;

/**
 * @param {{onSend: (text: string) => void, onStop: () => void, onDraft: (text: string) => void}} told
 */
export function composer({ onSend, onStop, onDraft }) {
  const field = el("textarea", { rows: 1, placeholder: "Message …", "aria-label": "Message", "data-search": true, enterkeyhint: "send" });
  const button = el("button.primary", { type: "submit" }, "Send");
  const form = el("form.composer", {
    onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      if (isRunning) onStop();
      else send();
    },
  }, field, button);
  let isRunning = false;

  function send() {
    const text = field.value.trim();
    if (!text || isRunning) return;
    set("");
    onSend(text);
  }

  function fit() {
    field.style.height = "auto";
    const { lineHeight, paddingTop, paddingBottom } = getComputedStyle(field);
    const most = MOST_LINES * parseFloat(lineHeight) + parseFloat(paddingTop) + parseFloat(paddingBottom) + 2;
    field.style.height = `${Math.min(field.scrollHeight + 2, most)}px`;
    field.style.overflowY = field.scrollHeight + 2 > most ? "auto" : "hidden";
  }

  /** @param {string} text */
  function set(text) {
    field.value = text;
    onDraft(text);
    fit();
  }

  field.addEventListener("input", () => {
    onDraft(field.value);
    fit();
  });
  field.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape" && isRunning) onStop();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  return {
    form,
    field,
    set,
    fit,
    /** @param {boolean} now an answer is coming */
    running(now) {
      isRunning = now;
      button.textContent = now ? "■ Stop" : "Send";
      button.classList.toggle("primary", !now);
    },
  };
}
