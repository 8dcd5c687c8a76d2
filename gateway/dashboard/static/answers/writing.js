// @ts-check
/** An answer being written: words come in whenever they come, and are drawn a few milliseconds a frame. */

import { Blocks } from "./blocks.js";
import { Nodes } from "./nodes.js";

const SLICE = 512; // characters that are read at once
const BUDGET = 5; // milliseconds of each frame, for reading
const WITH_LAYOUT = 9; // with what `onDrawn` lays out
const MOST = 16_384; // characters of a frame, however fast

export class Writing {
  /**
   * @param {HTMLElement} root what is written into
   * @param {() => void} [onDrawn] after each frame that drew something
   */
  constructor(root, onDrawn = () => {}) {
    this.nodes = new Nodes(root);
    this.blocks = new Blocks(this.nodes);
    this.onDrawn = onDrawn;
    this.waiting = "";
    this.isEnding = false;
    this.frame = 0;
    this.most = 4 * SLICE; // characters of the next frame: as many as the last ones had time for
    this.ended = new Promise((resolve) => (this.resolve = resolve));
  }

  /** @param {string} text */
  add(text) {
    this.waiting += text;
    this.schedule();
  }

  /** No more comes; settled once all is drawn. */
  end() {
    this.isEnding = true;
    this.schedule();
    return this.ended;
  }

  /** Nothing of it is wanted any more. */
  drop() {
    cancelAnimationFrame(this.frame);
    this.frame = -1;
  }

  schedule() {
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const began = performance.now();
    let at = 0;
    do {
      this.blocks.feed(this.waiting.slice(at, at + SLICE));
      at += SLICE;
    } while (at < this.waiting.length && at < this.most && performance.now() - began < BUDGET);
    this.waiting = this.waiting.slice(at);
    if (this.waiting) this.schedule();
    else if (this.isEnding) {
      this.blocks.finish();
      this.frame = -1;
      this.resolve?.(undefined);
    }
    this.nodes.flush();
    this.onDrawn();
    const spent = Math.max(performance.now() - began, 0.1);
    this.most = Math.min(MOST, Math.max(SLICE, Math.min(at, this.most) * Math.min(2, WITH_LAYOUT / spent)));
  }
}

/** Write a text that is whole. @param {HTMLElement} root @param {string} text @param {() => void} [onDrawn] */
export function write(root, text, onDrawn) {
  const writing = new Writing(root, onDrawn);
  writing.add(text);
  writing.end();
  return writing;
}
