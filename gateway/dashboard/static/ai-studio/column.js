// @ts-check
/** One model's answer: its picker above, its words, its receipt below. */

import { copyButton, el, fill } from "../core/dom.js";
import { wordsFor } from "../core/frame.js";
import { complete } from "../answers/completion.js";
import { modelPicker, usedUp } from "../answers/models.js";
import { costIn, receiptLine, receiptOf } from "../answers/receipts.js";
import { Writing } from "../answers/writing.js";
import { formatOf, messagesOf } from "./settings.js";
import { misfit } from "./schema.js";

/** @typedef {import("./settings.js").Settings} Settings */
/** @typedef {import("../answers/models.js").MyModel} MyModel */
/** @typedef {import("../answers/completion.js").Ending} Ending */

export class Column {
  /** @param {MyModel[]} models @param {string | null} chosen @param {string} label @param {string | null} currency */
  constructor(models, chosen, label, currency) {
    this.models = models;
    this.currency = currency;
    this.picker = modelPicker(models, chosen, label);
    this.words = el("div.words", null, el("p.muted", null, "The answer comes here."));
    this.foot = el("div.column-foot", { role: "status" });
    this.root = el("section.column", { "aria-label": label }, this.picker, this.words, this.foot);
    this.abort = new AbortController();
    this.text = "";
    /** @type {Writing | null} */
    this.writing = null;
  }

  get mine() {
    return this.models.find(({ model }) => model.name === this.picker.value);
  }

  /** @param {Settings} settings */
  async run(settings) {
    this.abort = new AbortController();
    this.text = "";
    this.writing?.drop();
    fill(this.foot);
    fill(this.words, el("p.muted", null, "Waiting for the first word …"));
    this.writing = new Writing(this.words);
    const { mine } = this;
    const ending = await complete("/api/ai/studio", {
      modelId: mine?.model.id,
      systemPrompt: settings.system || undefined,
      messages: messagesOf(settings),
      temperature: settings.temperature ?? undefined,
      maxTokens: settings.maxTokens ?? undefined,
      response_format: settings.schema ? formatOf(settings.schema) : undefined,
      stream: true,
    }, { signal: this.abort.signal, onText: (text) => this.heard(text, settings.schema) });
    this.ended(ending, settings);
    if (ending.requestId && !ending.fault) this.price(ending, settings, this.abort);
  }

  /** What it cost, unless another answer is on its way by then. @param {Ending} ending @param {Settings} settings @param {AbortController} run */
  async price(ending, settings, run) {
    const cost = costIn(await receiptOf(String(ending.requestId)));
    if (run === this.abort) this.close(ending, settings, cost);
  }

  /** @param {string} text @param {any} schema */
  heard(text, schema) {
    if (!this.text) fill(this.words);
    if (!this.text && schema) this.writing?.add("```json\n");
    this.text += text;
    this.writing?.add(text);
  }

  /** @param {Ending} ending @param {Settings} settings */
  ended(ending, settings) {
    if (!this.text) fill(this.words);
    else if (settings.schema) this.indent();
    this.writing?.end();
    this.close(ending, settings, null);
  }

  /** An answer in a schema is easier to read on lines of its own. */
  indent() {
    let value;
    try {
      value = JSON.parse(this.text);
    } catch {
      return;
    }
    this.writing?.drop();
    fill(this.words);
    this.writing = new Writing(this.words);
    this.writing.add(`\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\`\n`);
  }

  /** @param {Ending} ending @param {Settings} settings @param {number | null} cost */
  close(ending, settings, cost) {
    fill(this.foot, this.notice(ending), settings.schema && !ending.fault && !ending.stopped && this.fits(settings.schema),
      el("div.row", null, receiptLine({ ...ending, cost }, this.currency), this.text && copyButton(() => this.text)));
  }

  /** @param {Ending} ending */
  notice({ fault, stopped, finish }) {
    if (fault?.code === "stream_incomplete") return el("p.note.bad", { role: "alert" }, el("strong", null, "The answer broke off. "), "What came is kept. Try again.");
    if (fault) {
      const [title, words] = wordsFor(fault);
      const limit = fault.code === "insufficient_quota" ? usedUp(this.mine, this.currency) : null;
      return el("div.note.bad", { role: "alert" }, el("p", null, el("strong", null, `${title}. `), limit ?? words),
        fault.requestId && copyButton(() => String(fault.requestId), "Copy request id"));
    }
    if (stopped) return el("p.small.muted", null, "Stopped.");
    return finish === "length" ? el("p.small.muted", null, "It ended here: the answer had reached its longest length.") : null;
  }

  /** Whether the answer is in the schema. @param {any} schema */
  fits(schema) {
    let fault;
    try {
      fault = misfit(JSON.parse(this.text), schema);
    } catch {
      fault = "the answer is not JSON";
    }
    return fault ? el("p.small.bad", null, `✗ Not in the schema: ${fault}.`) : el("p.small.good", null, "✓ The answer is in the schema.");
  }

  stop() {
    this.abort.abort();
  }
}

