// @ts-check
import { page, state } from "../core/frame.js";
import { fill } from "../core/dom.js";

page(({ content }) => fill(content, state("Soon", "This page is being built.")));
