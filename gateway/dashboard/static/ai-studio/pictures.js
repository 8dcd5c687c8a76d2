// @ts-check
/** Pictures that go with a message: dropped, pasted or picked; sent as data URLs, shown from this browser's own memory. */

import { el } from "../core/dom.js";
import { short } from "../core/names.js";

const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const MOST_BYTES = 15 * 2 ** 20; // all together; as base64 they are a third more

/**
 * @param {HTMLElement} zone where they may be dropped or pasted
 * @param {(words: string) => void} refuse
 */
export function pictures(zone, refuse) {
  /** @type {{url: string, bytes: number}[]} */
  const held = [];
  const strip = el("ul.pictures", { "aria-label": "Pictures" });
  const picker = el("input.visually-hidden", { type: "file", accept: KINDS.join(","), multiple: true, tabindex: "-1", "aria-hidden": "true", onchange: () => {
    take(picker.files);
    picker.value = "";
  } });
  const button = el("button", { type: "button", onclick: () => picker.click() }, "Add pictures");

  /** @param {Iterable<File> | null | undefined} files */
  async function take(files) {
    for (const file of [...(files ?? [])]) { // the list empties while the first is read
      if (!KINDS.includes(file.type)) refuse(`“${short(file.name)}” is no PNG, JPEG, WebP or GIF.`);
      else if (held.reduce((sum, each) => sum + each.bytes, file.size) > MOST_BYTES) refuse("The pictures are more than 15 MB together.");
      else await add(file);
    }
  }

  /** @param {File} file */
  async function add(file) {
    const picture = { url: await dataUrl(file), bytes: file.size };
    held.push(picture);
    const shown = URL.createObjectURL(file);
    const name = short(file.name || "picture");
    const item = el("li", null,
      el("img", { src: shown, alt: name }),
      el("button.quiet", { type: "button", "aria-label": `Remove ${name}`, onclick: () => {
        held.splice(held.indexOf(picture), 1);
        URL.revokeObjectURL(shown);
        item.remove();
        button.focus();
      } }, "×"));
    strip.append(item);
  }

  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer?.files);
  });
  zone.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      take(event.clipboardData.files);
    }
  });
  return { nodes: [strip, el("div.row", null, button, picker, el("span.small.muted", null, "or drop or paste them"))], urls: () => held.map((each) => each.url) };
}

/** @param {File} file @returns {Promise<string>} */
function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
