// Forwards requests to the real Workers AI, over its REST API.

import { AiInternalError, wireError } from "./errors.js";

/**
 * @import { AiConfig, ServiceAccount } from "./index.d.ts"
 * @import { Asked, Reply } from "./internal.d.ts"
 */

const API = "https://api.cloudflare.com/client/v4";
const SET_ACCOUNT = "Give it as account: { id, token }, or in Node as CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN";
const WHEN = ["always", "when-missing"];
/** Its entry of `remote` is for every id that has none of its own. */
const ANY = "*";
/** Ids come from requests and become part of a path: they must not lead elsewhere, with the account's token. */
const MODEL_ID = /^@?[\w.-]+(\/[\w.-]+)*$/;
const UPWARDS = /(^|\/)\.{1,2}(\/|$)/;

export class Service {
  #remote;
  #account;
  #hasFile;

  /**
   * @param {Record<string, string>} remote
   * @param {() => ServiceAccount} account asked for each request
   * @param {(model: string) => boolean} hasFile whether an id has a model file of its own
   * @throws {AiInternalError} if `remote` cannot be understood
   */
  constructor(remote, account, hasFile) {
    if (typeof remote !== "object" || remote === null) throw new AiInternalError('remote is an object such as { "@cf/…": "when-missing" }.');
    for (const [model, when] of Object.entries(remote)) {
      if (!WHEN.includes(when)) throw new AiInternalError(`remote["${model}"] is "always" or "when-missing", not ${JSON.stringify(when)}.`);
    }
    this.#remote = remote;
    this.#account = account;
    this.#hasFile = hasFile;
  }

  /** @param {string} model */
  #forwards(model) {
    const when = Object.hasOwn(this.#remote, model) ? this.#remote[model] : this.#remote[ANY];
    return when === "always" || (when === "when-missing" && !this.#hasFile(model));
  }

  /**
   * The service's answer; `undefined` if the request is not for the service.
   *
   * @param {Asked} asked
   * @param {AbortSignal} signal nobody waits for the answer any more
   * @returns {Promise<Reply | undefined>}
   */
  async ask({ model, input, openai }, signal) {
    if (!this.#forwards(model)) return undefined;
    if (!MODEL_ID.test(model) || UPWARDS.test(model)) return failed(5007, 400, `No such model ${model} or task`);
    const { id, token, url = API } = this.#account();
    if (!id || !token) return failed(5004, 400, `${model} is forwarded to Workers AI, which needs an account. ${SET_ACCOUNT}`);
    const base = `${url.replace(/\/$/, "")}/accounts/${encodeURIComponent(id)}/ai`;
    const body = JSON.stringify(openai ? { ...input, model } : input);
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    try {
      const response = await fetch(openai ? `${base}/v1/chat/completions` : `${base}/run/${model}`, { method: "POST", headers, body, signal });
      const isStream = response.ok && response.body && /^text\/event-stream\b/i.test(response.headers.get("content-type") ?? "");
      return isStream ? { stream: reading(response.body) } : answerOf(response.status, await response.text(), openai);
    } catch (error) {
      return failed(3008, 408, `Workers AI could not be reached: ${error.cause?.message ?? error.message}`);
    }
  }
}

/**
 * The account of the environment, as wrangler reads it.
 *
 * @param {Record<string, string | undefined>} env
 * @returns {ServiceAccount}
 */
export function accountOf(env) {
  return {
    id: env.CLOUDFLARE_ACCOUNT_ID || env.CF_ACCOUNT_ID,
    token: env.CLOUDFLARE_API_TOKEN || env.CF_API_TOKEN,
    url: env.CLOUDFLARE_API_BASE_URL || undefined,
  };
}

/** @param {ReadableStream<Uint8Array>} body */
function reading(body) {
  const reader = body.getReader();
  return {
    read: async () => (await reader.read()).value,
    cancel: () => void reader.cancel().catch(() => {}),
  };
}

/**
 * @param {number} status
 * @param {string} text
 * @param {boolean} openai
 * @returns {Reply}
 */
function answerOf(status, text, openai) {
  /** @type {any} */
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    return failed(3008, status >= 400 ? status : 502, `Workers AI answered with HTTP ${status} and no JSON`);
  }
  if (status < 400 && body !== null && body.success !== false) return { object: JSON.stringify(openai ? body : (body.result ?? body)) };
  const { code, message } = body?.errors?.[0] ?? body?.error ?? {};
  const said = String(message ?? `Workers AI answered with HTTP ${status}`).replace(/^(AiError: )+(\d+: )?/, "");
  const hint = status === 401 || status === 403 ? `. ${SET_ACCOUNT}` : "";
  const known = Number.isInteger(Number(code)) && Number(code) > 0 && Number(code) < 65536;
  return failed(known ? Number(code) : 3008, status >= 400 ? status : 400, said + hint);
}

/**
 * @param {number} code
 * @param {number} status
 * @param {string} text
 * @returns {Reply}
 */
function failed(code, status, text) {
  return { error: JSON.stringify(wireError(code, status, text)) };
}
