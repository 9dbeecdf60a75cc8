// LoRA adapters: the configured ones → their files as sources.

import { AiInternalError } from "./errors.js";
import { parseName } from "./names.js";
import { toSource as toPlainSource } from "./source.js";

/**
 * @import { LoraAdapter, LoraSource, ModelFile } from "./index.d.ts"
 * @import { CoreLora } from "./internal.d.ts"
 * @import { Source } from "./source.js"
 *
 * @typedef {CoreLora & {inRepository?: {config: Source, weights: Source, gguf: Source}}} Lora `inRepository`: the files that the adapter may have, while it
 *   is not known which of them are in the repository of the hub that it names
 */

/** The name of a method of `Ai` that adds an adapter while it answers. */
export const ADD_LORA = Symbol("add a LoRA adapter");

/** The names that the service gives the two files of PEFT, and PEFT itself. */
const [CONFIG, WEIGHTS] = ["adapter_config.json", "adapter_model.safetensors"];

/**
 * The two files in a folder.
 *
 * @param {string} folder a path, a URL or the beginning of keys, which ends in a slash
 */
export const filesIn = (folder) => ({ config: folder + CONFIG, weights: folder + WEIGHTS });

/**
 * The same adapters with `change` applied to each of their files.
 *
 * @param {Record<string, LoraAdapter> | undefined} loras
 * @param {(file: ModelFile) => ModelFile} change
 * @returns {Record<string, LoraAdapter> | undefined}
 */
export function withFiles(loras, change) {
  if (typeof loras !== "object" || loras === null) return loras;
  /** @param {LoraSource} source */
  const changed = (source) => {
    const whole = asFiles(source);
    return isPair(whole) ? { config: change(whole.config), weights: change(whole.weights) } : change(whole);
  };
  return Object.fromEntries(Object.entries(loras).map(([name, lora]) => [name, lora?.source ? { ...lora, source: changed(lora.source) } : lora]));
}

/** A folder as its files; anything else as it is. @param {LoraSource} source */
const asFiles = (source) => (typeof source === "string" && source.endsWith("/") ? filesIn(source) : source);

/** What a repository of the hub is named; `undefined` for all else, and for a file in it. @param {LoraSource} source */
function repositoryOf(source) {
  const name = typeof source === "string" ? parseName(source) : undefined;
  return name?.kind === "hub" && name.quant === undefined && name.file === undefined ? name.name : undefined;
}

/**
 * An adapter with the files that its repository has: PEFT's two, or else its GGUF file. The hub is asked for them.
 *
 * @param {Lora} lora
 * @returns {Promise<Lora | undefined>} `undefined` if the hub cannot be asked
 */
export async function decided({ inRepository, gguf, ...facts }) {
  if (!inRepository) return { ...facts, gguf };
  const { config, weights } = inRepository;
  /** @param {Source} source @returns {Promise<boolean | undefined>} */
  const isThere = (source) => Promise.resolve(source.prepare?.()).then(() => true, ({ kind }) => (kind === "not-found" ? false : undefined));
  const [hasConfig, hasWeights] = await Promise.all([isThere(config), isThere(weights)]);
  if (hasConfig && hasWeights) return { ...facts, config, weights };
  if (hasConfig === undefined || hasWeights === undefined) return undefined;
  // Where neither form is whole, that of PEFT says what is missing.
  const isBroken = hasConfig && (await isThere(inRepository.gguf)) === false;
  return isBroken ? { ...facts, config, weights } : { ...facts, gguf };
}

/**
 * @param {LoraSource} source
 * @returns {source is {config: ModelFile, weights: ModelFile}}
 */
function isPair(source) {
  return typeof source === "object" && source !== null && "config" in source && "weights" in source;
}

/**
 * Converts the configured adapters for the crate.
 *
 * @param {unknown} loras
 * @param {typeof toPlainSource} [toSource] converts a file
 * @returns {Record<string, Lora>}
 * @throws {AiInternalError} if one is not an adapter with a source
 */
export function toLoras(loras = {}, toSource = toPlainSource) {
  if (typeof loras !== "object" || loras === null) throw new AiInternalError("loras is not an object of adapters by their names.");
  /** @param {[string, LoraAdapter]} entry @returns {[string, Lora]} */
  const converted = ([name, lora]) => {
    const place = `loras["${name}"]`;
    if (name === "" || typeof lora !== "object" || lora === null || !lora.source) throw new AiInternalError(`${place} is not an adapter. Give it as { model, source }.`);
    const { model } = lora;
    if (model !== undefined && typeof model !== "string") throw new AiInternalError(`${place}.model is not the id of a model.`);
    const source = asFiles(lora.source);
    /** @param {{config: ModelFile, weights: ModelFile}} files */
    const pair = ({ config, weights }) => ({ config: toSource(config, `${place}.source.config`), weights: toSource(weights, `${place}.source.weights`) });
    const facts = { model, id: /** @type {CoreLora} */ (lora).id };
    if (isPair(source)) return [name, { ...facts, ...pair(source) }];
    const gguf = toSource(source, `${place}.source`);
    const repository = repositoryOf(source);
    return [name, { ...facts, gguf, ...(repository && { inRepository: { gguf, ...pair(filesIn(`${repository}/`)) } }) }];
  };
  return Object.fromEntries(Object.entries(loras).map(converted));
}
