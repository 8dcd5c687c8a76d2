// @ts-check
/** Ask the gateway's own routes; errors have a code, words and a request id. */

export class ApiError extends Error {
  /**
   * @param {number} status 0: nothing was reached
   * @param {string} code
   * @param {string} message
   * @param {{requestId?: string | null, retryAfter?: number | null, body?: any}} [more]
   */
  constructor(status, code, message, more = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = more.requestId ?? null;
    this.retryAfter = more.retryAfter ?? null;
    this.body = more.body ?? null;
  }
}

/** @type {(() => void)[]} */
const whenOver = [];

/** Call back when an answer says that the session is over. @param {() => void} listener */
export function onSessionOver(listener) {
  whenOver.push(listener);
}

/**
 * Ask a route; the answer's JSON. Raises ApiError.
 * @param {string} path
 * @param {{method?: string, body?: any, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function api(path, options = {}) {
  const response = await raw(path, options);
  if (response.status === 204) return null;
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/**
 * Ask a route; the response, once it is a good one. Raises ApiError.
 * @param {string} path
 * @param {{method?: string, body?: any, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>}
 */
export async function raw(path, { method = "GET", body, signal } = {}) {
  /** @type {RequestInit} */
  const init = { method, signal, credentials: "same-origin", redirect: "error" };
  if (method !== "GET") {
    init.headers = { "content-type": "application/json", ...(isFramedByAnotherSite() ? { "x-gateway-framed": "1" } : {}) };
    init.body = body === undefined ? (method === "DELETE" ? undefined : "{}") : JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "offline", "The gateway cannot be reached. Check your connection; nothing was lost.");
  }
  if (response.ok) return response;
  throw await fault(response);
}

/** The last part of a path. @param {string | number} id */
export const part = (id) => encodeURIComponent(String(id)).replace(/^\.+$/, (dots) => dots.replaceAll(".", "%2E"));

/** Whether a page of another origin frames this one. */
export function isFramed() {
  try {
    return window.top !== window.self && window.top?.location.origin !== location.origin;
  } catch {
    return true;
  }
}

/** Whether that page is of another site: strict cookies are not kept there, nor are any that it does not share. */
export function isFramedByAnotherSite() {
  return isFramed() && !keepsCookie("; SameSite=Strict");
}

/** Whether the browser keeps a cookie of this kind, tried with one that tells nothing. @param {string} kind */
export function keepsCookie(kind) {
  try {
    document.cookie = `gw-try=1; Path=/dashboard${kind}`;
    const isKept = document.cookie.includes("gw-try=1");
    document.cookie = `gw-try=; Path=/dashboard; Max-Age=0${kind}`;
    return isKept;
  } catch {
    return false;
  }
}

/** @param {Response} response */
async function fault(response) {
  const text = await response.text().catch(() => "");
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // a proxy's page, perhaps
  }
  const inner = typeof body?.error === "object" && body.error !== null ? body.error : body;
  const code = (typeof body?.error === "string" ? body.error : inner?.code) ?? `http_${response.status}`;
  const seconds = Number(response.headers.get("retry-after"));
  const error = new ApiError(response.status, code, inner?.message ?? `The gateway answered ${response.status}.`, {
    requestId: response.headers.get("x-request-id"),
    retryAfter: Number.isFinite(seconds) && seconds > 0 ? seconds : null,
    body,
  });
  if (response.status === 401 && code !== "invalid_ticket") whenOver.forEach((listener) => listener());
  return error;
}

/**
 * Read a stream of server-sent events: the `data` of each; lines may end in any of the three ways.
 * @param {Response} response
 * @returns {AsyncGenerator<string>}
 */
export async function* events(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  /** @type {string[]} */
  let parts = []; // of the line that is not whole yet
  /** @type {string[]} */
  let data = [];
  let endedInCr = false;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      const text = endedInCr && value?.startsWith("\n") ? value.slice(1) : (value ?? "");
      if (value) endedInCr = value.endsWith("\r");
      const lines = done ? ["", "", ""] : text.split(/\r\n|\n|\r/);
      for (let at = 0; at < lines.length; at++) {
        parts.push(lines[at]);
        if (at === lines.length - 1) break;
        const line = parts.join("");
        parts = [];
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
