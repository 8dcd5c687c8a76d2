// @ts-check
/** Bring a page to a state as a reader would: load it, write, press, wait for what is then seen. */

const PATIENCE_MS = 20_000;

/** As the gallery's list wants it. */
function themed() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("theme");
  if (wanted) document.documentElement.dataset.theme = wanted;
}

/** @param {() => any} look @returns {Promise<any>} what was found, null once patience ends */
async function until(look) {
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end;) {
    const found = look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return null;
}

/** @type {Record<string, (...told: string[]) => any>} */
const doing = {
  /** @param {string} name @param {string} text */
  write(name, text) {
    const field = called("input, textarea, select", name);
    if (!field) return null;
    field.focus();
    field.value = text;
    for (const type of ["input", "change"]) field.dispatchEvent(new Event(type, { bubbles: true }));
    return field;
  },
  /** @param {string} name */
  press(name) {
    const button = called("button, summary, a, [type=checkbox], [type=radio]", name);
    button?.focus();
    button?.click();
    return button;
  },
  /** @param {string} name @param {string} key */
  key(name, key) {
    const field = name ? called("input, textarea, [tabindex]", name) : document.body;
    field?.focus();
    field?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    return field;
  },
  /** @param {string} text */
  see: (text) => document.body.innerText.includes(text),
  /** Only where the screen is narrow. @param {string} verb @param {...string} told */
  narrow: (verb, ...told) => !matchMedia("(max-width: 720px)").matches || doing[verb](...told),
  /** @param {string} selector */
  find: (selector) => document.querySelector(selector),
  /** @param {string} selector */
  look(selector) {
    const node = document.querySelector(selector);
    node?.scrollIntoView({ block: "center" });
    return node;
  },
};

/**
 * What has this name: in the dialog that is open, else anywhere.
 * @param {string} selector @param {string} name
 * @returns {any}
 */
function called(selector, name) {
  const room = [...document.querySelectorAll("dialog[open]")].pop() ?? document;
  const names = (/** @type {any} */ node) => [node.getAttribute("aria-label"), node.textContent, ...[...(node.labels ?? [])].map((label) => label.textContent)];
  const all = [...room.querySelectorAll(selector)].filter((node) => node.checkVisibility());
  const by = (/** @type {(shown: string) => boolean} */ test) => all.find((node) => names(node).some((each) => test(each?.trim() ?? "")));
  return by((shown) => shown === name) ?? by((shown) => shown.startsWith(name)) ?? null;
}

/**
 * What this browser kept from before.
 * @param {string} name @param {any[]} conversations
 */
async function kept(name, conversations) {
  if (!conversations.length) return;
  const asked = indexedDB.open(name, 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("conversations", { keyPath: "id" });
  await new Promise((resolve) => (asked.onsuccess = resolve));
  const change = asked.result.transaction("conversations", "readwrite");
  change.objectStore("conversations").clear();
  for (const each of conversations) change.objectStore("conversations").put(each);
  await new Promise((resolve) => (change.oncomplete = resolve));
  asked.result.close();
}

const scene = await (await fetch("/gallery/scene.json")).json();
const { documentElement: root } = document;
await kept(scene.database, scene.conversations).catch(() => {}); // a frame that may keep nothing
await import(scene.script);
themed();
addEventListener("hashchange", themed);
for (const [verb, ...told] of scene.steps) {
  const found = await until(() => doing[verb]?.(...told));
  if (!found) {
    root.dataset.scene = "failed";
    throw new Error(`The scene stopped at ${JSON.stringify([verb, ...told])}`);
  }
}
root.dataset.scene = "set";

export {};
