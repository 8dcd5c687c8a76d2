// @ts-check
/** Studio: settings at the left, one or two models at the right. */

import { api, ApiError } from "../core/api.js";
import { ask, copyButton, el, fill } from "../core/dom.js";
import { page, state } from "../core/frame.js";
import { databaseOf } from "../core/kept.js";
import { chatModels } from "../answers/models.js";
import { asCode } from "../ai-studio/code.js";
import { Column } from "../ai-studio/column.js";
import { formatOf, messagesOf, settingsForm } from "../ai-studio/settings.js";

const SHOWN = 20_000; // characters of code: pictures make it long

/** The tier that is missing, null where the studio is open. A body without a message is refused, but for the tier first. */
async function missingTier() {
  try {
    await api("/api/ai/studio", { method: "POST", body: {} });
  } catch (error) {
    if (error instanceof ApiError && error.code === "tier_required") return String(error.body?.required ?? "a higher one");
    if (!(error instanceof ApiError) || error.status !== 400) throw error;
  }
  return null;
}

/** @param {string} tier @param {string} mine */
function closed(tier, mine) {
  return state("Studio is not in your tier",
    `In Studio you try a prompt on two models side by side, with pictures, settings and answers in a schema of your own. It needs the tier ${tier}; yours is ${mine}. Ask your administrator for it.`,
    el("a.button", { href: "/dashboard/ai-chat" }, "Go to Chat"));
}

/** @param {import("../ai-studio/settings.js").Settings} settings @param {string} model */
async function showCode(settings, model) {
  const system = settings.system ? [{ role: "system", content: settings.system }] : [];
  const codes = asCode({
    model,
    messages: [...system, ...messagesOf(settings)],
    ...(settings.temperature !== null && { temperature: settings.temperature }),
    ...(settings.maxTokens !== null && { max_tokens: settings.maxTokens }),
    ...(settings.schema && { response_format: formatOf(settings.schema) }),
  }, location.origin);
  let chosen = "curl";
  const shown = el("code");
  const tabs = Object.keys(codes).map((name) => el("button.quiet", { type: "button", onclick: () => choose(name) }, name));
  /** @param {string} name */
  function choose(name) {
    chosen = name;
    shown.textContent = codes[name].length > SHOWN ? `${codes[name].slice(0, SHOWN)}\n… (Copy has all of it)` : codes[name];
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.textContent === name)));
  }
  choose(chosen);
  await ask("This request as code", (close) => [
    el("figure.code", null, el("figcaption", null, el("span.tabs", { role: "group", "aria-label": "Language" }, tabs), copyButton(() => codes[chosen])),
      el("pre", { tabindex: "0", "aria-label": "Code" }, shown)),
    el("p.small.muted", null, "Put a key of yours into ECLI_KEY; the page ", el("a", { href: "/dashboard/keys" }, "Keys"), " makes one."),
    el("div.row.end", null, el("button", { type: "button", onclick: () => close() }, "Close")),
  ]);
}

page(async ({ content, me }) => {
  const tier = await missingTier();
  if (tier !== null) return fill(content, closed(tier, me.tier));
  const models = await chatModels();
  if (!models.length) {
    return fill(content, state("No model yet", "No AI model has been set up for your account yet. Please ask your administrator for one."));
  }
  const settings = settingsForm(`${databaseOf(me.user)}:studio`);
  const columns = [new Column(models, null, "Model", me.currency)];
  const room = el("div.columns", null, columns[0].root);
  const run = el("button.primary", { type: "submit" }, "Run");
  const second = el("button", { type: "button", "aria-pressed": "false", onclick: () => compare() }, "Compare two");
  settings.form.append(el("div.row.actions", null, run, second,
    el("button", { type: "button", onclick: () => {
      const read = settings.read();
      if (read) showCode(read, columns[0].picker.value);
    } }, "Copy as code")));
  let isRunning = false;

  function compare() {
    if (columns.length === 1) {
      const other = models.find(({ model }) => model.name !== columns[0].picker.value) ?? models[0];
      columns.push(new Column(models, other.model.name, "Second model", me.currency));
      room.append(columns[1].root);
    } else columns.pop()?.root.remove();
    second.setAttribute("aria-pressed", String(columns.length === 2));
    room.classList.toggle("two", columns.length === 2);
  }

  async function start() {
    if (isRunning) return columns.forEach((column) => column.stop());
    const read = settings.read();
    if (!read) return;
    isRunning = true;
    run.textContent = "■ Stop";
    second.disabled = true;
    room.scrollIntoView({ block: "nearest" });
    await Promise.all(columns.map((column) => column.run(read)));
    isRunning = false;
    run.textContent = "Run";
    second.disabled = false;
  }

  settings.form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    start();
  });
  settings.form.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !isRunning) {
      event.preventDefault();
      start();
    } else if (event.key === "Escape" && isRunning) start();
  });
  fill(content, el("div.studio", null, settings.form, room));
  settings.message.focus();
});
