// An `Ai` whose engine is that of `engine.js`, which may be in another process: it is asked over HTTP, as workerd asks it.

import { Ai } from "../ai.js";
import { aiError, closed, fromMessage } from "../errors.js";
import { MAX_BODY_BYTES } from "../node-http.js";
import { CALL, HOP, KEY_HEADER, localEngine } from "./engine.js";

/**
 * @import { AiConfig, AiStats, ModelListing, ModelsParameters, TokenizedPrompt } from "../index.d.ts"
 * @import { Answer, Engine as EngineInterface, HttpAnswer, HttpRequest, LoadedModel } from "../internal.d.ts"
 * @import { Engine } from "./engine.js"
 */

/**
 * @param {AiConfig} options of `new Ai`
 * @returns {Promise<Ai>}
 */
export async function sharedAi(options) {
  return new Ai(new SharedEngine(await localEngine(options)));
}

/** @implements {EngineInterface} */
class SharedEngine {
  /** `undefined` after `close`. @type {Engine | undefined} */
  #engine;

  /** @param {Engine} engine */
  constructor(engine) {
    this.#engine = engine;
  }

  /**
   * @param {string} pathname with its query
   * @param {RequestInit} [init]
   */
  #fetch(pathname, init = {}) {
    if (!this.#engine) throw closed();
    const { address, key } = this.#engine.link;
    const headers = new Headers(init.headers);
    headers.set(KEY_HEADER, key);
    return fetch(`http://${address}${pathname}`, { ...init, headers });
  }

  /**
   * Calls a method of the engine's `Ai`.
   *
   * @param {string} method
   * @param {unknown[]} args
   * @returns {Promise<any>}
   */
  async #call(method, ...args) {
    const response = await this.#fetch(CALL, { method: "POST", body: JSON.stringify({ method, args }) });
    const { value, error } = /** @type {any} */ (await response.json());
    if (error) throw fromMessage(error);
    return value;
  }

  /**
   * @param {string} model
   * @param {string} input JSON text
   * @param {AbortSignal} [signal]
   * @returns {Promise<Answer>}
   */
  async generate(model, input, signal) {
    const headers = { "content-type": "application/json", "cf-consn-model-id": model };
    const response = await this.#fetch("/run?version=3", { method: "POST", headers, body: `{"inputs":${input},"options":{}}`, signal });
    if (!response.ok) {
      const { internalCode, httpCode, description } = /** @type {any} */ (await response.json());
      throw aiError(internalCode, httpCode, description);
    }
    return {
      stream: response.headers.get("content-type") === "text/event-stream",
      servedBy: decodeURI(response.headers.get("workers-ai-local-model") ?? ""),
      computedBy: null,
      object: async () => /** @type {any} */ (await response.json()),
      ...chunksOf(response),
    };
  }

  /**
   * @param {HttpRequest} request
   * @param {AbortSignal} [signal]
   * @returns {Promise<HttpAnswer>}
   */
  async fetch({ method, url, headers, body, tooLarge }, signal) {
    const { pathname, search } = new URL(url, "http://localhost");
    // Nobody needs to send what is too large: one byte more than is allowed says the same.
    const sent = tooLarge ? new Uint8Array(MAX_BODY_BYTES + 1) : body;
    const response = await this.#fetch(pathname + search, { method, headers, body: sent && new Uint8Array(sent), signal });
    const stream = response.headers.get("content-type") === "text/event-stream";
    const whole = stream ? undefined : new Uint8Array(await response.arrayBuffer());
    const passed = [...response.headers].filter(([name]) => !HOP.has(name));
    return { status: response.status, headers: passed, body: whole, stream, ...chunksOf(response) };
  }

  async maxBodyBytes() {
    return MAX_BODY_BYTES;
  }

  /**
   * @param {string} [model]
   * @returns {Promise<LoadedModel>}
   */
  load(model) {
    return this.#call("load", model);
  }

  /**
   * @param {string} model
   * @param {string} input JSON text
   * @returns {Promise<TokenizedPrompt>}
   */
  tokenize(model, input) {
    return this.#call("tokenize", model, JSON.parse(input));
  }

  /**
   * @param {ModelsParameters} params
   * @returns {Promise<ModelListing[]>}
   */
  models(params) {
    return this.#call("models", params);
  }

  /** @returns {Promise<AiStats>} */
  stats() {
    return this.#call("stats");
  }

  async close() {
    const engine = this.#engine;
    this.#engine = undefined;
    await engine?.close();
  }
}

/**
 * @param {Response} response
 * @returns {Pick<Answer, "chunk" | "free">}
 */
function chunksOf(response) {
  /** @type {ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined} */
  let reader;
  const reading = () => (reader ??= response.body?.getReader());
  return {
    chunk: async () => (await reading()?.read())?.value,
    free: () => {
      // A body that was read to its end, as an object, has nothing to be cancelled.
      if (!response.bodyUsed || reader) reading()?.cancel().catch(() => {});
    },
  };
}
