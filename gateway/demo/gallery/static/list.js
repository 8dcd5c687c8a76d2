// @ts-check
/** Every state in a list; the chosen one in a frame, as wide as one likes, dark or light. */

/** @typedef {{name: string, page: string, about: string, url: string}} State */

/** @type {State[]} */
const states = JSON.parse(document.getElementById("states")?.textContent ?? "[]");
const frame = made("iframe", { title: "The page in this state" });
const alone = made("a", { target: "_blank", rel: "noopener" }, "Alone in a tab");
const about = made("p", {}, "");
let wide = "", theme = "";

/**
 * @param {string} tag @param {Record<string, string>} attributes @param {...(Node | string)} children
 * @returns {any}
 */
function made(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function show() {
  const name = decodeURIComponent(location.hash.slice(1));
  const chosen = states.find((each) => each.name === name) ?? states[0];
  const url = `${chosen.url}#theme=${theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")}`;
  frame.dataset.wide = wide;
  if (frame.dataset.url !== url) frame.src = url;
  frame.dataset.url = url;
  about.textContent = `${chosen.page}: ${chosen.about}`;
  alone.href = chosen.url;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.getAttribute("href") === `#${chosen.name}`) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
}

/** @param {string} title @param {[string, string][]} options @param {(value: string) => void} choose */
function chooser(title, options, choose) {
  const buttons = options.map(([value, words]) => {
    const button = made("button", { type: "button", "aria-pressed": String(value === "") }, words);
    button.addEventListener("click", () => {
      choose(value);
      buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      show();
    });
    return button;
  });
  return made("div", { role: "group", "aria-label": title, class: "row" }, ...buttons);
}

const pages = [...new Set(states.map((each) => each.page))];
document.body.append(made("div", { class: "gallery" },
  made("nav", { "aria-label": "States" }, made("h1", {}, "Gallery"), ...pages.flatMap((page) => [
    made("h2", {}, page),
    ...states.filter((each) => each.page === page).map((each) => made("a", { href: `#${each.name}`, title: each.about }, each.name)),
  ])),
  made("section", {},
    made("div", { class: "spread" }, about,
      chooser("Width", [["", "Wide"], ["720", "720"], ["360", "360"]], (value) => (wide = value)),
      chooser("Theme", [["", "System"], ["light", "Light"], ["dark", "Dark"]], (value) => (theme = value)), alone),
    frame)));
addEventListener("hashchange", show);
show();
