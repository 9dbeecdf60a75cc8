// The Web Worker of a page's `Ai`: the engine, behind messages. Its other half is remote-engine.js.

import initialise from "./wasm/workers_ai_local.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { toMessage } from "./errors.js";
import { LocalEngine } from "./local-engine.js";
import { cachedHttp } from "./browser-cache.js";

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
    engine = new LocalEngine(() => initialise(), { ...config, default: standIn, onProgress, onWarning });
  },
  async generate({ id, model, input }, signal) {
    const answer = await engine.generate(model, input, signal);
    answers.set(id, answer);
    return { stream: answer.stream, servedBy: answer.servedBy };
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
