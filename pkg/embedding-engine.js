// What computes embeddings, in this thread: one instance of a WebAssembly module of its own, and the models in it.

import { DEFAULT_EMBEDDINGS } from "./default-embeddings.js";
import { toEmbeddingFiles } from "./embeddings.js";
import { AiInternalError, abortError, aiError } from "./errors.js";
import { yieldToEventLoop } from "./instance.js";

/**
 * @import { AiConfig } from "./index.d.ts"
 * @import { Embedder, EmbeddingEngine, EmbeddingGlue, EmbeddingModule, EmbeddingVectors } from "./internal.d.ts"
 * @import { EmbeddingFiles } from "./embeddings.js"
 * @import { Source } from "./source.js"
 * @typedef {{embedder: Embedder, name: string, since: number}} Model a loaded model, and the number of the instance that has it
 */

/** Pauses before the next try to read a file. */
const WAITS_MS = [300, 1000, 3000, 10_000];
/** A small file beside the weights has at most so many bytes. */
const MAX_SMALL_FILE = 64 << 20;

/**
 * The instance of this thread.
 *
 * @type {Promise<EmbeddingGlue> | undefined}
 */
let started;
/** Its number; it changes when the instance is replaced. */
let current = 0;
/**
 * Models by their files. An engine holds those that it uses.
 *
 * @type {Map<string, {deref(): Model | undefined}>}
 */
const loaded = new Map();
/**
 * The loads that are in progress.
 *
 * @type {Map<string, Promise<Model>>}
 */
const loading = new Map();

/** @param {EmbeddingModule} module */
function start({ glue, compile }) {
  started ??= Promise.all([glue(), compile()]).then(
    ([glue, module]) => {
      glue.initSync({ module });
      return glue;
    },
    (error) => {
      started = undefined;
      throw error;
    },
  );
  return started;
}

/**
 * Calls into the instance. A trap replaces it: its models are loaded again when they are needed.
 *
 * @template T
 * @param {EmbeddingGlue} glue
 * @param {() => T} work synchronous
 * @param {number} [since] the number of the instance that `work` uses
 * @returns {T}
 */
function call(glue, work, since = current) {
  if (since !== current) throw aiError(3040, 429, "The embedding engine was restarted (another request broke it). Try again.");
  try {
    return work();
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) {
      current += 1;
      loaded.clear();
      glue.__wbg_reset_state();
      throw aiError(5004, 400, `This request broke the embedding engine (${error.message}), which was restarted. If memory ran out, use a smaller model. Otherwise it is a bug: please report it.`);
    }
    if (error?.name === "PanicError") throw aiError(5004, 400, `This request failed because of a bug in workers-ai-local (${error.message}). Please report it.`);
    if (error?.internalCode) throw aiError(error.internalCode, error.httpCode, error.message);
    throw error;
  }
}

/** @implements {EmbeddingEngine} */
export class LocalEmbeddings {
  #module;
  #onProgress;
  /** @type {Record<string, EmbeddingFiles>} */
  #files;
  #fallback;
  /**
   * The models that this engine uses, by their files.
   *
   * @type {Map<string, Model>}
   */
  #models = new Map();

  /**
   * @param {AiConfig} config
   * @param {EmbeddingModule | undefined} module absent if the package was built without it
   * @param {() => EmbeddingFiles} fallback the files of the model that stands in for those without files
   * @param {(value: unknown, place: string) => Source} [one] converts a configured file to a source
   */
  constructor({ models = {}, defaultEmbeddings, onProgress }, module, fallback, one) {
    if (!module) throw new AiInternalError("This package was built without the module for embeddings.");
    this.#module = module;
    this.#onProgress = onProgress;
    // Only some of the models are for embeddings, and a list of files never is.
    const own = Object.entries(models).filter(([, value]) => !Array.isArray(value));
    this.#files = Object.fromEntries(own.map(([id, value]) => [id, toEmbeddingFiles(value, `models["${id}"]`, one)]));
    this.#fallback = defaultEmbeddings === undefined ? fallback() : toEmbeddingFiles(defaultEmbeddings, "defaultEmbeddings", one);
  }

