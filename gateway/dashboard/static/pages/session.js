// @ts-check
/** Sign in: by a ticket that the address brings, else by a key. */

import { api, ApiError, isFramed, keepsCookie } from "../core/api.js";
import { el } from "../core/dom.js";
import { bare, goOn, inWindow, signIn, state, wordsFor } from "../core/frame.js";

const asked = new URLSearchParams(location.search);
const ticket = asked.get("ticket");
const next = asked.get("next");
history.replaceState(null, "", next ? `?next=${encodeURIComponent(next)}` : location.pathname);
/** @param {...any} parts */
const show = (...parts) => document.body.replaceChildren(bare(...parts));
show();

async function byTicket() {
  try {
    const answer = await api("/dashboard/session", { method: "POST", body: { ticket, next } });
    await goOn(answer.next);
  } catch (error) {
    const [title, words] = error instanceof ApiError ? wordsFor(error) : ["That did not work", String(error)];
    show(state(title, words), signIn(undefined, ""));
  }
}

async function start() {
  if (!ticket) {
    show(signIn());
    return;
  }
  // Tried before the ticket is used up: a window can still use it.
  const kind = location.protocol === "https:" ? "; SameSite=None; Secure; Partitioned" : "; SameSite=Strict";
  if (isFramed() && !keepsCookie(kind)) {
    show(inWindow(`/dashboard/session?${asked}`));
    return;
  }
  let me = null;
  try {
    me = await api("/api/ai/me");
  } catch {
    // nobody is signed in
  }
  if (!me) return byTicket();
  show(state("Somebody is signed in", `You are signed in as ${me.name ?? `user ${me.user}`}. Go on as whom this link is for?`,
    el("div.row", null,
      el("button.primary", { type: "button", onclick: byTicket }, "Go on"),
      el("a.button", { href: "/dashboard/ai-chat" }, "Stay"),
    )));
}

start();
