// @ts-check
/** What to paste into which client, with this gateway's address, a model and a key. */

import { copyButton, el, fill } from "../core/dom.js";

const LONGEST_NAME = 200; // a longer one is not pasted: MODEL stands for it

/** @typedef {{address: string, key: string, model: string}} Filled */

/** @type {[string, string, (filled: Filled) => string][]} title, where it goes, its text */
const CLIENTS = [
  ["Python", "pip install openai", ({ address, key, model }) => `from openai import OpenAI

client = OpenAI(base_url=${quoted(`${address}/v1`)}, api_key=${quoted(key)})
answer = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": "Hello!"}],
)
print(answer.choices[0].message.content)`],
  ["Node", "npm install openai", ({ address, key, model }) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(`${address}/v1`)}, apiKey: ${quoted(key)} });
const answer = await client.chat.completions.create({
  model: ${quoted(model)},
  messages: [{ role: "user", content: "Hello!" }],
});
console.log(answer.choices[0].message.content);`],
  ["curl", "in a shell", ({ address, key, model }) => `curl ${shell(`${address}/v1/chat/completions`)} \\
  -H ${shell(`Authorization: Bearer ${key}`)} \\
  -H 'Content-Type: application/json' \\
  -d ${shell(`{"model": ${quoted(model)}, "messages": [{"role": "user", "content": "Hello!"}]}`)}`],
  ["Codex", "~/.codex/config.toml, and the key in the environment", ({ address, key, model }) => `# export ECLI_KEY=${shell(key)}
model = ${quoted(model)}
model_provider = "ecli"

[model_providers.ecli]
name = "ecli"
base_url = ${quoted(`${address}/v1`)}
env_key = "ECLI_KEY"
wire_api = "responses"`],
  ["Claude Code", "in a shell", ({ address, key, model }) => `export ANTHROPIC_BASE_URL=${shell(address)}
export ANTHROPIC_AUTH_TOKEN=${shell(key)}
export ANTHROPIC_MODEL=${shell(model)}
claude`],
  ["opencode", "opencode.json", ({ address, key, model }) => `{
  "provider": {
    "ecli": {
      "npm": "@ai-sdk/openai-compatible",
      "options": {"baseURL": ${quoted(`${address}/v1`)}, "apiKey": ${quoted(key)}},
      "models": {${quoted(model)}: {}}
    }
  }
}`],
  ["Open WebUI", "pip install open-webui; or in its Settings → Connections", ({ address, key }) => `export OPENAI_API_BASE_URL=${shell(`${address}/v1`)}
export OPENAI_API_KEY=${shell(key)}
open-webui serve`],
  ["LangChain", "pip install langchain-openai", ({ address, key, model }) => `from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    base_url=${quoted(`${address}/v1`)},
    api_key=${quoted(key)},
    model=${quoted(model)},
)
print(chat.invoke("Hello!").content)`],
];

/** A string as Python, JavaScript, TOML and JSON write it; nothing in it is invisible. @param {string} text */
export function quoted(text) {
  return JSON.stringify(text).replace(/[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A word of a shell. @param {string} text */
export function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Tabs of snippets; arrow keys go from one to the next.
 * @param {{key: string, model: string | null}} filled
 */
export function snippets({ key, model }) {
  const usable = model !== null && model.length <= LONGEST_NAME && !/[\u0000-\u001f\u007f]/.test(model);
  const values = { address: location.origin, key, model: usable ? model : "MODEL" };
  const unique = `tabs-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  const panel = el("div.snippet", { role: "tabpanel", id: unique });
  /** @type {HTMLElement[]} */
  const tabs = CLIENTS.map(([title], place) => el("button.tab", {
    type: "button", role: "tab", id: `${unique}-${place}`, "aria-controls": unique, onclick: () => show(place), onkeydown: walk,
  }, title));

  /** @param {number} place */
  function show(place) {
    const [, where, text] = CLIENTS[place];
    tabs.forEach((tab, each) => {
      tab.setAttribute("aria-selected", String(each === place));
      tab.tabIndex = each === place ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", tabs[place].id);
    const code = text(values);
    fill(panel, el("div.spread", null, el("span.small.muted", null, where), copyButton(() => code)), el("pre", { tabindex: "0" }, el("code", null, code)));
  }

  /** @param {KeyboardEvent} event */
  function walk(event) {
    const here = tabs.indexOf(/** @type {HTMLElement} */ (event.currentTarget));
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const place = (to + tabs.length) % tabs.length;
    show(place);
    tabs[place].focus();
  }

  show(0);
  return el("div", null, el("div.tabs", { role: "tablist", "aria-label": "Clients" }, tabs), panel);
}
