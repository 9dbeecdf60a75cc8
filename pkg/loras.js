// LoRA adapters: the configured ones → their files as sources.

import { AiInternalError } from "./errors.js";
import { toSource as toPlainSource } from "./source.js";

/**
 * @import { LoraAdapter, LoraSource, ModelFile } from "./index.d.ts"
 * @import { CoreLora } from "./internal.d.ts"
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
 * @returns {Record<string, CoreLora>}
 * @throws {AiInternalError} if one is not an adapter with a source
 */
export function toLoras(loras = {}, toSource = toPlainSource) {
  if (typeof loras !== "object" || loras === null) throw new AiInternalError("loras is not an object of adapters by their names.");
  /** @param {[string, LoraAdapter]} entry */
  const converted = ([name, lora]) => {
    const place = `loras["${name}"]`;
    if (name === "" || typeof lora !== "object" || lora === null || !lora.source) throw new AiInternalError(`${place} is not an adapter. Give it as { model, source }.`);
    const { model } = lora;
    if (model !== undefined && typeof model !== "string") throw new AiInternalError(`${place}.model is not the id of a model.`);
    const source = asFiles(lora.source);
    const files = isPair(source)
      ? { config: toSource(source.config, `${place}.source.config`), weights: toSource(source.weights, `${place}.source.weights`) }
      : { gguf: toSource(source, `${place}.source`) };
    return [name, { model, id: /** @type {CoreLora} */ (lora).id, ...files }];
  };
  return Object.fromEntries(Object.entries(loras).map(converted));
}
