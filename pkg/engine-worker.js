// What the Web Workers of a page's `Ai` do: each runs an engine and receives calls as messages from remote-engine.js.

import { createEngine } from "./browser-engine.js";
import { toMessage } from "./errors.js";
import { openRemoteEmbeddings } from "./remote-embeddings.js";

/**
 * @import { AiConfig } from "./index.d.ts"
 * @import { WasmInstance } from "./instance.js"
 * @import { Answer, Builds, Engine, HttpAnswer, StartThread, WorkerCalls, WorkerNotices } from "./internal.d.ts"
 * @typedef {Record<string, (fields: any, signal?: AbortSignal) => unknown>} Handlers by call; `any`: the fields depend on the call
 */

/**
 * Creates the engine of this Web Worker.
 *
 * @type {(config: AiConfig) => Engine}
 */
let create;
/**
 * Created by the first call, `configure`.
 *
 * @type {Engine}
 */
let engine;
/**
 * AbortControllers of the running calls and open answers, by call id.
 *
 * @type {Map<number, AbortController>}
 */
const aborts = new Map();
/**
 * Answers that the page still reads from, by call id.
 *
 * @type {Map<number, Answer | HttpAnswer>}
 */
const answers = new Map();

/**
 * Messages that are answered with `{ id, value }` or `{ id, error }`.
 *
 * @type {WorkerCalls}
 */
const calls = {
  configure({ config, observe }) {
    /** @type {AiConfig["onProgress"]} */
    const onProgress = observe.progress ? (progress) => postMessage({ event: "progress", value: progress }) : undefined;
    /** @type {AiConfig["onWarning"]} */
    const onWarning = observe.warning ? (text) => postMessage({ event: "warning", value: text }) : undefined;
    engine = create({ ...config, onProgress, onWarning });
  },
  async generate({ id, model, input }, signal) {
    const answer = await engine.generate(model, input, signal);
    answers.set(id, answer);
    return { stream: answer.stream, servedBy: answer.servedBy, computedBy: answer.computedBy };
  },
  async fetch({ id, request }, signal) {
    const answer = await engine.fetch(request, signal);
    answers.set(id, answer);
    return { status: answer.status, headers: answer.headers, body: answer.body, stream: answer.stream };
  },
  maxBodyBytes: () => engine.maxBodyBytes(),
  object({ answer: id }) {
    const answer = answers.get(id);
    if (!answer || !("object" in answer)) throw new Error(`The call ${id} has no answer.`);
    return answer.object();
  },
  chunk: ({ answer }) => answers.get(answer)?.chunk(),
  load: ({ model }) => engine.load(model),
  tokenize: ({ model, input }) => engine.tokenize(model, input),
  models: ({ params }) => engine.models(params),
  stats: () => engine.stats(),
};

/**
 * Messages that are not answered.
 *
 * @type {WorkerNotices}
 */
const notices = {
  greet: () => postMessage("ready"),
  abort: ({ id }) => aborts.get(id)?.abort(),
  free({ answer }) {
    answers.get(answer)?.free();
    answers.delete(answer);
    aborts.delete(answer);
  },
};

/**
 * Serves the page for as long as it lives.
 *
 * @param {WasmInstance} instance
 * @param {Builds<URL>} builds
 * @param {() => Worker} startWorker starts the script of a worker thread
 * @param {() => Worker} startEmbeddings starts the script of the Web Worker for embeddings
 * @param {boolean} widens whether the page has another Web Worker for what this instance cannot hold
 */
export function serveEngine(instance, builds, startWorker, startEmbeddings, widens) {
  /** @type {StartThread} */
  const startThread = (shared, { ready, ended }) => {
    const thread = startWorker();
    thread.addEventListener("message", ready, { once: true });
    thread.addEventListener("error", (event) => {
      // `ended` handles it. Otherwise it would become an error of this worker, which ends the engine.
      event.preventDefault();
      ended(event.message || "a worker thread failed");
    });
    thread.postMessage(shared);
    return () => thread.terminate();
  };
  /** @type {Parameters<typeof createEngine>[3]["openEmbeddings"]} */
  const openEmbeddings = (config, observers) => openRemoteEmbeddings(startEmbeddings, config, observers);
  const onStored = () => postMessage({ event: "stored" });
  create = (config) => createEngine(config, instance, () => builds, { startThread, widens, onStored, openEmbeddings });
  addEventListener("message", async ({ data }) => {
    const notice = /** @type {Handlers} */ (notices)[data.call];
    if (notice) return void notice(data);
    const abort = new AbortController();
    aborts.set(data.id, abort);
    try {
      const value = await /** @type {Handlers} */ (calls)[data.call](data, abort.signal);
      postMessage({ id: data.id, value });
    } catch (error) {
      postMessage({ id: data.id, error: toMessage(error) });
    } finally {
      // The AbortController of an open answer is kept until the answer is freed.
      if (!answers.has(data.id)) aborts.delete(data.id);
    }
  });
  // Everything is loaded: remote-engine.js may send calls.
  postMessage("ready");
}
