// The engine in a Web Worker. It sends calls as messages to browser-worker.js.

import { checkBuild } from "./builds.js";
import { AiInternalError, abortError, aiError, closed, fromMessage } from "./errors.js";

/**
 * @import { AiConfig, CustomModelSource, HttpModelSource, ModelSource, ModelsParameters } from "./index.d.ts"
 * @import { Answer, Engine, HttpAnswer, HttpRequest, Observers, WorkerCalls, WorkerMessage, WorkerNotices } from "./internal.d.ts"
 */

/**
 * The fields of a call or a notice, without the id.
 *
 * @template {(fields: any, signal: AbortSignal) => unknown} Handler `any`: every type of fields
 * @typedef {Parameters<Handler> extends [] ? {} : Omit<Parameters<Handler>[0], "id">} Fields
 */

/**
 * The value with which a call is answered.
 *
 * @template {keyof WorkerCalls} Call
 * @typedef {Awaited<ReturnType<WorkerCalls[Call]>>} Value
 */

/** @implements {Engine} */
export class RemoteEngine {
  #startWorker;
  #config;
  /** @type {Observers} */
  #observers;
  /** @type {Worker | undefined} */
  #worker;
  #closed = false;
  #next = 0;
  /**
   * The calls that are not answered yet, by id. `any`: the value's type depends on the call.
   *
   * @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>}
   */
  #waiting = new Map();

  /**
   * @param {() => Worker} startWorker
   * @param {AiConfig} config
   * @throws {AiInternalError} if the configuration is invalid, or has a source with `open()`, which cannot be sent to a worker
   */
  constructor(startWorker, { onProgress, onWarning, ...config }) {
    checkBuild(config);
    this.#startWorker = startWorker;
    this.#config = config;
    this.#observers = { progress: onProgress, warning: onWarning };
    const sources = /** @type {Partial<CustomModelSource>[]} */ ([config.default, ...Object.values(config.models ?? {})]);
    const isCustom = sources.some((source) => typeof source?.open === "function");
    if (isCustom) throw new AiInternalError("A source with open() cannot be sent to a Web Worker. Use a URL, a Blob or bytes.");
  }

  /** Returns the worker. The first call starts it, so that creating an `Ai` is cheap. */
  #port() {
    if (this.#closed) throw closed();
    if (this.#worker) return this.#worker;
    const worker = this.#startWorker();
    worker.addEventListener("message", ({ data }) => this.#take(data));
    worker.addEventListener("error", (event) => this.#lose(worker, event.message || "its script could not be loaded"));
    this.#worker = worker;
    const observe = { progress: !!this.#observers.progress, warning: !!this.#observers.warning };
    this.#call("configure", { config: absolute(this.#config), observe }).catch(() => {});
    return worker;
  }

  /**
   * Handles a message from the worker: the answer to a call, or an event.
   *
   * @param {WorkerMessage} message
   */
  #take({ id, value, error, event }) {
    if (event) return void this.#observers[event]?.(value);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(fromMessage(error));
    else waiting?.resolve(value);
  }

  /**
   * Handles a failed worker: rejects its calls. The next call starts a new worker.
   *
   * @param {Worker} worker
   * @param {string} reason
   */
  #lose(worker, reason) {
    if (this.#worker === worker) this.#worker = undefined;
    worker.terminate();
    this.#rejectAll(aiError(3040, 429, `The engine's Web Worker failed: ${reason}. Try again.`));
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /** Ends the worker, and with it every call. */
  async close() {
    this.#closed = true;
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#rejectAll(closed());
  }

  /**
   * Sends a call to the worker and returns the promise of its result.
   *
   * @template {keyof WorkerCalls} Call
   * @param {Call} call
   * @param {Fields<WorkerCalls[Call]>} fields
   * @param {number} [id]
   * @returns {Promise<Value<Call>>}
   */
  #call(call, fields, id = (this.#next += 1)) {
    return new Promise((resolve, reject) => {
      const port = this.#port();
      this.#waiting.set(id, { resolve, reject });
      try {
        port.postMessage({ id, call, ...fields });
      } catch (error) {
        this.#waiting.delete(id);
        reject(new AiInternalError(`The arguments cannot be sent to the engine's Web Worker: ${error.message}`));
      }
    });
  }

  /**
   * Sends a message that has no answer.
   *
   * @template {keyof WorkerNotices} Notice
   * @param {Notice} call
   * @param {Parameters<WorkerNotices[Notice]>[0]} fields
   */
  #notify(call, fields) {
    this.#worker?.postMessage({ call, ...fields });
  }

  /**
   * @param {string} model
   * @param {string} input
   * @param {AbortSignal} [signal]
   * @returns {Promise<Answer>}
   */
  async generate(model, input, signal) {
    const { value, object, chunk, free } = await this.#open("generate", { model, input }, signal);
    return { ...value, object, chunk, free };
  }

  /**
   * @param {HttpRequest} request
   * @param {AbortSignal} [signal]
   * @returns {Promise<HttpAnswer>}
   */
  async fetch(request, signal) {
    const { value, chunk, free } = await this.#open("fetch", { request }, signal);
    return { ...value, chunk, free };
  }

  /**
   * Makes a call whose answer stays in the worker and is read from there until `free()`.
   *
   * @template {"generate" | "fetch"} Call
   * @param {Call} call
   * @param {Fields<WorkerCalls[Call]>} fields
   * @param {AbortSignal} [signal]
   */
  async #open(call, fields, signal) {
    const id = (this.#next += 1);
    const abort = () => this.#notify("abort", { id });
    signal?.addEventListener("abort", abort, { once: true });
    const forget = () => signal?.removeEventListener("abort", abort);
    // An aborted call rejects with the signal's own reason, a DOMException.
    /**
     * @template T
     * @param {Promise<T>} result
     */
    const withAbortReason = async (result) => {
      try {
        return await result;
      } catch (error) {
        throw signal?.aborted ? abortError(signal) : error;
      }
    };
    const object = () => withAbortReason(this.#call("object", { answer: id })).finally(free);
    const chunk = () => withAbortReason(this.#call("chunk", { answer: id }));
    const free = () => {
      forget();
      abort();
      this.#notify("free", { answer: id });
    };
    try {
      return { value: await withAbortReason(this.#call(call, fields, id)), object, chunk, free };
    } catch (error) {
      forget();
      throw error;
    }
  }

  maxBodyBytes() {
    return this.#call("maxBodyBytes", {});
  }

  /** @param {string} [model] */
  load(model) {
    return this.#call("load", { model });
  }

  /**
   * @param {string} model
   * @param {string} input JSON text
   */
  tokenize(model, input) {
    return this.#call("tokenize", { model, input });
  }

  /** @param {ModelsParameters} params */
  models(params) {
    return this.#call("models", { params: JSON.parse(JSON.stringify(params)) });
  }

  stats() {
    return this.#call("stats", {});
  }
}

/**
 * Makes the configuration's relative URLs absolute. They are relative to the page, not to the worker's script.
 *
 * @param {AiConfig} config
 * @returns {AiConfig}
 */
function absolute(config) {
  /**
   * @template {ModelSource | undefined} Source
   * @param {Source} source
   */
  const resolve = (source) => {
    if (typeof source === "string" || source instanceof URL) return new URL(source, location.href).href;
    const file = /** @type {Partial<HttpModelSource>} */ (source ?? {});
    return file.url ? { ...file, url: new URL(file.url, location.href).href } : source;
  };
  const models = Object.fromEntries(Object.entries(config.models ?? {}).map(([id, source]) => [id, resolve(source)]));
  return { ...config, models, default: resolve(config.default) };
}
