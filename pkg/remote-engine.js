// The engine in a Web Worker. It sends calls as messages to browser-worker.js.

import { checkBuild } from "./builds.js";
import { hasWeights } from "./embeddings.js";
import { AiInternalError, abortError, aiError, closed, fromMessage } from "./errors.js";
import { withFiles } from "./loras.js";
import { hubOf, parseName } from "./names.js";

/**
 * @import { AiConfig, CustomModelSource, EmbeddingSource, HttpModelSource, ModelFile, ModelSource, ModelsParameters } from "./index.d.ts"
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

/**
 * The engines with calls that are not answered yet. The listeners of a worker hold its engine weakly, and nothing else may hold it: its `Ai`
 * may be gone although its caller still waits.
 *
 * @type {Set<RemoteEngine>}
 */
const busy = new Set();

/**
 * Ends the worker of an engine that nobody can use any more. A worker does not end by itself.
 *
 * @type {FinalizationRegistry<Worker>}
 */
const abandoned = new FinalizationRegistry((worker) => worker.terminate());

/** @implements {Engine} */
export class RemoteEngine {
  #startWorker;
  #config;
  /** @type {Observers} */
  #observers;
  /**
   * The worker, once it has loaded.
   *
   * @type {Promise<Worker> | undefined}
   */
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
   * @param {() => Promise<Worker>} startWorker resolves when the worker has loaded
   * @param {AiConfig} config
   * @param {() => void} [onStored] called when a model file begins to be stored
   * @throws {AiInternalError} if the configuration is invalid, or has a source with `open()`, which cannot be sent to a worker
   */
  constructor(startWorker, { onProgress, onWarning, ...config }, onStored) {
    checkBuild(config);
    this.#startWorker = startWorker;
    this.#config = config;
    this.#observers = { progress: onProgress, warning: onWarning, stored: onStored };
    /** @type {unknown[]} */
    const files = [config.default, config.defaultEmbeddings, ...Object.values(config.models ?? {})].flat().flatMap((source) => (hasWeights(source) ? Object.values(source ?? {}) : [source]));
    withFiles(config.loras, (file) => (files.push(file), file));
    const sources = /** @type {Partial<CustomModelSource>[]} */ (files);
    const isCustom = sources.some((source) => typeof source?.open === "function");
    if (isCustom) throw new AiInternalError("A source with open() cannot be sent to a Web Worker. Use a URL, a Blob or bytes.");
  }

  /** Whether ids without a file of their own are refused. */
  get strict() {
    return Boolean(this.#config.strict);
  }

  /** Returns the worker. The first call starts it, so that creating an `Ai` is cheap; so does the first one after a failure. */
  #port() {
    if (this.#closed) throw closed();
    if (!this.#worker) {
      const worker = this.#start();
      this.#worker = worker;
      worker.catch(() => {
        if (this.#worker === worker) this.#worker = undefined;
      });
    }
    return this.#worker;
  }

  async #start() {
    const worker = await this.#startWorker();
    if (this.#closed) {
      worker.terminate();
      throw closed();
    }
    RemoteEngine.#listen(worker, new WeakRef(this));
    abandoned.register(this, worker, worker);
    const observe = { progress: !!this.#observers.progress, warning: !!this.#observers.warning };
    try {
      await this.#call("configure", { config: absolute(this.#config), observe }, undefined, Promise.resolve(worker));
    } catch (error) {
      end(worker);
      throw error;
    }
    return worker;
  }

  /**
   * Listens to a worker that has loaded. Its listeners do not keep the engine alive.
   *
   * @param {Worker} worker
   * @param {WeakRef<RemoteEngine>} reference
   */
  static #listen(worker, reference) {
    worker.addEventListener("message", ({ data }) => {
      const engine = reference.deref();
      if (engine) engine.#take(data);
    });
    /** @param {ErrorEvent} event */
    const fail = ({ message }) => {
      end(worker);
      const engine = reference.deref();
      if (engine) engine.#lose(message || "it ended");
    };
    worker.addEventListener("error", fail, { once: true });
  }

  /**
   * Handles a message from the worker: the answer to a call, or an event.
   *
   * @param {WorkerMessage} message
   */
  #take({ id, value, error, event }) {
    if (event) return void this.#observers[event]?.(value);
    const waiting = this.#answered(id);
    if (error) waiting?.reject(fromMessage(error));
    else waiting?.resolve(value);
  }

