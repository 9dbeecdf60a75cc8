// An engine in a Web Worker, driven by messages. Its other half is browser-worker.js.

import { checkBuild } from "./builds.js";
import { AiInternalError, abortError, aiError, fromMessage } from "./errors.js";

export class RemoteEngine {
  #startWorker;
  #config;
  #observers;
  #worker;
  #next = 0;
  #waiting = new Map();

  /**
   * @param {() => Worker} startWorker
   * @param {import("./index.d.ts").AiConfig} config
   */
  constructor(startWorker, { onProgress, onWarning, ...config }) {
    checkBuild(config);
    this.#startWorker = startWorker;
    this.#config = config;
    this.#observers = { progress: onProgress, warning: onWarning };
    const readers = [config.default, ...Object.values(config.models ?? {})].filter((source) => typeof source?.open === "function");
    if (readers.length > 0) throw new AiInternalError("A source with open() cannot be handed to a Web Worker: give a URL, a Blob or bytes.");
  }

  /** The worker is started by the first call, so that making an `Ai` costs nothing. */
  #port() {
    if (this.#worker) return this.#worker;
    const worker = this.#startWorker();
    worker.addEventListener("message", ({ data }) => this.#take(data));
    worker.addEventListener("error", (event) => this.#lose(worker, event.message || "its script could not be loaded"));
    this.#worker = worker;
    const observe = { progress: !!this.#observers.progress, warning: !!this.#observers.warning };
    this.#call("configure", { config: absolute(this.#config), observe }).catch(() => {});
    return worker;
  }

  #take({ id, value, error, event }) {
    if (event) return void this.#observers[event]?.(value);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(fromMessage(error));
    else waiting?.resolve(value);
  }

  /** A worker that died takes its calls with it; the next call starts another. */
  #lose(worker, reason) {
    if (this.#worker === worker) this.#worker = undefined;
    worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(aiError(3040, 429, `The engine's Web Worker failed: ${reason}. Try again.`));
    this.#waiting.clear();
  }

  #call(call, fields = {}, id = (this.#next += 1)) {
    const port = this.#port();
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      try {
        port.postMessage({ id, call, ...fields });
      } catch (error) {
        this.#waiting.delete(id);
        reject(new AiInternalError(`This cannot be handed to the engine's Web Worker: ${error.message}`));
      }
    });
  }

  #notify(call, fields) {
    this.#worker?.postMessage({ call, ...fields });
  }

  async generate(model, input, signal) {
    const { value, draw, chunk, free } = await this.#open("generate", { model, input }, signal);
    return { ...value, object: () => draw("object").finally(free), chunk, free };
  }

  async fetch(request, signal) {
    const { value, chunk, free } = await this.#open("fetch", { request }, signal);
    return { ...value, chunk, free };
  }

  /** A call whose answer stays in the worker, to be drawn from until it is freed. */
  async #open(call, fields, signal) {
    const id = (this.#next += 1);
    const abort = () => this.#notify("abort", { id });
    signal?.addEventListener("abort", abort, { once: true });
    const forget = () => signal?.removeEventListener("abort", abort);
    // The page is told of an abort at once, as a DOMException with the signal's own reason.
    const own = async (call) => {
      try {
        return await call;
      } catch (error) {
        throw signal?.aborted ? abortError(signal) : error;
      }
    };
    const draw = (call) => own(this.#call(call, { answer: id }));
    const free = () => {
      forget();
      abort();
      this.#notify("free", { answer: id });
    };
    try {
      return { value: await own(this.#call(call, fields, id)), draw, chunk: () => draw("chunk"), free };
    } catch (error) {
      forget();
      throw error;
    }
  }

  maxBodyBytes() {
    return this.#call("maxBodyBytes");
  }

  load(model) {
    return this.#call("load", { model });
  }

  models(params) {
    return this.#call("models", { params: JSON.parse(JSON.stringify(params)) });
  }

  stats() {
    return this.#call("stats");
  }
}

/** Addresses in a configuration are the page's; the worker's script lies elsewhere. */
function absolute(config) {
  const resolve = (source) => {
    if (typeof source === "string" || source instanceof URL) return new URL(source, location.href).href;
    if (source?.url) return { ...source, url: new URL(source.url, location.href).href };
    return source;
  };
  const models = Object.fromEntries(Object.entries(config.models ?? {}).map(([id, source]) => [id, resolve(source)]));
  return { ...config, models, default: resolve(config.default) };
}
