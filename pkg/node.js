// The entry for Node. The engine runs in this thread; model files can be given by path.

import { createHash } from "node:crypto";
import { createWriteStream, rmSync, statSync } from "node:fs";
import { mkdir, open, readFile, rename, stat } from "node:fs/promises";
import { availableParallelism, homedir, totalmem } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_EMBEDDINGS } from "./default-embeddings.js";
import { DEFAULT_MODEL, modelFolder } from "./default-model.js";
import { provideGpu } from "./gpu.js";
import { narrow, wide } from "./instance.js";
import { LocalEngine, weakly } from "./local-engine.js";
import { dawn } from "./node-gpu.js";
import { Recordings, answerOfService } from "./recordings.js";
import { accountOf } from "./service.js";
import { filesIn } from "./loras.js";
import { http, named, sourceError, toSource } from "./source.js";
import { substituteOf } from "./substitute.js";
import { builds } from "./wasm/builds.js";
import { engineBySize } from "./widening-engine.js";

/**
 * @import { AiConfig, CustomModelSource, LoraAdapter } from "./index.d.ts"
 * @import { Host } from "./internal.d.ts"
 */

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

/** Bytes per read of a file. */
const PIECE = 1 << 20;

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

provideGpu(dawn);

export class Ai extends BaseAi {
  /** @param {AiConfig} [config] */
  constructor(config = {}) {
    const { default: fallback = process.env.WORKERS_AI_LOCAL_MODEL || defaultModel(weakly(config.onProgress)), ...rest } = config;
    const substitute = substituteOf(config, { account: accountOf(process.env), recordings });
    /** @param {import("./instance.js").WasmInstance} instance */
    const engine = (instance) => (/** @type {AiConfig} */ settings) => new LocalEngine(instance, () => HOST, settings, nodeSource, substitute, openEmbeddings);
    super(engineBySize({ ...rest, default: fallback, loras: withFolders(config.loras) }, engine(narrow), engine(wide)));
  }
}

/** @param {AiConfig} config */
async function openEmbeddings(config) {
  const [{ LocalEmbeddings }, { builds }] = await Promise.all([import("./embedding-engine.js"), import("./wasm/embeddings.js")]);
  const { embeddings } = builds;
  const { folder, weights, config: sizes, tokenizer } = DEFAULT_EMBEDDINGS;
  const cached = (/** @type {import("./default-embeddings.js").DefaultFile} */ file) => cachedFile({ ...file, file: path.join(folder, file.file) }, HELP_EMBEDDINGS, config.onProgress);
  const fallback = () => ({ weights: cached(weights), config: cached(sizes), tokenizer: cached(tokenizer) });
  const module = embeddings && { glue: embeddings.glue, compile: () => HOST.compile(embeddings.wasm) };
  return new LocalEmbeddings(config, module, fallback, nodeSource);
}

/** @param {unknown} record */
function recordings(record) {
  return Object.assign(new Recordings(record, process.env), { answerOfService });
}

/** @param {string} text */
const isUrl = (text) => /^[a-z][a-z0-9+.-]+:\/\//i.test(text);

/**
 * Like `toSource`, but a string that is not a URL is a path, and `file:` URLs are supported.
 *
 * @param {unknown} value
 * @param {string} place
 */
function nodeSource(value, place) {
  if (typeof value === "string" && !isUrl(value)) return named(value, file);
  // Bytes are not converted to a string: for a model that takes seconds, or fails.
  if ((typeof value === "string" || value instanceof URL) && String(value).startsWith("file://")) return named(fileURLToPath(value), file);
  return toSource(value, place);
}

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

/**
 * A source that reads a file on disk.
 *
 * @param {string} filePath
 * @returns {CustomModelSource}
 */
function file(filePath) {
  return {
    name: filePath,
    async open(offset) {
      const handle = await open(filePath).catch((error) => {
        throw error.code === "ENOENT" ? sourceError("not-found", "no such file") : sourceError("refused", error.message);
      });
      const { size } = await handle.stat();
      // While the crate takes one piece, the next one is read, into the other buffer.
      const buffers = [Buffer.allocUnsafeSlow(PIECE), Buffer.allocUnsafeSlow(PIECE)];
      let position = offset;
      let turn = 0;
      const ahead = () => {
        const reading = handle.read(/** @type {Buffer} */ (buffers[(turn += 1) % 2]), 0, PIECE, position).then(({ bytesRead, buffer }) => {
          position += bytesRead;
          return bytesRead > 0 ? new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead) : undefined;
        });
        // Its failure is that of the `read` that asks for it.
        reading.catch(() => {});
        return reading;
      };
      let next = ahead();
      return {
        size,
        async read() {
          const piece = await next.catch((error) => {
            throw sourceError("refused", error.message);
          });
          if (piece) next = ahead();
          return piece;
        },
        cancel: () => void handle.close().catch(() => {}),
      };
    },
  };
}

/**
 * A file of a default model.
 *
 * @typedef {{file: string, url: string, size: number, sha256: string}} KnownFile
 */

const HELP = "or set WORKERS_AI_LOCAL_MODEL to the path of a GGUF file";
const HELP_EMBEDDINGS = "or configure another embedding model with new Ai({ defaultEmbeddings })";

/** @param {AiConfig["onProgress"]} onProgress */
const defaultModel = (onProgress) => cachedFile(DEFAULT_MODEL, HELP, onProgress);

/**
 * The source of a default model: a file in the user's cache folder, downloaded on first use.
 *
 * @param {KnownFile} known
 * @param {string} help what else can be done if it cannot be downloaded
 * @param {AiConfig["onProgress"]} onProgress
 * @returns {CustomModelSource}
 */
function cachedFile(known, help, onProgress) {
  const cached = path.join(modelFolder(process.env, homedir()), known.file);
  return {
    name: cached,
    async open(offset) {
      const found = await stat(cached).catch(() => null);
      if (found?.size !== known.size) await download(known, cached, help, onProgress);
      return file(cached).open(offset);
    },
  };
}

/**
 * Downloads a file to `target`, which appears only when it is complete.
 *
 * @param {KnownFile} known
 * @param {string} target
 * @param {string} help
 * @param {AiConfig["onProgress"]} onProgress
 */
async function download({ url, size, sha256 }, target, help, onProgress) {
  await mkdir(path.dirname(target), { recursive: true });
  // A temporary file with a name per process: two processes may download at the same time, and neither sees an incomplete file.
  const part = `${target}.${process.pid}.part`;
  const clear = () => rmSync(part, { force: true });
  // Removes the temporary file if the process ends during the download.
  process.once("exit", clear);
  try {
    const stream = await http(url).open(0);
    const hash = createHash("sha256");
    let loaded = 0;
    const chunks = async function* () {
      for (let chunk; (chunk = await stream.read()) !== undefined; yield chunk) {
        loaded += chunk.length;
        hash.update(chunk);
        onProgress?.({ model: "download", phase: "download", loaded, total: stream.size ?? size });
      }
    };
    await pipeline(Readable.from(chunks()), createWriteStream(part));
    if (loaded !== size) throw sourceError("interrupted", `the download has ${loaded} bytes instead of ${size}`);
    if (hash.digest("hex") !== sha256) throw sourceError("interrupted", "the download has another SHA-256 than the model");
    await rename(part, target);
  } catch (error) {
    clear();
    const reason = error.cause?.message ?? error.message;
    throw sourceError(
      error.kind ?? "interrupted",
      `the default model could not be downloaded from ${url}: ${reason}. Copy the file to ${target} yourself, ${help}`,
    );
  } finally {
    process.removeListener("exit", clear);
  }
}
