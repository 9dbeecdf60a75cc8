// The Web Worker of a page's `Ai`: the engine, behind messages. Its other half is remote-engine.js.

import { DEFAULT_MODEL } from "./default-model.js";
import { toMessage } from "./errors.js";
import { start } from "./instance.js";
import { LocalEngine } from "./local-engine.js";
import { cachedHttp } from "./browser-cache.js";
import { builds } from "./wasm/builds.js";

const HOST = {
  builds,
  cores: navigator.hardwareConcurrency ?? 1,
  mayShare: globalThis.crossOriginIsolated === true,
  async compile(wasm) {
    const response = await fetch(wasm);
    if (!response.ok) throw new Error(`${wasm} cannot be loaded: ${response.status} ${response.statusText}`);
    // A server that does not know the type, or an engine that cannot compile while it reads.
    const isStream = response.headers.get("content-type")?.startsWith("application/wasm") && WebAssembly.compileStreaming;
    return isStream ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
  },
  startThread(shared, { ready, ended }) {
    const thread = new Worker(new URL("./browser-thread.js", import.meta.url), { type: "module" });
    thread.addEventListener("message", ready, { once: true });
    thread.addEventListener("error", (event) => {
      // What becomes of it is decided there; as an error of this worker it would end the engine.
      event.preventDefault();
      ended(event.message || "a worker thread failed");
    });
    thread.postMessage(shared);
    return () => thread.terminate();
  },
};

let engine;
/** Running calls, so that they can be aborted. */
const aborts = new Map();
/** Answers that the page draws from, by number. */
const answers = new Map();

const calls = {
  configure({ config, observe }) {
    const onProgress = observe.progress ? (progress) => postMessage({ event: "progress", value: progress }) : undefined;
    const onWarning = observe.warning ? (text) => postMessage({ event: "warning", value: text }) : undefined;
    const standIn = config.default ?? cachedHttp(DEFAULT_MODEL.url);
    engine = new LocalEngine((settings) => start(settings, HOST), { ...config, default: standIn, onProgress, onWarning });
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
  object: ({ answer }) => answers.get(answer).object(),
  chunk: ({ answer }) => answers.get(answer)?.chunk(),
  load: ({ model }) => engine.load(model),
  models: ({ params }) => engine.models(params),
  stats: () => engine.stats(),
};

/** Messages that have no answer. */
const notices = {
  abort: ({ id }) => aborts.get(id)?.abort(),
  free({ answer }) {
    answers.get(answer)?.free();
    answers.delete(answer);
    aborts.delete(answer);
  },
};

addEventListener("message", async ({ data }) => {
  const notice = notices[data.call];
  if (notice) return void notice(data);
  const abort = new AbortController();
  aborts.set(data.id, abort);
  try {
    const value = await calls[data.call](data, abort.signal);
    postMessage({ id: data.id, value });
  } catch (error) {
    postMessage({ id: data.id, error: toMessage(error) });
  } finally {
    // An answer's abort lives as long as the answer, until it is freed.
    if (!answers.has(data.id)) aborts.delete(data.id);
  }
});
