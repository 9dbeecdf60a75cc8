// The configuration file: `workers-ai-local.json`, or "workers-ai-local" in package.json. It names models, adapters and the ids of the service for
// every entry of a project.

import { existsSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { AiInternalError } from "./errors.js";
import { ENDPOINT, endpointOf } from "./hub.js";
import { parseName } from "./names.js";
import { nearest } from "./suggest.js";

/**
 * @import { AiConfig } from "./index.d.ts"
 * @typedef {Pick<AiConfig, "models" | "default" | "defaultEmbeddings" | "loras" | "remote" | "strict" | "hub">} FileConfig
 */

const FILE = "workers-ai-local.json";
const PACKAGE = "package.json";
const KEY = "workers-ai-local";

/** Any address, and so no path. */
export const ADDRESS = /^[a-z][a-z0-9+.-]+:\/\//i;
const WHEN = ["always", "when-missing"];

/**
 * The same source from any folder: a path is made absolute, a name or a URL stays.
 *
 * @param {string} source
 * @param {string} [folder] to which a path is relative
 */
export const fromFolder = (source, folder = process.cwd()) => (ADDRESS.test(source) || parseName(source) ? source : path.resolve(folder, source));

/**
 * The same for an adapter, which a name with a slash behind it stands for, too.
 *
 * @param {string} source
 * @param {string} [folder]
 */
export const adapterFromFolder = (source, folder) => (/^hf:.*\/$/i.test(source) && parseName(source.slice(0, -1)) ? source : fromFolder(source, folder));

/** @param {unknown} value @returns {value is Record<string, any>} */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
/** @param {unknown} value */
const isText = (value) => typeof value === "string" && value !== "";

/**
 * What each key takes: a test, and how to write it.
 *
 * @type {Record<string, [fits: (value: unknown) => boolean, form: string]>}
 */
const KEYS = {
  models: [(value) => isObject(value) && Object.values(value).every((each) => isModel(each) || isEmbedding(each)), 'an object such as { "@cf/…": "llama-3.2-1b" }'],
  default: [isModel, "the name, URL or path of a model, or a list of those of a split model"],
  defaultEmbeddings: [(value) => isText(value) || isEmbedding(value), "the name, URL or path of a GGUF file, or { weights, config, tokenizer }"],
  loras: [(value) => isObject(value) && Object.values(value).every(isLora), 'an object such as { "my-adapter": { "model": "@cf/…", "source": "./my-adapter/" } }'],
  remote: [(value) => isObject(value) && Object.values(value).every((when) => WHEN.includes(when)), 'an object such as { "@cf/…": "always" } or { "*": "when-missing" }'],
  strict: [(value) => typeof value === "boolean", "true or false"],
  hub: [(value) => isObject(value) && Object.keys(value).every((key) => key === "endpoint") && isText(value.endpoint), '{ "endpoint": URL }; a token is a secret, which belongs into HF_TOKEN'],
  $schema: [isText, "the address of the schema"],
};

/** @param {unknown} value */
function isModel(value) {
  return isText(value) || (Array.isArray(value) && value.length > 0 && value.every(isText));
}

/** @param {unknown} value */
function isEmbedding(value) {
  return isObject(value) && isText(value.weights) && Object.entries(value).every(([key, file]) => ["weights", "config", "tokenizer"].includes(key) && isText(file));
}

/** @param {unknown} value */
function isLora(value) {
  if (isText(value)) return true;
  if (!isObject(value) || Object.keys(value).some((key) => key !== "model" && key !== "source")) return false;
  const { model, source } = value;
  return (model === undefined || isText(model)) && (isText(source) || (isObject(source) && isText(source.config) && isText(source.weights) && Object.keys(source).length === 2));
}

/**
 * The options with those of the configuration file that they do not set themselves. Models, adapters and ids of the service are added one by one.
 *
 * @template {AiConfig} Options
 * @param {Options} options `config`: `true` for the file that is found, or the path of one; otherwise the options are as they are
 * @param {string} [folder] from which the file is looked for, upwards
 * @returns {Options}
 * @throws {AiInternalError} if the file cannot be used
 */
export function withConfigFile(options, folder = process.cwd()) {
  const { config, ...given } = /** @type {AiConfig} */ (options);
  if (config === undefined || config === false) return /** @type {Options} */ (given);
  const { remote, ...file } = typeof config === "string" ? readConfig(path.resolve(folder, config)) : (findConfig(folder, given.onWarning)?.config ?? {});
  // A script answers without a model, and what it does not answer is an error that tests want to see.
  const all = given.script === undefined && remote ? { ...file, remote } : file;
  // The environment is nearer to a command than the file.
  if (process.env.WORKERS_AI_LOCAL_MODEL) delete all.default;
  if (process.env.HF_ENDPOINT) delete all.hub;
  // Whoever writes a project's file does not get the user's token, which "" keeps the environment from giving.
  else if (all.hub?.endpoint !== undefined && endpointOf(all.hub.endpoint) !== ENDPOINT && given.hub?.endpoint === undefined) all.hub = { ...all.hub, token: "" };
  /** @type {Record<string, unknown>} */
  const merged = { ...all };
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const inFile = merged[key];
    const adds = key === "models" || key === "loras" || key === "remote" || key === "hub";
    merged[key] = adds && isObject(inFile) && isObject(value) ? { ...inFile, ...withoutUndefined(value) } : value;
  }
  return /** @type {Options} */ (merged);
}

