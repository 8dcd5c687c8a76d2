// @ts-check
/** The frame around every page: pages at the left, title, account and theme; keys that work everywhere. */

import { api, ApiError, isFramed, onSessionOver } from "./api.js";
import { ask, el, fill } from "./dom.js";
import { duration } from "./format.js";
import { forget, isKept, ofBrowser } from "./kept.js";
import { navigation, pageKeys, PAGES, pagesOf } from "./navigation.js";
import { keepTimesTrue } from "./times.js";

/** @typedef {{user: number | string, name: string | null, tier: string, scopes: string[], features: Record<string, boolean>, currency: string | null}} Me */

/**
 * Draw a page in its frame: signed in, or the form to sign in.
 * @param {(room: {content: HTMLElement, me: Me, title: HTMLElement}) => void | Promise<void>} draw
 */
export async function page(draw) {
  const name = document.body.dataset.page ?? "";
  theme(ofBrowser.read("theme"));
  let over = true; // until somebody is signed in
  onSessionOver(() => {
    if (over) return;
    over = true;
    signInAgain(me).then(() => (over = false));
  });
  const content = el("main.content", { id: "content" });
  const title = el("h1", null, PAGES.find((each) => each.name === name)?.title ?? "");
  /** @type {Me} */
  let me;
  try {
    me = await api("/api/ai/me");
    over = false;
  } catch (error) {
    document.body.replaceChildren(bare(error instanceof ApiError && error.status === 401 ? signIn() : failure(error)));
    return;
  }
  const mine = pagesOf(me);
  document.body.replaceChildren(
    el("div.frame", null,
      navigation(mine, name),
      el("div.room", null, el("header.head", null, title, account(me), themeButton()), content),
    ),
  );
  pageKeys(mine);
  keepTimesTrue();
  const mayBeHere = mine.some((each) => each.name === name);
  if (!mayBeHere) {
    const isOff = me.features.ai === false && PAGES.some((each) => each.name === name && each.ai);
    fill(content, isOff ? state("AI is switched off", "Your operator has switched it off for now. What you have written is kept; come back later.", again()) : state("Not yours", "Your key does not open this page. Ask whoever gave it to you, or sign in with another."));
    return;
  }
  try {
    await draw({ content, me, title });
  } catch (error) {
    fill(content, failure(error));
  }
}

/** A page without its frame. @param {...any} content */
export const bare = (...content) => el("main.content.bare", null, el("h1.brand", null, "ecli"), content);

/** @param {Me} me */
function account(me) {
  const shown = me.name ?? `user ${me.user}`;
  return el("button.quiet", {
    type: "button",
    "aria-label": `Account: ${shown}`,
    onclick: async () => {
      const kept = await isKept(me.user);
      const forgets = el("input", { type: "checkbox" });
      const out = await ask(shown, (close) => [
        el("p.muted", null, `User ${me.user}, tier ${me.tier}.`),
        kept && el("label.check", null, forgets, "Signing out: also delete my conversations from this browser"),
        el("div.row.end", null,
          el("button", { type: "button", onclick: () => close(false) }, "Close"),
          el("button.danger", { type: "button", onclick: () => close(true) }, "Sign out"),
        ),
      ]);
      if (!out) return;
      document.dispatchEvent(new CustomEvent("signing-out"));
      if (forgets.checked) await forget(me.user);
      await api("/dashboard/session", { method: "DELETE" });
      location.href = "/dashboard/session";
    },
  }, shown);
}

/** @param {string | null} chosen */
function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

function themeButton() {
  return el("button.quiet", {
    type: "button",
    "aria-label": "Dark or light",
    onclick: () => {
      const isDark = getComputedStyle(document.documentElement).colorScheme.includes("dark")
        && (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
      const next = isDark ? "light" : "dark";
      ofBrowser.write("theme", next);
      theme(next);
    },
  }, "☾");
}

/** The form to sign in with a key. @param {(answer: any) => void} [onDone] else the page that was asked for is loaded */
export function signIn(onDone = (answer) => goOn(answer.next), title = "Sign in") {
  const words = el("p.note.bad", { role: "alert", hidden: true });
  const field = el("input", { type: "password", name: "key", autocomplete: "current-password", required: true });
  requestAnimationFrame(() => field.focus());
  const form = el("form.state", {
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      try {
        const next = new URLSearchParams(location.search).get("next") ?? (document.body.dataset.page === "session" ? null : location.pathname + location.search);
        const answer = await api("/dashboard/session", { method: "POST", body: { key: field.value, next } });
        await onDone(answer);
      } catch (error) {
        words.hidden = false;
        words.textContent = error instanceof ApiError && error.status === 401 ? "This key is not valid. Check it for missing characters." : String(/** @type {Error} */ (error).message);
        field.focus();
      }
    },
  }, title && el("h2", null, title), el("label", null, "Your key", field), words, el("button.primary", { type: "submit" }, "Sign in"));
  return form;
}

