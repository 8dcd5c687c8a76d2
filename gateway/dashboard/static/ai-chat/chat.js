// @ts-check
/** The chat: conversations at the left, the open one at the right. */

import { el, fill, toast } from "../core/dom.js";
import { state } from "../core/frame.js";
import { databaseOf, ofTab } from "../core/kept.js";
import { offer } from "../answers/models.js";
import { composer } from "./composer.js";
import { Follower } from "./follow.js";
import { download, drawHistory, newTitle, surely } from "./history.js";
import { newConversation, newId, titleOf } from "./store.js";
import { Talk } from "./talk.js";
import { AnswerTurn, userTurn } from "./turns.js";

/** @typedef {import("./store.js").Conversation} Conversation */
/** @typedef {import("./store.js").Turn} Turn */
/** @typedef {import("../answers/models.js").MyModel} MyModel */

export class Chat {
  /**
   * @param {import("./store.js").Store} store
   * @param {MyModel[]} models
   * @param {import("../core/frame.js").Me} me
   */
  constructor(store, models, me) {
    this.store = store;
    this.models = models;
    this.me = me;
    this.conversation = newConversation(null);
    /** @type {Set<Talk>} */
    this.talks = new Set();
    /** @type {WeakSet<Conversation>} deleted, perhaps while an answer came */
    this.gone = new WeakSet();
    /** @type {Map<string, AnswerTurn>} */
    this.answers = new Map();
    this.picker = el("select.picker", { "aria-label": "Model", onchange: () => this.choose() });
    this.history = el("div.history-list", null);
    this.turns = el("div.turns", null);
    this.said = el("p.visually-hidden", { role: "status" });
    this.scroller = el("div.thread", { tabindex: "0", role: "region", "aria-label": "Conversation" }, this.turns);
    this.follower = new Follower(this.scroller);
    this.composer = composer({
      onSend: (text) => this.send(text),
      onStop: () => this.talk?.stop(),
      onDraft: (text) => ofTab.write(this.draftKey, text),
    });
    this.wishes = {
      again: (/** @type {Turn} */ turn) => this.again(turn),
      resend: (/** @type {Turn} */ turn, /** @type {string} */ text) => this.resend(turn, text),
      grown: () => this.follower.grown(),
      currency: me.currency,
    };
  }

  /** The answer that comes for the open conversation. */
  get talk() {
    return [...this.talks].find((talk) => talk.conversation === this.conversation);
  }

  get draftKey() {
    return `${databaseOf(this.me.user)}:${this.conversation.revision ? this.conversation.id : "new"}`;
  }

  // -- conversations

  /** Open what the address names, else a new one. */
  async openAddressed() {
    const id = new URLSearchParams(location.search).get("c");
    await this.show((id && (await this.find(id))) || newConversation(this.conversation.model));
  }

  /** @param {string} id */
  async find(id) {
    const talk = [...this.talks].find((each) => each.conversation.id === id);
    return talk?.conversation ?? (await this.store.get(id));
  }

  /** @param {string} id */
  async open(id) {
    const found = await this.find(id);
    if (!found) return toast("This conversation is gone.");
    history.pushState(null, "", `?c=${id}`);
    await this.show(found);
  }

  async fresh() {
    history.pushState(null, "", location.pathname);
    await this.show(newConversation(this.picker.value));
    this.composer.field.focus();
  }

  /** @param {Conversation} conversation */
  async show(conversation) {
    for (const talk of this.talks) talk.view = null;
    this.conversation = conversation;
    document.querySelector(".chat")?.classList.remove("listing");
    offer(this.picker, this.models, conversation.model);
    this.draw();
    this.composer.set(ofTab.read(this.draftKey) ?? "");
    this.composer.running(Boolean(this.talk));
    await this.list();
  }

  draw() {
    const { turns } = this.conversation;
    for (const answer of this.answers.values()) answer.writing.drop();
    this.answers.clear();
    fill(this.turns, turns.length ? turns.map((turn, place) => this.drawn(turn, place === turns.length - 1)) : this.welcome());
    this.follower.toEnd();
  }

