// @ts-check
/** What goes to the gateway and comes back, for one answer of a conversation. */

import { complete } from "../answers/completion.js";
import { chatModels, usedUp } from "../answers/models.js";
import { costIn, receiptOf } from "../answers/receipts.js";
import { wordsFor } from "../core/frame.js";
import { newId } from "./store.js";

/** @typedef {import("./store.js").Conversation} Conversation */
/** @typedef {import("./store.js").Turn} Turn */
/** @typedef {import("../core/api.js").ApiError} ApiError */

const SAVE_EVERY = 1000; // milliseconds, while words come

/** An answer on its way. `view` is where it is drawn, while its conversation is the open one. */
export class Talk {
  /**
   * @param {Conversation} conversation
   * @param {string} model
   * @param {string | null} currency
   * @param {() => Promise<void>} save
   */
  constructor(conversation, model, currency, save) {
    this.conversation = conversation;
    this.currency = currency;
    this.save = save;
    /** @type {Turn} */
    this.turn = { id: newId(), role: "assistant", text: "", model };
    /** @type {import("./turns.js").AnswerTurn | null} */
    this.view = null;
    this.abort = new AbortController();
    this.saved = 0;
    this.body = { model, messages: messagesOf(conversation), stream: true, stream_options: { include_usage: true } };
    conversation.turns.push(this.turn);
  }

  /** Ask, hear, and keep it; never raises. */
  async run() {
    const { turn } = this;
    const ending = await complete("/v1/chat/completions", this.body, {
      signal: this.abort.signal,
      onText: (text) => this.heard("text", text),
      onThought: (text) => this.heard("thought", text),
    });
    const { model, tokens, firstWord, requestId, finish, stopped, fault } = ending;
    Object.assign(turn, { model: model ?? turn.model, tokens, firstWord, requestId, finish, stopped });
    turn.fault = fault && (await told(fault, String(this.body.model), this.currency));
    this.conversation.updated = Date.now();
    await this.save();
  }

  /** What it cost, where the gateway says so. */
  async price() {
    const { turn } = this;
    if (!turn.requestId || turn.fault?.code === "offline") return;
    const receipt = await receiptOf(turn.requestId);
    turn.cost = costIn(receipt);
    if (turn.cost !== null) await this.save();
  }

  /** @param {"text" | "thought"} kind @param {string} text */
  heard(kind, text) {
    this.turn[kind] = (this.turn[kind] ?? "") + text;
    if (kind === "text") this.view?.add(text);
    else this.view?.think(text);
    if (performance.now() - this.saved > SAVE_EVERY) {
      this.saved = performance.now();
      this.save();
    }
  }

  stop() {
    this.abort.abort();
  }
}

/** What the model is told: turns without words are left out. @param {Conversation} conversation */
function messagesOf({ turns }) {
  return turns.filter((turn) => turn.text).map(({ role, text }) => ({ role, content: text }));
}

/** A fault in words, with what to do. @param {ApiError} fault @param {string} model @param {string | null} currency */
async function told(fault, model, currency) {
  let [title, words] = wordsFor(fault);
  if (fault.code === "insufficient_quota") {
    const mine = await chatModels().catch(() => []);
    words = usedUp(mine.find((each) => each.model.name === model), currency) ?? words;
  }
  if (fault.code === "stream_incomplete") [title, words] = ["The answer broke off", "What came is kept. Try again."];
  return { code: fault.code, title, words, requestId: fault.requestId };
}
