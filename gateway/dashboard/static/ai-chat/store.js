// @ts-check
/** Conversations, kept in this browser alone. */

import { databaseOf } from "../core/kept.js";

/**
 * @typedef {object} Turn
 * @property {string} id
 * @property {"user" | "assistant"} role
 * @property {string} text
 * @property {string} [thought] what a model said to itself
 * @property {string | null} [model] that answered
 * @property {import("../answers/completion.js").Tokens | null} [tokens]
 * @property {number | null} [firstWord] milliseconds
 * @property {number | null} [cost]
 * @property {string | null} [requestId]
 * @property {string | null} [finish] why the model ended
 * @property {boolean} [stopped]
 * @property {{code: string, title: string, words: string, requestId: string | null} | null} [fault]
 */
/** @typedef {{id: string, title: string, model: string | null, created: number, updated: number, revision: number, turns: Turn[]}} Conversation */
/** @typedef {Omit<Conversation, "turns">} Summary */

const TITLE = 60;

/** A new id; plain http on a LAN has no `randomUUID`. */
export const newId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** The first words of a message. @param {string} text */
export function titleOf(text) {
  const plain = text.slice(0, 400).replace(/\s+/g, " ").trim();
  const cut = plain.length <= TITLE ? plain : plain.slice(0, plain.lastIndexOf(" ", TITLE) > 20 ? plain.lastIndexOf(" ", TITLE) : TITLE) + " …";
  return cut || "New conversation";
}

/** @param {string | null} model @returns {Conversation} */
export function newConversation(model) {
  const now = Date.now();
  return { id: newId(), title: "New conversation", model, created: now, updated: now, revision: 0, turns: [] };
}

/** @param {Conversation} conversation @returns {Summary} */
const summaryOf = ({ turns, ...summary }) => summary;

export class Store {
  /** @param {IDBDatabase | null} database null: this browser keeps nothing @param {BroadcastChannel | null} channel */
  constructor(database, channel) {
    this.database = database;
    this.channel = channel;
    /** @type {Map<string, Conversation>} what is kept where there is no database */
    this.held = new Map();
    /** @type {Map<string, Summary> | null} what `list` tells, so that no list reads every word that was ever said */
    this.summaries = null;
    this.changes = 0;
  }

  /** @param {string | number} user @param {(id: string) => void} onElsewhere another tab has changed or deleted this one */
  static async open(user, onElsewhere) {
    const name = databaseOf(user);
    const channel = channelOf(name);
    const store = new Store(await opened(name).catch(() => null), channel);
    if (channel) {
      channel.onmessage = ({ data }) => {
        store.summaries = null;
        store.changes++;
        onElsewhere(String(data));
      };
    }
    return store;
  }

  get isKept() {
    return this.database !== null;
  }

  /** All, newest first, without their turns. @returns {Promise<Summary[]>} */
  async list() {
    while (!this.summaries) {
      const { changes } = this;
      const found = new Map((await this.all()).map((each) => [each.id, summaryOf(each)]));
      if (changes === this.changes) this.summaries = found; // else somebody wrote meanwhile: look again
    }
    return [...this.summaries.values()].sort((a, b) => b.updated - a.updated);
  }

  /** @returns {Promise<Conversation[]>} newest first */
  async all() {
    const all = this.database ? await done(this.room("readonly").getAll()) : [...this.held.values()];
    return all.sort((a, b) => b.updated - a.updated);
  }

  /** @param {string} id @returns {Promise<Conversation | null>} */
  async get(id) {
    return (this.database ? await done(this.room("readonly").get(id)) : structuredClone(this.held.get(id))) ?? null;
  }

  /**
   * Keep a conversation as it is now. Where another tab has changed it meanwhile, it becomes one of its own: nothing is lost.
   * @param {Conversation} mine its revision, and perhaps its id, are changed
   */
  async put(mine) {
    if (!this.database) {
      this.held.set(mine.id, structuredClone(mine));
      this.summaries?.set(mine.id, summaryOf(mine));
      return;
    }
    const room = this.room("readwrite");
    const stored = await done(room.get(mine.id));
    if (stored && stored.revision !== mine.revision) Object.assign(mine, { id: newId(), title: `${mine.title} (other tab)` });
    mine.revision++;
    await done(room.put(mine));
    this.changes++;
    this.summaries?.set(mine.id, summaryOf(mine));
    this.channel?.postMessage(mine.id);
  }

  /** @param {string} id */
  async remove(id) {
    this.held.delete(id);
    if (this.database) await done(this.room("readwrite").delete(id));
    this.changes++;
    this.summaries?.delete(id);
    this.channel?.postMessage(id);
  }

  async clear() {
    this.held.clear();
    if (this.database) await done(this.room("readwrite").clear());
    this.changes++;
    this.summaries?.clear();
    this.channel?.postMessage("");
  }

  /** @param {IDBTransactionMode} mode */
  room(mode) {
    return /** @type {IDBDatabase} */ (this.database).transaction("conversations", mode).objectStore("conversations");
  }
}

/** To other tabs; null where the browser has none, or denies it to a frame. @param {string} name */
function channelOf(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

/** @param {string} name @returns {Promise<IDBDatabase>} */
function opened(name) {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(name, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("conversations", { keyPath: "id" });
    asked.onerror = () => reject(asked.error);
    asked.onsuccess = () => {
      const database = asked.result;
      database.onversionchange = () => database.close(); // somebody signs out and takes everything away
      resolve(database);
    };
  });
}

/** @template T @param {IDBRequest<T>} asked @returns {Promise<T>} */
function done(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}