  /** @type {EmbeddingEngine["embed"]} */
  async embed(id, texts, cls, signal) {
    const files = id === undefined ? this.#fallback : this.#files[id];
    if (!files) throw aiError(5004, 400, `The model of ${id} is a list of files, and an embedding model is one GGUF file or { weights, config, tokenizer }.`);
    const glue = await start(this.#module);
    const model = await this.#load(glue, files, id ?? DEFAULT_EMBEDDINGS.id);
    return vectors(glue, model, texts, cls, signal);
  }

  close() {
    this.#models.clear();
  }

  /**
   * @param {EmbeddingGlue} glue
   * @param {EmbeddingFiles} files
   * @param {string} id for the progress
   */
  async #load(glue, files, id) {
    const key = JSON.stringify(Object.values(files).map(({ identity, name }) => identity ?? name));
    const known = loaded.get(key)?.deref();
    const model = known ?? (await (loading.get(key) ?? load(glue, files, key, (read, total) => this.#onProgress?.({ model: id, phase: "weights", loaded: read, total }))));
    this.#models.set(key, model);
    return model;
  }
}

/**
 * @param {EmbeddingGlue} glue
 * @param {EmbeddingFiles} files
 * @param {string} key
 * @param {(read: number, total: number | null) => void} report
 */
function load(glue, files, key, report) {
  const load = read(glue, files, report).then((model) => {
    // Old runtimes have no weak references, and keep the model.
    loaded.set(key, typeof WeakRef === "function" ? new WeakRef(model) : { deref: () => model });
    return model;
  });
  loading.set(key, load);
  const ended = () => void loading.delete(key);
  load.then(ended, ended);
  return load;
}

/**
 * @param {EmbeddingGlue} glue
 * @param {EmbeddingFiles} files
 * @param {(read: number, total: number | null) => void} report
 * @returns {Promise<Model>}
 */
async function read(glue, { weights, config, tokenizer }, report) {
  const since = current;
  const [beside, vocabulary] = await Promise.all([small(glue, config), small(glue, tokenizer)]);
  /** @type {import("./internal.d.ts").EmbeddingReader | undefined} */
  let reader;
  // Made late: a stored copy was verified before, which its source knows when it is open.
  const opened = () => (reader ??= call(glue, () => new glue.Reader(weights.sha256 !== undefined), since));
  try {
    await readFile(weights, (piece) => call(glue, () => opened().push(piece), since), report);
    check(weights, () => call(glue, () => opened().sha256(), since));
    const embedder = call(glue, () => opened().finish(beside, vocabulary), since);
    return { embedder, name: weights.name, since };
  } catch (error) {
    if (error?.internalCode === 5004) throw aiError(5004, 400, `The embedding model ${weights.name} cannot be used: ${error.description}`);
    throw error;
  } finally {
    // `finish` has consumed it.
    if (since === current && reader?.__wbg_ptr) reader.free();
  }
}

/**
 * The content of a small file.
 *
 * @param {EmbeddingGlue} glue
 * @param {Source | undefined} source
 */
async function small(glue, source) {
  if (!source) return undefined;
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const pieces = [];
  let length = 0;
  await readFile(source, (piece) => {
    length += piece.length;
    if (length > MAX_SMALL_FILE) throw aiError(5004, 400, `The file ${source.name} is too large for what it should be.`);
    // The source may use its buffer again.
    pieces.push(piece.slice());
  });
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  check(source, () => call(glue, () => glue.sha256(bytes)));
  return bytes;
}

/**
 * @param {Source} source
 * @param {() => string | undefined} found
 */
function check({ name, sha256 }, found) {
  if (!sha256) return;
  const hash = found();
  if (hash !== sha256.toLowerCase()) {
    throw aiError(5004, 400, `${name} is not the expected file: its SHA-256 is ${hash} instead of ${sha256}. It was damaged on its way, or replaced. Get the file again.`);
  }
}

/**
 * Reads a file to its end, and goes on where a connection was lost.
 *
 * @param {Source} source
 * @param {(piece: Uint8Array) => void} take
 * @param {(read: number, total: number | null) => void} [report]
 */
async function readFile(source, take, report) {
  let position = 0;
  for (let tries = 0; ; ) {
    /** @type {import("./index.d.ts").ModelFileStream | undefined} */
    let stream;
    try {
      stream = await source.open(position);
      for (let piece; (piece = await stream.read()) !== undefined; ) {
        take(piece);
        position += piece.length;
        tries = 0;
        report?.(position, stream.size ?? null);
      }
      if (stream.size === undefined || position >= stream.size) return;
      throw new Error("the connection was closed");
    } catch (error) {
      if (error?.internalCode) throw error;
      const wait = WAITS_MS[tries];
      tries += 1;
      if (error?.kind === "not-found") throw aiError(3042, 404, `The model file ${source.name} was not found: ${error.message}. Check the address in the configuration.`);
      if (error?.kind === "refused") throw aiError(3003, 400, `The model file ${source.name} cannot be read: ${error.message}.`);
      if (error?.kind === "changed") throw aiError(3008, 408, `The model file ${source.name} changed while it was read: ${error.message}. Try again.`);
      if (wait === undefined) throw aiError(3008, 408, `Reading ${source.name} broke off after ${position} bytes: ${error.message}. Check the connection and try again.`);
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, Math.min(error?.waitMs ?? 0, 30_000))));
    } finally {
      stream?.cancel();
    }
  }
}

/**
 * @param {EmbeddingGlue} glue
 * @param {Model} model
 * @param {string[]} texts
 * @param {boolean} cls
 * @param {AbortSignal} [signal]
 * @returns {Promise<EmbeddingVectors>}
 */
async function vectors(glue, { embedder, name, since }, texts, cls, signal) {
  const { width } = call(glue, () => embedder, since);
  const job = call(glue, () => embedder.start(texts, cls), since);
  try {
    while (!call(glue, () => embedder.step(job), since)) {
      await yieldToEventLoop();
      if (signal?.aborted) throw abortError(signal);
    }
    const numbers = call(glue, () => job.finish(), since);
    // The last number is that of the tokens.
    return { numbers: numbers.subarray(0, -1), width, tokens: numbers[numbers.length - 1], servedBy: name };
  } finally {
    if (since === current && job.__wbg_ptr) job.free();
  }
}
