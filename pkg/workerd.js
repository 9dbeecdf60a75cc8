// The entry for workerd: `import { Ai } from "workers-ai-local"` inside your own Worker.

import { waitUntil } from "cloudflare:workers";
import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_EMBEDDINGS } from "./default-embeddings.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { toEmbeddingFiles } from "./embeddings.js";
import { defaultFile } from "./hub.js";
import { streamed } from "./hub-source.js";
import { narrow, wide } from "./instance.js";
import { LocalEngine } from "./local-engine.js";
import { substituteOf } from "./substitute.js";
import dotProduct from "./wasm/dot-product.wasm";
import { builds } from "./wasm/workerd-builds.js";
import { engineBySize } from "./widening-engine.js";

/**
 * @import { DefaultFile } from "./default-embeddings.js"
 * @import { AiConfig } from "./index.d.ts"
 * @import { Chunks, Engine, Host } from "./internal.d.ts"
 */

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

/**
 * workerd has no threads. It cannot compile wasm at run time, so compiled modules are imported.
 *
 * @type {Host<() => Promise<{default: WebAssembly.Module}>>}
 */
const HOST = {
  ...{ builds, cores: 1, mayShare: false, dotProduct },
  ...{ widens: Boolean(builds.wasm64), widerRuntime: "a newer wrangler" },
  compile: async (wasm) => (await wasm()).default,
};

/**
 * Loads what computes embeddings: a Worker that asks for none does not run it.
 *
 * @param {AiConfig} config
 */
async function openEmbeddings(config) {
  const [{ LocalEmbeddings }, { builds }] = await Promise.all([import("./embedding-engine.js"), import("./wasm/workerd-embeddings.js")]);
  const { embeddings } = builds;
  const { weights, config: sizes, tokenizer } = DEFAULT_EMBEDDINGS;
  const file = (/** @type {DefaultFile} */ given) => defaultFile(given, config.hub);
  const fallback = () => toEmbeddingFiles({ weights: file(weights), config: file(sizes), tokenizer: file(tokenizer) }, "defaultEmbeddings");
  return new LocalEmbeddings(config, embeddings && { glue: embeddings.glue, compile: () => HOST.compile(embeddings.wasm) }, fallback, streamed(config.hub));
}

/** @extends {LocalEngine<() => Promise<{default: WebAssembly.Module}>>} */
class WorkerdEngine extends LocalEngine {

  /** @param {Parameters<Engine["generate"]>} request */
  async generate(...request) {
    const answer = await keepContext(super.generate(...request));
    return keepContextUntilFreed({ ...answer, object: () => keepContext(answer.object()) });
  }

  /** @param {Parameters<Engine["fetch"]>} request */
  async fetch(...request) {
    return keepContextUntilFreed(await keepContext(super.fetch(...request)));
  }

  /** @param {Promise<unknown>} work */
  background(work) {
    void keepContext(work);
  }
}

/**
 * Keeps the request's context alive until `work` is done. Without it, a cancelled request loses its timers, so its computation would stop
 * forever and never free its place in the queue.
 *
 * @template T
 * @param {Promise<T>} work
 */
function keepContext(work) {
  waitUntil(work.catch(() => {}));
  return work;
}

/**
 * Keeps the request's context alive until a stream is freed: only then does workerd report to the stream that its reader is gone.
 *
 * @template {Chunks & {stream: boolean}} Answer
 * @param {Answer} answer
 */
function keepContextUntilFreed(answer) {
  if (!answer.stream) return answer;
  /** @type {() => void} */
  let ended;
  waitUntil(/** @type {Promise<void>} */ (new Promise((resolve) => (ended = resolve))));
  const free = () => {
    answer.free();
    ended();
  };
  return { ...answer, free };
}

export class Ai extends BaseAi {
  /** @param {AiConfig} [config] */
  constructor(config = {}) {
    const settings = { ...config, default: config.default ?? defaultFile(DEFAULT_MODEL, config.hub) };
    const substitute = substituteOf(config, { account: {} });
    /** @param {import("./instance.js").WasmInstance} instance */
    const engine = (instance) => (/** @type {AiConfig} */ settings) => new WorkerdEngine(instance, () => HOST, settings, streamed(config.hub), substitute, openEmbeddings);
    super(engineBySize(settings, engine(narrow), engine(wide)));
  }
}
