// The entry for Node. The engine runs in this thread; model files can be given by path.

import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { Ai as BaseAi } from "./ai.js";
import { ModelCache, FOR_ENGINES } from "./cache/models.js";
import { cachedModel, cachedName, fileAt } from "./cache/source.js";
import { withConfigFile } from "./config-file.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { provideGpu } from "./gpu.js";
import { narrow, wide } from "./instance.js";
import { LocalEngine, weakly } from "./local-engine.js";
import { dawn } from "./node-gpu.js";
import { Recordings, answerOfService } from "./recordings.js";
import { accountOf } from "./service.js";
import { filesIn } from "./loras.js";
import { parseName } from "./names.js";
import { named, toSource } from "./source.js";
import { substituteOf } from "./substitute.js";
import { builds } from "./wasm/builds.js";
import { engineBySize } from "./widening-engine.js";

/**
 * @import { AiConfig, CachedModel, LoraAdapter } from "./index.d.ts"
 * @import { Host } from "./internal.d.ts"
 */

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

/** @type {Host<URL>} */
const HOST = {
  builds,
  cores: availableParallelism(),
  mayShare: true,
  widens: Boolean(builds.wasm64),
  widerRuntime: "Node 22 or newer",
  // A container may have less than the machine.
  memoryBytes: Math.min(totalmem(), process.constrainedMemory?.() || Infinity),
  compile: async (wasm) => WebAssembly.compile(await readFile(wasm)),
  startThread(shared, { ready, ended }) {
    // Do not inherit this process's options: some are only valid for its main script.
    const thread = new Worker(new URL("./node-thread.js", import.meta.url), { workerData: shared, execArgv: [] });
    thread.once("message", ready);
    thread.once("error", (error) => ended(error.message));
    thread.once("exit", () => ended("a worker thread ended"));
    // The thread waits for work forever; it must not keep the process running.
    thread.unref();
    return () => void thread.terminate();
  },
};

/** Bytes of memory that the machine has, and that an engine can have on the CPU. */
export const MEMORY = { machine: HOST.memoryBytes ?? Infinity, engine: (builds.wasm64 ? 16 : 4) * 2 ** 30 };

provideGpu(dawn);

export class Ai extends BaseAi {
  /**
   * The models that are stored on this machine: see index.d.ts.
   *
   * @type {import("./index.d.ts").AiModels}
   */
  static models = { list: listModels, delete: (name) => new ModelCache().delete(String(name)) };

  /** @param {AiConfig} [given] */
  constructor(given = {}) {
    const config = withConfigFile(given);
    const cache = cacheOf(config);
    const toFile = nodeSource(cache);
    const { default: fallback = process.env.WORKERS_AI_LOCAL_MODEL || cachedModel(cache, cache.defaultModel()), ...rest } = config;
    const substitute = substituteOf(config, { account: accountOf(process.env), recordings });
    /** @param {import("./instance.js").WasmInstance} instance */
    const engine = (instance) => (/** @type {AiConfig} */ settings) => new LocalEngine(instance, () => HOST, settings, toFile, substitute, openEmbeddings);
    super(engineBySize({ ...rest, default: fallback, loras: withFolders(config.loras) }, engine(narrow), engine(wide)));
  }
}

/** @returns {Promise<CachedModel[]>} */
async function listModels() {
  return (await new ModelCache().list()).map(({ name, url, bytes, size, complete, sha256, used }) => ({ name, url, bytes, ...(size !== undefined && { size }), complete, ...(sha256 && { sha256 }), used }));
}

/** Where the files of this configuration are stored. @param {AiConfig} config */
function cacheOf({ hub, onProgress, onWarning = console.warn }) {
  const progress = weakly(onProgress);
  return new ModelCache({
    hub,
    onWarning: weakly(onWarning),
    onProgress: ({ loaded, total }) => progress?.({ model: "download", phase: "download", loaded, total }),
    conditions: FOR_ENGINES,
  });
}

/** @param {AiConfig} config */
async function openEmbeddings(config) {
  const [{ LocalEmbeddings }, { builds }] = await Promise.all([import("./embedding-engine.js"), import("./wasm/embeddings.js")]);
  const { embeddings } = builds;
  const cache = cacheOf(config);
  const fallback = () => {
    const model = cache.defaultEmbeddings();
    const [weights, sizes, tokenizer] = model.files.map((_, index) => cachedModel(cache, model, index));
    return { weights, config: sizes, tokenizer };
  };
  const module = embeddings && { glue: embeddings.glue, compile: () => HOST.compile(embeddings.wasm) };
  return new LocalEmbeddings(config, module, fallback, nodeSource(cache));
}

/** @param {unknown} record */
function recordings(record) {
  return Object.assign(new Recordings(record, process.env), { answerOfService });
}

/** @param {string} text */
const isUrl = (text) => /^[a-z][a-z0-9+.-]+:\/\//i.test(text);

/**
 * Like `toSource`, but a string that is not a name is a path, `file:` URLs are supported, and what has a name is stored.
 *
 * @param {ModelCache} cache
 * @returns {(value: unknown, place: string) => import("./source.js").Source}
 */
const nodeSource = (cache) => (value, place) => {
  // Bytes are not converted to a string: for a model that takes seconds, or fails.
  const text = typeof value === "string" || value instanceof URL ? String(value) : undefined;
  if (text === undefined) return toSource(value, place);
  if (text.startsWith("file://")) return named(fileURLToPath(text), fileAt);
  if (parseName(text)) return cachedName(cache, text);
  return isUrl(text) ? toSource(value, place) : named(text, fileAt);
};

/**
 * The adapters with the files of those that are given as a folder.
 *
 * @param {AiConfig["loras"]} loras
 */
function withFolders(loras) {
  /** @param {unknown} source */
  const isFolder = (source) => typeof source === "string" && !isUrl(source) && statSync(source, { throwIfNoEntry: false })?.isDirectory();
  /** @param {[string, LoraAdapter]} entry */
  const changed = ([name, lora]) => [name, isFolder(lora?.source) ? { ...lora, source: filesIn(path.join(String(lora.source), path.sep)) } : lora];
  return typeof loras !== "object" || loras === null ? loras : Object.fromEntries(Object.entries(loras).map(changed));
}
