// @ts-check
/** Chat: the page is put together here. */

import { page } from "../core/frame.js";
import { el, fill } from "../core/dom.js";
import { chatModels } from "../answers/models.js";
import { Chat } from "../ai-chat/chat.js";
import { Store } from "../ai-chat/store.js";

const quiet = (/** @type {string} */ words, /** @type {() => void} */ onclick) => el("button.quiet", { type: "button", onclick }, words);

page(async ({ content, me }) => {
  /** @type {Chat | null} */
  let chat = null;
  const [models, store] = await Promise.all([chatModels(), Store.open(me.user, (id) => chat?.elsewhere(id))]);
  const made = (chat = new Chat(store, models, me));
  const menu = el("details.menu", {
    onfocusout: (/** @type {FocusEvent} */ event) => menu.contains(/** @type {Node | null} */ (event.relatedTarget)) || (menu.open = false),
    onclick: (/** @type {Event} */ event) => /** @type {HTMLElement} */ (event.target).closest("button") && (menu.open = false),
    onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && (menu.open = false),
  }, el("summary", { "aria-label": "This conversation" }, "⋯"), el("div.menu-items", null,
    quiet("Rename", () => made.rename()),
    quiet("Export", () => made.export()),
    quiet("Delete", () => made.remove())));
  const room = el("div.chat", null,
    el("aside.history", { "aria-label": "Conversations" },
      el("button.new", { type: "button", onclick: () => made.fresh() }, "+ New"),
      made.history,
      el("div.row.history-foot", null, quiet("Export all", () => made.exportAll()), quiet("Delete all", () => made.removeAll()))),
    el("section.talk", { "aria-label": "Chat" },
      el("div.talk-head", null,
        el("button.quiet.to-history", { type: "button", "aria-label": "Conversations", onclick: () => listing(!room.classList.contains("listing")) }, "☰"),
        made.picker, el("span.grow", null), menu),
      made.scroller, made.said,
      el("div.talk-foot", null, made.follower.chip, made.composer.form)));
  const listing = (/** @type {boolean} */ isOpen) => {
    room.classList.toggle("listing", isOpen);
    if (isOpen) room.querySelector(".new")?.focus();
  };
  room.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && listing(false));
  room.querySelector(".talk").addEventListener("click", (/** @type {Event} */ event) => event.target === event.currentTarget && listing(false)); // the shade around the list
  if (!store.isKept) room.querySelector(".history")?.append(el("p.small.warn", null, "This browser keeps nothing: export what you need."));
  fill(content, room);
  addEventListener("popstate", () => made.openAddressed());
  addEventListener("online", () => made.retry(["offline"]));
  document.addEventListener("signed-in-again", () => made.retry(["invalid_api_key", "missing_api_key"]));
  new ResizeObserver(() => made.follower.grown()).observe(made.turns);
  await made.openAddressed();
  made.composer.field.focus();
});
