// @ts-check
/** Keep the end in sight while words come, until the reader scrolls up; then a chip leads back. */

import { el } from "../core/dom.js";

const NEAR = 48; // pixels from the end that still count as the end

export class Follower {
  /** @param {HTMLElement} scroller */
  constructor(scroller) {
    this.scroller = scroller;
    this.follows = true;
    this.last = 0;
    this.chip = el("button.chip", { type: "button", hidden: true, onclick: () => this.toEnd() }, "↓ new");
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const isUp = scrollTop < this.last - 1;
    this.last = scrollTop;
    if (scrollHeight - scrollTop - clientHeight <= NEAR) this.follows = true;
    else if (isUp) this.follows = false;
    if (this.follows && !this.chip.hidden) this.chip.hidden = true; // its style would be looked up with each frame
  }

  /** Something was drawn at the end. */
  grown() {
    if (this.follows) {
      this.scroller.scrollTop = this.scroller.scrollHeight;
      this.last = this.scroller.scrollTop;
    } else if (this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight > NEAR) this.chip.hidden = false;
  }

  toEnd() {
    this.follows = true;
    this.chip.hidden = true;
    this.grown();
  }
}