/** @param {Record<string, any>} object */
const withoutUndefined = (object) => Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));

/**
 * The configuration of a folder: in it, or in the nearest one above it up to the repository's. What belongs to another user is left out.
 *
 * @param {string} folder
 * @param {(text: string) => void} [onWarning]
 * @returns {{file: string, config: FileConfig} | undefined}
 * @throws {AiInternalError}
 */
export function findConfig(folder, onWarning = console.warn) {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const own = path.join(at, FILE);
    if (existsSync(own) && isTrusted(own, onWarning)) return { file: own, config: readConfig(own) };
    const manifest = path.join(at, PACKAGE);
    const inPackage = existsSync(manifest) ? manifestOf(manifest)?.[KEY] : undefined;
    if (inPackage !== undefined && isTrusted(manifest, onWarning)) return { file: manifest, config: checked(inPackage, `"${KEY}" in ${manifest}`, at) };
    if (existsSync(path.join(at, ".git")) || path.dirname(at) === at) return undefined;
  }
}

/** The files of other users that a warning has named. @type {Set<string>} */
const named = new Set();

/**
 * Whether a file that nobody named belongs to this user or to root: above a folder may be those of others, for instance /tmp. For root every file counts:
 * in a container it works in folders of a user outside.
 *
 * @param {string} file
 * @param {(text: string) => void} onWarning
 */
function isTrusted(file, onWarning) {
  // Windows has no such ids.
  const user = process.getuid?.() ?? 0;
  const { uid } = statSync(file);
  if (user === 0 || uid === 0 || uid === user) return true;
  if (!named.has(file)) onWarning(`workers-ai-local: ${file} is not used: it belongs to another user. Use a copy of your own, or name it in a program: config: ${JSON.stringify(file)}.`);
  named.add(file);
  return false;
}

/** What a package.json says; a damaged one is npm's to complain about. @param {string} file @returns {any} */
function manifestOf(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * @param {string} file
 * @returns {FileConfig}
 * @throws {AiInternalError}
 */
function readConfig(file) {
  let content;
  try {
    content = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    const why = error.code === "ENOENT" ? "there is no such file" : error.code ? `it cannot be read (${error.code})` : `it is not JSON: ${error.message}`;
    throw new AiInternalError(`${file}: ${why}.`);
  }
  if (path.basename(file) === PACKAGE) return checked(content[KEY] ?? {}, `"${KEY}" in ${file}`, path.dirname(file));
  return checked(content, file, path.dirname(file));
}

/**
 * @param {unknown} content
 * @param {string} place for messages
 * @param {string} folder to which its paths are relative
 * @returns {FileConfig}
 * @throws {AiInternalError}
 */
function checked(content, place, folder) {
  if (!isObject(content)) throw new AiInternalError(`${place}: it must be an object such as { "default": "llama-3.2-1b" }.`);
  for (const [key, value] of Object.entries(content)) {
    if (!Object.hasOwn(KEYS, key)) {
      const meant = nearest(key, Object.keys(KEYS));
      throw new AiInternalError(`${place}: unknown key "${key}": ${meant ? `did you mean "${meant}"?` : `the keys are ${Object.keys(KEYS).slice(0, -1).join(", ")}`}`);
    }
    const [fits, form] = KEYS[key];
    if (!fits(value)) throw new AiInternalError(`${place}: "${key}" must be ${form}.`);
  }
  const { $schema: _, ...config } = content;
  /** @param {any} value @returns {any} */
  const absolute = (value) => {
    if (typeof value === "string") return fromFolder(value, folder);
    return Array.isArray(value) ? value.map(absolute) : mapped(value, absolute);
  };
  /** @param {any} source */
  const adapter = (source) => (typeof source === "string" ? adapterFromFolder(source, folder) : mapped(source, absolute));
  /** @param {any} lora */
  const lora = (lora) => (typeof lora === "string" ? { source: adapter(lora) } : { ...lora, source: adapter(lora.source) });
  /** @type {Record<string, (value: any) => any>} */
  const changes = { models: absolute, default: absolute, defaultEmbeddings: absolute, loras: (value) => mapped(value, lora) };
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [key, changes[key]?.(value) ?? value]));
}

/**
 * @param {Record<string, unknown>} object
 * @param {(value: unknown) => unknown} change
 */
const mapped = (object, change) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
