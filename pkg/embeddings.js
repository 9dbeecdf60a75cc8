// Embeddings, as the crate asks for them. What computes them is loaded when the first of them is asked for.

import { DEFAULT_EMBEDDINGS } from "./default-embeddings.js";
import { AiInternalError } from "./errors.js";
import { toSource } from "./source.js";

/**
 * @import { AiConfig, EmbeddingSource, ModelFile, ModelSource } from "./index.d.ts"
 * @import { EmbeddingEngine, HostEmbeddings } from "./internal.d.ts"
 * @import { Source } from "./source.js"
 * @typedef {{weights: Source, config?: Source, tokenizer?: Source}} EmbeddingFiles
 */

const FILES = /** @type {const} */ (["weights", "config", "tokenizer"]);

/**
 * Whether a configured value names the files of an embedding model.
 *
 * @param {unknown} value
 */
export const hasWeights = (value) => typeof value === "object" && value !== null && "weights" in value;

/**
 * The file of a configured model, or the files of a split one, if that is all that the model has: the crate opens it, and finds out what it is.
 * `undefined` if the model has further files, which only the module for embeddings reads.
 *
 * @param {ModelSource | EmbeddingSource | undefined} value
 * @returns {ModelSource | undefined}
 */
export function aloneFile(value) {
  if (!hasWeights(value)) return /** @type {ModelSource | undefined} */ (value);
  const { weights, config, tokenizer } = /** @type {Record<string, ModelFile | undefined>} */ (value);
  return config === undefined && tokenizer === undefined ? weights : undefined;
}

/**
 * The models of a configuration whose files the crate opens.
 *
 * @param {AiConfig["models"]} models
 * @returns {[string, ModelSource][]}
 */
export const modelsForCrate = (models = {}) =>
  Object.entries(models).flatMap(([id, value]) => {
    const file = aloneFile(value);
    return file === undefined ? [] : [/** @type {[string, ModelSource]} */ ([id, file])];
  });

/**
 * Converts the configured files of an embedding model: `{weights, config, tokenizer}`, or one GGUF file.
 *
 * @param {unknown} value
 * @param {string} place the value's place in the configuration, for error messages
 * @param {(value: unknown, place: string) => Source} [one] converts a file; see `toSource`
 * @returns {EmbeddingFiles}
 * @throws {AiInternalError} if the value is neither
 */
export function toEmbeddingFiles(value, place, one = toSource) {
  if (Array.isArray(value)) throw new AiInternalError(`${place} is a list, and an embedding model is one file, or { weights, config, tokenizer }.`);
  if (!hasWeights(value)) return { weights: one(value, place) };
  const files = /** @type {Record<string, unknown>} */ (value);
  const given = FILES.filter((name) => files[name] !== undefined);
  return /** @type {EmbeddingFiles} */ (Object.fromEntries(given.map((name) => [name, one(files[name], `${place}.${name}`)])));
}

/**
 * What answers the crate's requests for embeddings.
 *
 * @param {AiConfig} config
 * @param {(config: AiConfig) => Promise<EmbeddingEngine>} open loads what computes
 * @param {(value: unknown, place: string) => Source} [one]
 * @returns {HostEmbeddings & {close(): void}}
 * @throws {AiInternalError} if the configuration is invalid
 */
export function embeddingsOf(config, open, one) {
  const { models = {}, defaultEmbeddings, onWarning = console.warn } = config;
  const own = Object.entries(models).filter(([, value]) => hasWeights(value));
  for (const [id, value] of own) toEmbeddingFiles(value, `models["${id}"]`, one);
  if (defaultEmbeddings !== undefined) toEmbeddingFiles(defaultEmbeddings, "defaultEmbeddings", one);
  /** @type {Promise<EmbeddingEngine> | undefined} */
  let engine;
  const warned = new Set();
  return {
    ids: own.map(([id]) => id),
    embed(model, texts, cls) {
      const ended = new AbortController();
      const vectors = embed(model, texts, cls, ended.signal);
      // Nobody may wait for it any more.
      vectors.catch(() => {});
      return { vectors, cancel: () => ended.abort() };
    },
    close: () => void engine?.then((engine) => engine.close(), () => {}),
  };

  /**
   * @param {string} model
   * @param {string[]} texts
   * @param {boolean} cls
   * @param {AbortSignal} signal
   */
  async function embed(model, texts, cls, signal) {
    const isOwn = Object.hasOwn(models, model);
    const isDefault = model === DEFAULT_EMBEDDINGS.id;
    engine ??= open(config).catch((error) => {
      engine = undefined;
      throw error;
    });
    const done = await (await engine).embed(isOwn ? model : undefined, texts, cls, signal);
    if (!isOwn && !isDefault && !warned.has(model)) {
      warned.add(model);
      onWarning(
        `workers-ai-local: ${model} has no local weights; the small embedding model ${done.servedBy} answers instead, with vectors of ${done.width} numbers. Give it files with new Ai({ models: { "${model}": { weights, config, tokenizer } } }), or set strict: true to refuse it.`,
      );
    }
    return done;
  }
}
