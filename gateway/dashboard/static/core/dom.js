// @ts-check
/** Build DOM nodes. Text is always text: nothing here takes HTML. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element.
 * @param {string} tag `div`, `div.class.other`
 * @param {Record<string, any> | null} [attributes] `onclick` and the like are listeners; `true` is an empty attribute
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function el(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) set(node, key, value);
  node.append(...nodes(children));
  return node;
}

/**
 * @param {Element} node
 * @param {string} key
 * @param {any} value
 */
function set(node, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key.startsWith("on") && typeof value === "function") node.addEventListener(key.slice(2), value);
  else if (key === "value") /** @type {any} */ (node).value = value;
  else if (key === "dataset") Object.assign(/** @type {HTMLElement} */ (node).dataset, value);
  else node.setAttribute(key, value === true ? "" : String(value));
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
function nodes(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * Replace what a node holds.
 * @param {Element} node
 * @param {...(Child | Child[])} children
 */
export function fill(node, ...children) {
  node.replaceChildren(...nodes(children));
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an SVG element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes ?? {})) set(node, key, value);
  node.append(...nodes(children));
  return node;
}

/**
 * Show a dialog; its promise is settled when it closes, with what closed it.
 * @param {string} title
 * @param {(close: (value?: any) => void) => (Child | Child[])} content
 * @returns {Promise<any>}
 */
export function ask(title, content) {
  return new Promise((resolve) => {
    /** @type {any} */
    let answer;
    const close = (/** @type {any} */ value) => {
      answer = value;
      dialog.close();
    };
    const dialog = el("dialog", { "aria-label": title }, el("h1", null, title));
    dialog.append(...nodes([content(close)]));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Say something for a moment, aloud to screen readers.
 * @param {string} text
 */
export function toast(text) {
  const node = el("div.toast", { role: "status" }, text);
  document.body.append(node);
  setTimeout(() => node.remove(), 4000);
}

/**
 * A button that copies a text.
 * @param {() => string} text
 * @param {string} [label]
 */
export function copyButton(text, label = "Copy") {
  const button = el("button.quiet", {
    type: "button",
    onclick: async () => {
      await copy(text());
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 1500);
    },
  }, label);
  return button;
}

/** @param {string} text */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = el("textarea.visually-hidden", { value: text }); // plain http on a LAN has no clipboard
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