/**
 * Go on to a page; where the browser kept no cookie for a frame, offer a window of its own.
 * @param {string} next
 */
export async function goOn(next) {
  const isKept = !isFramed() || (await api("/api/ai/me").then(() => true, () => false));
  if (isKept) location.href = next;
  else document.body.replaceChildren(bare(inWindow(next)));
}

/** A browser that keeps no cookies of frames: a window has them. @param {string} address */
export function inWindow(address) {
  return state("Not inside this frame", "Your browser keeps no session for framed pages.",
    el("a.button", { href: address, target: "_blank", rel: "noopener" }, "Open in a window"));
}

/** In place, so that nothing typed is lost; somebody else gets a page of their own. @param {Me} me */
async function signInAgain(me) {
  const answer = await ask("Your session is over", (close) => [el("p", null, "Sign in again to go on; what you have typed is kept."), signIn(close, "")]);
  if (!answer) return;
  if (String(answer.user) !== String(me.user)) await goOn(answer.next);
  else document.dispatchEvent(new CustomEvent("signed-in-again"));
}

/**
 * A state with a face: what it is, and what to do.
 * @param {string} title
 * @param {string} words
 * @param {...any} more
 */
export function state(title, words, ...more) {
  return el("div.state", { role: "status" }, el("h2", null, title), el("p.muted", null, words), ...more);
}

/** What went wrong, and what to do. @param {unknown} error */
export function failure(error) {
  if (!(error instanceof ApiError)) return state("Something broke on this page", String(/** @type {any} */ (error)?.message ?? error), again());
  const [title, words] = wordsFor(error);
  return state(title, words, error.requestId && el("p.small.muted", null, "Request ", el("code", null, error.requestId)), again());
}

function again() {
  return el("button", { type: "button", onclick: () => location.reload() }, "Try again");
}

/**
 * A title and words for an error, for people.
 * @param {ApiError} error
 * @returns {[string, string]}
 */
export function wordsFor(error) {
  const wait = error.retryAfter ? ` Try again in ${duration(error.retryAfter)}.` : "";
  switch (error.code) {
    case "offline": return ["You are offline", error.message];
    case "feature_disabled": return ["AI is switched off", "Your operator has switched it off for now."];
    case "no_model_granted": return ["No model yet", "No AI model has been set up for your account yet. Please ask your administrator for one."];
    case "model_not_accessible": return ["This model is not yours", error.message];
    case "tier_required": return ["Not in your tier", `This needs the tier ${error.body?.required ?? "above yours"}. Ask your administrator for it.`];
    case "rate_limit_exceeded": return ["Too fast", `${error.message}${wait}`];
    case "insufficient_quota": return ["Limit reached", error.message];
    case "upstream_rate_limited": return ["The model is busy", `Its provider asks us to wait.${wait}`];
    case "overloaded": case "shutting_down": return ["The gateway is busy", wait.trim() || "Try again in a moment."];
    case "store_unavailable": case "ledger_unavailable": return ["Not at the moment", `${error.message}${wait}`.trim() || "Try again in a moment."];
    case "upstream_timeout": return ["No answer in time", "The model took too long. Try again, or choose another."];
    case "upstream_error": case "ai_unavailable": case "upstream_credentials_rejected": return ["The model could not answer", "Its provider failed. Try again shortly, or choose another."];
    case "stream_incomplete": return ["The answer broke off", "The answer broke off. Try again."];
    case "invalid_ticket": return ["This link was used already", "It signs in once, within a minute. Go back to where you found it for another, or sign in with a key."];
    case "invalid_api_key": case "missing_api_key": return ["Signed out", "Sign in again."];
    default: return ["That did not work", error.message];
  }
}