  /**
   * Handles a worker that had loaded and then failed: rejects its calls. The next call starts a new worker.
   *
   * @param {string} reason
   */
  #lose(reason) {
    this.#worker = undefined;
    this.#rejectAll(lost(reason));
  }

  /** @param {number} id */
  #answered(id) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (this.#waiting.size === 0) busy.delete(this);
    return waiting;
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const id of this.#waiting.keys()) this.#answered(id)?.reject(error);
  }

  /** Ends the worker, and with it every call. */
  async close() {
    this.#closed = true;
    // One that is still loading ends in `#start`.
    this.#worker?.then(end, () => {});
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
   * @param {Promise<Worker>} [port]
   * @returns {Promise<Value<Call>>}
   */
  #call(call, fields, id = (this.#next += 1), port) {
    return new Promise((resolve, reject) => {
      const worker = port ?? this.#port();
      this.#waiting.set(id, { resolve, reject });
      busy.add(this);
      worker.then((worker) => post(worker, { id, call, ...fields })).catch((error) => this.#answered(id)?.reject(error));
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
    this.#worker?.then((worker) => post(worker, { call, ...fields }), () => {});
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
    const port = this.#port();
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
    // After a failure, there may be another worker, which does not have the answer.
    const check = async () => {
      if (this.#worker !== port && !this.#closed) throw lost("it had this answer");
    };
    const object = () => withAbortReason(check().then(() => this.#call("object", { answer: id }))).finally(free);
    const chunk = () => withAbortReason(check().then(() => this.#call("chunk", { answer: id })));
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

/** @param {string} reason */
const lost = (reason) => aiError(3040, 429, `The engine's Web Worker failed: ${reason}. Try again.`);

/** @param {Worker} worker */
function end(worker) {
  abandoned.unregister(worker);
  worker.terminate();
}

/**
 * @param {Worker} worker
 * @param {object} message
 * @throws {AiInternalError} if the message cannot be cloned
 */
function post(worker, message) {
  try {
    worker.postMessage(message);
  } catch (error) {
    throw new AiInternalError(`The arguments cannot be sent to the engine's Web Worker: ${error.message}`);
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
   * @template {ModelFile | undefined} Source
   * @param {Source} source
   */
  const resolveOne = (source) => {
    // A name on the hub, or that of a curated model, is no address.
    if (typeof source === "string" && hubOf(parseName(source))) return source;
    if (typeof source === "string" || source instanceof URL) return new URL(source, location.href).href;
    const file = /** @type {Partial<HttpModelSource>} */ (source ?? {});
    return file.url ? { ...file, url: new URL(file.url, location.href).href } : source;
  };
  /**
   * @template {ModelSource | undefined} Source
   * @param {Source} source
   */
  const resolve = (source) => (Array.isArray(source) ? source.map(resolveOne) : resolveOne(/** @type {ModelFile} */ (source)));
  /**
   * @template {ModelSource | EmbeddingSource | undefined} Source
   * @param {Source} source
   */
  const resolveAny = (source) => {
    if (!hasWeights(source)) return /** @type {Source} */ (resolve(/** @type {ModelSource} */ (source)));
    return /** @type {Source} */ (Object.fromEntries(Object.entries(source ?? {}).map(([name, file]) => [name, resolveOne(file)])));
  };
  const models = Object.fromEntries(Object.entries(config.models ?? {}).map(([id, source]) => [id, resolveAny(source)]));
  const [defaultModel, defaultEmbeddings, loras] = [resolve(config.default), resolveAny(config.defaultEmbeddings), withFiles(config.loras, resolveOne)];
  return { ...config, models, loras, default: defaultModel, defaultEmbeddings, wasmUrl: absoluteWasm(config.wasmUrl) };
}

/** @param {AiConfig["wasmUrl"]} wasmUrl */
function absoluteWasm(wasmUrl) {
  if (wasmUrl === undefined) return undefined;
  /** @param {string | URL} url */
  const resolve = (url) => new URL(url, location.href).href;
  if (typeof wasmUrl === "string" || wasmUrl instanceof URL) return resolve(wasmUrl);
  return Object.fromEntries(Object.entries(wasmUrl).map(([build, url]) => [build, resolve(url)]));
}
