// @ts-check
/** Ask for an answer as a stream: chat completions, or the studio's route. */

import { ApiError, events, raw } from "../core/api.js";

const BUSY_MS = 6; // events that come at once are heard for so long at a stretch

/** @typedef {{prompt: number, completion: number, total: number}} Tokens */
/**
 * How an answer ended. `fault`: it did not end well; what came before is kept.
 * @typedef {object} Ending
 * @property {string | null} requestId
 * @property {string | null} model the one that answered
 * @property {Tokens | null} tokens
 * @property {number | null} firstWord milliseconds until the first word
 * @property {string | null} finish why the model ended
 * @property {boolean} stopped by the reader
 * @property {ApiError | null} fault
 */
/** @typedef {{onText: (text: string) => void, onThought?: (text: string) => void, signal: AbortSignal}} Hearing */

/**
 * Ask, and hear the answer. Never raises: how it went stands in the ending.
 * @param {string} path
 * @param {any} body
 * @param {Hearing} hearing
 * @returns {Promise<Ending>}
 */
export async function complete(path, body, hearing) {
  const began = performance.now();
  /** @type {Ending} */
  const ending = { requestId: null, model: null, tokens: null, firstWord: null, finish: null, stopped: false, fault: null };
  try {
    const response = await raw(path, { method: "POST", body, signal: hearing.signal });
    ending.requestId = response.headers.get("x-request-id");
    ending.model = response.headers.get("x-gateway-model");
    const hear = (/** @type {any} */ event) => take(event, ending, hearing, began);
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) hear(await response.json());
    else await hearAll(response, ending, hear);
  } catch (error) {
    if (hearing.signal.aborted) ending.stopped = true;
    else ending.fault = error instanceof ApiError ? error : brokeOff();
    ending.requestId ??= ending.fault?.requestId ?? null;
  }
  return ending;
}

/** @param {Response} response @param {Ending} ending @param {(event: any) => void} hear */
async function hearAll(response, ending, hear) {
  let since = performance.now();
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    if (performance.now() - since > BUSY_MS) {
      await breath();
      since = performance.now();
    }
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      continue; // not an event of ours, and nothing to show
    }
    hear(event);
  }
  if (ending.firstWord === null && ending.finish === null) throw brokeOff();
}

/**
 * @param {any} event
 * @param {Ending} ending
 * @param {Hearing} hearing
 * @param {number} began
 */
function take(event, ending, hearing, began) {
  if (typeof event !== "object" || event === null) return;
  if (event.error) throw faultOf(event, ending.requestId);
  const choice = Array.isArray(event.choices) ? event.choices[0] : null;
  const delta = choice?.delta ?? choice?.message ?? event; // the studio's events are flat
  const thought = textIn(delta?.reasoning_content ?? delta?.reasoning);
  const text = choice ? textIn(delta?.content) + textIn(delta?.refusal) : textIn(event.delta);
  if ((text || thought) && ending.firstWord === null) ending.firstWord = performance.now() - began;
  if (thought) hearing.onThought?.(thought);
  if (text) hearing.onText(text);
  const finish = choice?.finish_reason ?? event.finishReason;
  if (typeof finish === "string") ending.finish = finish;
  if (!choice && typeof event.model === "string" && "reply" in event) ending.model = event.model;
  if (event.usage) ending.tokens = tokensIn(event.usage) ?? ending.tokens;
}

/** @param {any} content a text, or parts of one @returns {string} */
function textIn(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((part) => textIn(part?.text)).join("") : "";
}

/** @param {any} usage @returns {Tokens | null} */
function tokensIn(usage) {
  const prompt = Number(usage.prompt_tokens);
  const completion = Number(usage.completion_tokens);
  if (!Number.isFinite(prompt) || !Number.isFinite(completion)) return null;
  return { prompt, completion, total: Number(usage.total_tokens) || prompt + completion };
}

/** Let the page draw and hear its reader; a timer would be slow in a hidden tab. @returns {Promise<void>} */
function breath() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** @param {any} event @param {string | null} requestId */
function faultOf(event, requestId) {
  const { error } = event;
  const code = typeof error === "string" ? error : error.code ?? error.type;
  const message = typeof error === "string" ? event.message : error.message;
  return new ApiError(200, String(code ?? "stream_incomplete"), String(message ?? "The answer broke off."), { requestId });
}

const brokeOff = () => new ApiError(200, "stream_incomplete", "The answer broke off.");
