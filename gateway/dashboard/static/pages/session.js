// @ts-check
/** Sign in: by a ticket that the address brings, else by a key. */

import { api, ApiError } from "../core/api.js";
import { el, fill } from "../core/dom.js";
import { goOn, signIn, state, wordsFor } from "../core/frame.js";

const asked = new URLSearchParams(location.search);
const ticket = asked.get("ticket");
const next = asked.get("next");
history.replaceState(null, "", next ? `?next=${encodeURIComponent(next)}` : location.pathname);
const content = el("main.content");
document.body.replaceChildren(content);

async function byTicket() {
  try {
    const answer = await api("/dashboard/session", { method: "POST", body: { ticket, next } });
    await goOn(answer.next);
  } catch (error) {
    const [title, words] = error instanceof ApiError ? wordsFor(error) : ["That did not work", String(error)];
    fill(content, state(title, words), signIn());
  }
}

async function start() {
  if (!ticket) {
    fill(content, signIn());
    return;
  }
  let me = null;
  try {
    me = await api("/api/ai/me");
  } catch {
    // nobody is signed in
  }
  if (!me) return byTicket();
  fill(content, state("Somebody is signed in", `You are signed in as ${me.name ?? `user ${me.user}`}. Go on as whom this link is for?`,
    el("div.row", null,
      el("button.primary", { type: "button", onclick: byTicket }, "Go on"),
      el("a.button", { href: "/dashboard/ai-chat" }, "Stay"),
    )));
}

start();
