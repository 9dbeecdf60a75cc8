// The options with which every command that computes configures its `Ai`.

import path from "node:path";
import { ModelCache } from "../cache/models.js";
import { ADDRESS, withConfigFile } from "../config-file.js";
import { DEFAULT_MODEL } from "../default-model.js";
import { hasWeights } from "../embeddings.js";
import { Ai } from "../node.js";
import { UsageError, numberOf } from "./arguments.js";

/**
 * @import { AiConfig } from "../index.d.ts"
 * @typedef {{threads?: string, backend?: string, strict?: boolean, forward?: string[]}} EngineValues
 */

const BACKENDS = /** @type {const} */ (["auto", "webgpu", "cpu"]);
const MAX_THREADS = 64;
const WHEN = /** @type {const} */ (["always", "when-missing"]);

/**
 * The part of a configuration that says how to compute, and what the real service answers.
 *
 * @param {EngineValues} values
 * @returns {Pick<AiConfig, "threads" | "backend" | "strict" | "remote">}
 * @throws {UsageError}
 */
export function engineFrom(values) {
  const threads = numberOf(values, "threads");
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) {
    throw new UsageError(`--threads takes a whole number from 1 to ${MAX_THREADS}, not "${values.threads}"`);
  }
  const backend = BACKENDS.find((name) => name === values.backend);
  if (values.backend !== undefined && !backend) throw new UsageError(`--backend takes ${BACKENDS.slice(0, -1).join(", ")} or ${BACKENDS.at(-1)}, not "${values.backend}"`);
  return { threads, backend, strict: values.strict, remote: remoteFrom(values.forward) };
}

/**
 * The adapters of `--lora NAME=PATH`.
 *
 * @param {string[] | undefined} given
 * @param {(path: string) => string} [change] of each path or URL
 * @returns {Pick<AiConfig, "loras">}
 * @throws {UsageError}
 */
export function lorasFrom(given, change = (source) => source) {
  if (!given?.length) return {};
  const entries = given.map((text) => {
    const [, name, source] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
    if (!name) throw new UsageError(`--lora takes NAME=PATH, not "${text}"`);
    return [name, { source: change(source) }];
  });
  return { loras: Object.fromEntries(entries) };
}

/** @param {string[] | undefined} forward `ID` or `ID=when-missing` */
function remoteFrom(forward) {
  if (!forward) return undefined;
  const entries = forward.map((text) => {
    const [, id, given = WHEN[0]] = /^([^=]+)(?:=(.*))?$/.exec(text) ?? [];
    const when = WHEN.find((name) => name === given);
    if (!id || !when) throw new UsageError(`--forward takes a model id, or ID=when-missing, not "${text}"`);
    return [id, when];
  });
  return Object.fromEntries(entries);
}

/**
 * The name of a model file as it is shown. The query of a URL may be a signature.
 *
 * @param {string} source a path or a URL
 */
export const fileNameOf = (source) => path.basename(ADDRESS.test(source) ? source.replace(/[?#].*$/s, "") : source);

/**
 * A command's options with those of the project's configuration file. `--gguf` without `--model` serves every id for text, so then the file's models of
 * text do not.
 *
 * @param {AiConfig} options
 * @returns {Promise<AiConfig>}
 */
export async function configured(options) {
  const merged = withConfigFile({ config: true, ...options });
  return options.default === undefined ? merged : { ...merged, models: await embeddingModels(merged) };
}

/**
 * The models of a configuration that are for embeddings: by their files, or by what the catalogue says of their ids.
 *
 * @param {AiConfig} config
 * @returns {Promise<AiConfig["models"]>}
 */
async function embeddingModels({ models = {}, threads, backend }) {
  const entries = Object.entries(models);
  if (entries.every(([, value]) => hasWeights(value))) return models;
  const ai = new Ai({ threads, backend });
  const ids = new Set((await ai.models({ task: "Text Embeddings" })).map(({ name }) => name));
  await ai.close();
  return Object.fromEntries(entries.filter(([id, value]) => hasWeights(value) || ids.has(id)));
}

/**
 * What is stored on this machine, by the hub of the project's configuration file.
 *
 * @param {Omit<import("../cache/models.js").CacheOptions, "hub">} [options]
 */
export const storedModels = (options) => new ModelCache({ ...options, hub: withConfigFile(/** @type {AiConfig} */ ({ config: true })).hub });

/**
 * The name of the model file that a configuration, or the environment, says.
 *
 * @param {AiConfig} config
 * @param {string} [model] the id for which it is
 */
export function chosenFile(config, model = DEFAULT_MODEL.id) {
  const own = config.models?.[model] ?? config.default;
  const first = Array.isArray(own) ? own[0] : own;
  return fileNameOf(typeof first === "string" ? first : process.env.WORKERS_AI_LOCAL_MODEL || DEFAULT_MODEL.file);
}

/**
 * Without `model`, the file serves every id; with it, only this id.
 *
 * @param {string[] | undefined} gguf the file, or those of a split model
 * @param {string | undefined} model
 */
export function weights(gguf, model) {
  if (!gguf?.length) return {};
  return model === undefined ? { default: gguf } : { models: { [model]: gguf } };
}