  /** @param {Turn} turn @param {boolean} isLast */
  drawn(turn, isLast) {
    if (turn.role === "user") return userTurn(turn, this.wishes);
    const answer = new AnswerTurn(turn, this.wishes);
    this.answers.set(turn.id, answer);
    const { talk } = this;
    if (talk?.turn === turn) talk.view = answer;
    else answer.end(isLast);
    return answer.root;
  }

  welcome() {
    if (!this.models.length) {
      return state("No model yet", "No AI model has been set up for your account yet. Please ask your administrator for one.");
    }
    return state("What would you like to know?", "Enter sends, Shift+Enter breaks the line, Escape stops an answer.");
  }

  async list() {
    drawHistory(this.history, await this.store.list(), this.conversation.id, (id) => this.open(id));
  }

  /** Another tab has changed or deleted a conversation ("": all). @param {string} id */
  async elsewhere(id) {
    await this.list();
    if (id !== this.conversation.id || this.talk || document.querySelector(".edit")) return;
    const found = await this.store.get(id);
    if (!found || found.revision === this.conversation.revision) return;
    this.conversation = found;
    this.draw();
  }

  // -- the open conversation

  choose() {
    this.conversation.model = this.picker.value;
    if (this.conversation.revision) this.save(this.conversation);
  }

  async rename() {
    const title = await newTitle(this.conversation.title);
    if (!title) return;
    this.conversation.title = title;
    if (this.conversation.revision) await this.save(this.conversation);
  }

  export() {
    download(`chat-${this.conversation.id}.json`, this.conversation);
  }

  async exportAll() {
    download("chats.json", await this.store.all());
  }

  async remove() {
    if (!(await surely("Delete this conversation?"))) return;
    this.gone.add(this.conversation);
    this.talk?.stop();
    await this.store.remove(this.conversation.id);
    await this.fresh();
  }

  async removeAll() {
    if (!(await surely("Delete all conversations?"))) return;
    this.gone.add(this.conversation);
    for (const talk of this.talks) {
      this.gone.add(talk.conversation);
      talk.stop();
    }
    await this.store.clear();
    await this.fresh();
  }

  // -- saying and hearing

  /** @param {string} text */
  async send(text) {
    const { conversation } = this;
    if (!this.models.length || this.talk) return this.composer.set(text);
    if (!conversation.turns.length) conversation.title = titleOf(text);
    conversation.turns.push({ id: newId(), role: "user", text });
    ofTab.write(this.draftKey, "");
    await this.answer();
  }

  /** @param {Turn} turn */
  async again(turn) {
    this.cut(turn);
    await this.answer();
  }

  /** @param {Turn} turn @param {string} text */
  async resend(turn, text) {
    this.talk?.stop();
    this.cut(turn);
    await this.send(text);
  }

  /** Forget a turn and what followed. @param {Turn} turn */
  cut(turn) {
    const place = this.conversation.turns.indexOf(turn);
    if (place >= 0) this.conversation.turns.length = place;
  }

  async answer() {
    const { conversation } = this;
    const model = this.picker.value;
    conversation.model = model;
    conversation.updated = Date.now();
    const talk = new Talk(conversation, model, this.me.currency, () => this.save(conversation));
    this.talks.add(talk);
    this.draw();
    this.composer.running(true);
    this.said.textContent = "The model is answering.";
    await this.save(conversation);
    await talk.run();
    this.talks.delete(talk);
    if (conversation === this.conversation) {
      this.composer.running(false);
      this.said.textContent = talk.turn.fault ? "" : "The answer is there.";
    }
    talk.view?.end(true);
    await talk.price();
    talk.view?.update(conversation.turns[conversation.turns.length - 1] === talk.turn);
  }

  /** Try the last answer again, where this was why it failed. @param {string[]} codes */
  retry(codes) {
    const last = this.conversation.turns[this.conversation.turns.length - 1];
    if (last?.fault && codes.includes(last.fault.code) && !this.talk) this.again(last);
  }

  /** @param {Conversation} conversation */
  async save(conversation) {
    if (this.gone.has(conversation)) return;
    try {
      await this.store.put(conversation);
      if (conversation === this.conversation) history.replaceState(null, "", `?c=${conversation.id}`); // its id may be new
      if (conversation === this.conversation || !this.store.isKept) await this.list();
    } catch {
      toast("This browser could not keep the conversation; export it before you leave.");
    }
  }
}
