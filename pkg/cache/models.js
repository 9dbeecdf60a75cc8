// The models of a user on this machine: names → files in one folder, which all processes share.
//
// `models/names/` remembers which files a name stands for, so that a cached model needs no network. Each file is in a folder of its own, by its
// address; the two small default models are where they have always been.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readdir, rm, rmdir, stat } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { DEFAULT_EMBEDDINGS } from "../default-embeddings.js";
import { DEFAULT_MODEL, DEFAULT_NAME, modelFolder } from "../default-model.js";
import { endpointOf, hubError, hubHeaders, namedFirst, onEndpoint, resolveHub } from "../hub.js";
import { hubOf, parseName } from "../names.js";
import { partNames, partUrls, sourceError, withoutQuery } from "../source.js";
import { CONDITIONS, asDiskError, download, isCurrent, partOf, patiently, readPart, removePart } from "./download.js";
import { alone } from "./lock.js";
import { compare, markUsed, readJson, readRecord, recordOf, writeJson, writeRecord } from "./records.js";

/**
 * @import { Conditions } from "./download.js"
 * @import { FileRecord } from "./records.js"
 *
 * @typedef {object} StoredFile a file of a model
 * @property {string} url
 * @property {string} path where it is stored
 * @property {number} [size] bytes, if they are known
 * @property {string} [sha256] if it is known
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {StoredFile[]} files one, or those of a split model: first the one that is named, if the name is that of a file
 * @property {boolean} [mutable] it is at an address whose file may be another one by now, so that the server is asked when it is used
 * @property {boolean} [assorted] its files are of different kinds, and not what its name stands for
 * @property {string} [help] what else can be done if it cannot be downloaded
 *
 * @typedef {{loaded: number, total: number | null}} Progress
 *
 * @typedef {{path: string, name: string, files: {url: string, size?: number, sha256?: string}[]}} Note what is remembered of a name
 *
 * @typedef {object} CacheOptions
 * @property {string} [folder] default: the user's, see `modelFolder`
 * @property {{endpoint?: string, token?: string}} [hub] default: `HF_ENDPOINT` and `HF_TOKEN`
 * @property {(progress: Progress) => void} [onProgress]
 * @property {(text: string) => void} [onWarning]
 * @property {Partial<Conditions>} [conditions]
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} StoredModel what `list` tells of a model; the public `CachedModel` and its files
 * @property {string} name the one by which it was fetched first
 * @property {string[]} names all by which it was fetched
 * @property {string} url
 * @property {number} bytes stored
 * @property {number} [size] of the whole model, if it is known
 * @property {boolean} complete
 * @property {string} [sha256] of a model in one file
 * @property {Date} used
 * @property {string[]} paths
 */

const NAMES = "names";
/** The name of the default embedding model in a list. */
const EMBEDDINGS_NAME = "hf:sentence-transformers/all-MiniLM-L6-v2";

/**
 * The hub of a configuration, with what the environment says where that says nothing.
 *
 * @param {CacheOptions["hub"]} [hub]
 */
export function hubWith(hub) {
  const { HF_ENDPOINT, HF_TOKEN } = process.env;
  const { endpoint, token } = hub ?? {};
  return { endpoint: endpointOf(endpoint ?? (HF_ENDPOINT || undefined)), token: token ?? (HF_TOKEN || undefined) };
}

/** Downloads in progress in this process, by the file: who asks for the same one waits for it. @type {Map<string, {done: Promise<void>, listeners: Set<(progress: Progress) => void>}>} */
const downloads = new Map();

export class ModelCache {
  #options;
  #folder;
  #hub;
  /** The files of addresses whose servers were asked whether they still have them. @type {Set<string>} */
  #current = new Set();

  /** @param {CacheOptions} [options] */
  constructor(options = {}) {
    this.#options = options;
    this.#folder = options.folder ?? modelFolder(process.env, homedir());
    this.#hub = hubWith(options.hub);
  }

  /** The folder in which everything is. */
  get folder() {
    return this.#folder;
  }

  /**
   * The files of a name, if they are known without asking the hub.
   *
   * @param {string} name
   * @returns {Model | undefined}
   */
  known(name) {
    const parsed = parseName(name);
    if (parsed?.kind === "url") return this.#addressed(parsed.url);
    const hub = hubOf(parsed);
    if (!parsed || !hub) return undefined;
    try {
      return this.#model(parsed.name, JSON.parse(readFileSync(this.#noteOf(hub.name), "utf8")).files);
    } catch {
      return undefined;
    }
  }

  /**
   * The files of a name. The hub is asked for those that nobody has asked for yet.
   *
   * @param {string} name
   * @param {{renew?: boolean}} [options] `renew`: asks the hub again, whose file may be another by now
   * @returns {Promise<Model>}
   */
  async resolve(name, { renew = false } = {}) {
    const known = this.known(name);
    const parsed = parseName(name);
    const hub = hubOf(parsed);
    if (known && (!renew || !hub)) return known;
    if (!parsed || !hub) throw sourceError("refused", `"${name}" is not the name of a model`);
    const { conditions, onWarning: onWait, signal } = this.#options;
    const { files } = await patiently(() => resolveHub(hub, { ...this.#hub, signal }), { conditions, onWait, signal });
    return this.#model(parsed.name, namedFirst(files, hub));
  }

  /**
   * Makes sure that a model is stored and is what it shall be.
   *
   * @param {Model} model
   * @param {{full?: boolean}} [options] `full`: reads all of it in any case
   * @returns {Promise<string[]>} the paths of its files
   */
  async ensure(model, { full = false } = {}) {
    const total = sizeOf(model.files) ?? null;
    let before = 0;
    for (const file of model.files) {
      const start = before;
      await this.ensureFile(model, file, { full, onProgress: ({ loaded, total: own }) => this.#options.onProgress?.({ loaded: start + loaded, total: model.files.length === 1 ? own : total }) });
      before += file.size ?? (await stat(file.path)).size;
    }
    await this.#remember(model);
    return model.files.map(({ path }) => path);
  }

  /**
   * The same for one file of a model.
   *
   * @param {Model} model
   * @param {StoredFile} file
   * @param {{full?: boolean, onProgress?: (progress: Progress) => void}} [options]
   */
  async ensureFile(model, file, { full = false, onProgress = (/** @type {Progress} */ progress) => this.#options.onProgress?.(progress) } = {}) {
    const expected = { ...file, names: [model.name] };
    const state = await compare(file.path, expected, { full });
    const record = await readRecord(file.path);
    const replaced = state === "good" && record !== undefined && model.mutable === true && (await this.#isReplaced(file, record));
    if (state === "good" && !replaced) {
      await markUsed(file.path);
      // By another name for it.
      return this.#remember(model).catch(() => {});
    }
    // If the record says another SHA-256, the hub has another file by now.
    const isDamaged = state === "other" && (!record || file.sha256 === undefined || file.sha256 === record.sha256);
    if (isDamaged) this.#options.onWarning?.(`workers-ai-local: ${file.path} is not the file that it should be; it is downloaded again.`);
    try {
      await this.#shared(file.path, onProgress, (report) => this.#locked(model, file, report, { full, replaced }));
    } catch (error) {
      if (!replaced || (error.kind !== "interrupted" && error.kind !== "busy")) throw error;
      this.#options.onWarning?.(`workers-ai-local: ${fileName(file.url)} could not be fetched again: ${error.message}. The stored file is used.`);
      await markUsed(file.path);
    }
    this.#current.add(file.path);
    await this.#remember(model);
  }

  /**
   * Whether the server has another file at an address by now. It is asked once.
   *
   * @param {StoredFile} file
   * @param {FileRecord} record
   */
  async #isReplaced({ path: file, url }, record) {
    if (this.#current.has(file)) return false;
    const current = await isCurrent(url, hubHeaders(url, this.#hub), record);
    this.#current.add(file);
    return current === false;
  }

  /** Remembers which files a name stands for. @param {Model} model */
  async #remember(model) {
    const hub = hubOf(parseName(model.name));
    if (!hub || model.assorted) return;
    const files = model.files.map(({ url, size, sha256, path: file }) => ({ url, file: path.basename(file), size, sha256 }));
    const note = this.#noteOf(hub.name);
    const before = await readJson(note);
    if (JSON.stringify(before?.files) === JSON.stringify(files)) return;
    await mkdir(path.dirname(note), { recursive: true });
    await writeJson(note, { name: hub.name, endpoint: this.#hub.endpoint, files });
  }

  /**
   * Downloads a file unless this process does it already.
   *
   * @param {string} file
   * @param {(progress: Progress) => void} onProgress
   * @param {(report: (progress: Progress) => void) => Promise<void>} start
   */
  async #shared(file, onProgress, start) {
    const running = downloads.get(file);
    if (running) {
      running.listeners.add(onProgress);
      return running.done.finally(() => running.listeners.delete(onProgress));
    }
    const listeners = new Set([onProgress]);
    const done = start((progress) => listeners.forEach((listener) => listener(progress))).finally(() => downloads.delete(file));
    downloads.set(file, { done, listeners });
    return done;
  }

  /**
   * Downloads a file unless another process does it.
   *
   * @param {Model} model
   * @param {StoredFile} file
   * @param {(progress: Progress) => void} report
   * @param {{full: boolean, replaced: boolean}} options
   */
  async #locked(model, file, report, options) {
    const { signal } = this.#options;
    const target = file.path;
    /** Shows what the other process does. */
    const onWait = async () => {
      const [part, bytes] = await Promise.all([readPart(target), stat(partOf(target)).then(({ size }) => size, () => 0)]);
      if (bytes > 0) report({ loaded: bytes, total: part?.size ?? file.size ?? null });
    };
    const attempt = async () => {
      await mkdir(path.dirname(target), { recursive: true });
      await alone(lockOf(target), (holds) => this.#downloaded(model, file, report, { ...options, holds }), { signal, onWait });
    };
    try {
      // Another process to which nothing came may remove the folder between the two.
      await attempt().catch((error) => (error.code === "ENOENT" ? attempt() : Promise.reject(error)));
    } catch (error) {
      // Its own folder, if nothing came.
      if (path.dirname(target) !== this.#folder) await rmdir(path.dirname(target)).catch(() => {});
      throw asDiskError(error, target);
    }
  }

  /**
   * @param {Model} model
   * @param {StoredFile} file
   * @param {(progress: Progress) => void} report
   * @param {{holds: () => Promise<boolean>, full: boolean, replaced: boolean}} options
   */
  async #downloaded(model, file, report, { holds, full, replaced }) {
    const { url, path: target, size, sha256 } = file;
    const names = [model.name];
    // Another process may have done it meanwhile.
    if (!replaced && (await compare(target, { ...file, names }, { full })) === "good") return;
    const headers = hubHeaders(url, this.#hub);
    /** @param {Response} response */
    const explain = (response) => this.#explained(response, url);
    const further = await missingBytes(model.files.filter((each) => each !== file));
    const options = { signal: this.#options.signal, onProgress: report, onWait: this.#options.onWarning, holds, conditions: this.#options.conditions };
    const done = await download({ url, headers, target, names, size, sha256, further, explain }, options).catch((error) => {
      if (error.name === "AbortError") throw error;
      const what = model.help ? `the default model could not be downloaded from ${url}: ` : "";
      const otherwise = model.help ? `. Copy the file to ${target} yourself, ${model.help}` : "";
      throw Object.assign(error, { message: `${what}${error.message}${otherwise}` });
    });
    const record = await readRecord(target);
    await writeRecord(target, { ...done, names: [...new Set([...(record?.names ?? []), ...names])], url });
  }

  /**
   * What the hub means by an error.
   *
   * @param {Response} response
   * @param {string} url
   */
  #explained(response, url) {
    const { endpoint } = this.#hub;
    const [, owner, repo] = url.startsWith(`${endpoint}/`) ? (/^([^/]+)\/([^/]+)\/resolve\//.exec(url.slice(endpoint.length + 1)) ? url.slice(endpoint.length).split("/") : []) : [];
    if (!owner || (response.url && new URL(response.url).origin !== new URL(endpoint).origin)) return undefined;
    return hubError({ status: response.status, code: response.headers.get("x-error-code") }, `${owner}/${repo}`, { ...this.#hub, page: `${endpoint}/${owner}/${repo}` });
  }

  /**
   * @param {string} name
   * @param {{url: string, size?: number, sha256?: string}[]} files
   * @returns {Model}
   */
  #model(name, files) {
    return { name, files: files.map(({ url, size, sha256 }) => ({ url, size, sha256, path: this.#pathOf(url) })) };
  }

  /**
   * The model at an address: a file, or all files of a split model.
   *
   * @param {string} url
   */
  #addressed(url) {
    const others = partUrls(url).filter((each) => each !== url);
    return { ...this.#model(url, [url, ...others].map((each) => ({ url: each }))), mutable: true };
  }

  /** The default model. @returns {Model} */
  defaultModel() {
    const { url, file, size, sha256 } = DEFAULT_MODEL;
    return { name: DEFAULT_NAME, files: [{ url: onEndpoint(url, this.#hub.endpoint), path: path.join(this.#folder, file), size, sha256 }], help: "or set WORKERS_AI_LOCAL_MODEL to the path of a GGUF file" };
  }

  /** The default embedding model: weights, config and tokenizer. @returns {Model} */
  defaultEmbeddings() {
    const { folder, weights, config, tokenizer } = DEFAULT_EMBEDDINGS;
    const files = [weights, config, tokenizer].map(({ url, file, size, sha256 }) => ({ url: onEndpoint(url, this.#hub.endpoint), path: path.join(this.#folder, folder, file), size, sha256 }));
    return { name: EMBEDDINGS_NAME, files, assorted: true, help: "or configure another embedding model with new Ai({ defaultEmbeddings })" };
  }

  /** Where the file at an address is stored. @param {string} url */
  #pathOf(url) {
    const own = this.defaultModel().files.find((file) => file.url === url);
    return own?.path ?? path.join(this.#folder, "models", digestOf(url), fileName(url));
  }

  /** The file that remembers a name. @param {string} name in full */
  #noteOf(name) {
    return path.join(this.#folder, "models", NAMES, `${digestOf(`${this.#hub.endpoint} ${name}`)}.json`);
  }

  /** What is stored. @returns {Promise<StoredModel[]>} the last used first */
  async list() {
    /** @type {Map<string, StoredModel>} */
    const models = new Map();
    const stored = await this.#stored();
    for (const file of stored) {
      const model = models.get(file.names[0]);
      if (!model) models.set(file.names[0], { ...file, name: file.names[0], paths: [file.path] });
      else {
        const names = [...new Set([...model.names, ...file.names])];
        const size = model.size === undefined || file.size === undefined ? undefined : model.size + file.size;
        const used = file.used > model.used ? file.used : model.used;
        models.set(model.name, { ...model, names, size, used, sha256: undefined, bytes: model.bytes + file.bytes, complete: model.complete && file.complete, paths: [...model.paths, file.path] });
      }
    }
    const notes = await this.#notes();
    const whole = new Set(stored.filter(({ complete }) => complete).flatMap((file) => [file.path, withoutQuery(file.url)]));
    const all = [...models.values()].map((model) => this.#withMissing(model, notes, whole));
    return all.sort((one, other) => other.used.getTime() - one.used.getTime());
  }

  /**
   * A split model of which some files are not there is not complete.
   *
   * @param {StoredModel} model
   * @param {Note[]} notes
   * @param {Set<string>} whole the paths and the addresses of all files that are complete
   * @returns {StoredModel}
   */
  #withMissing(model, notes, whole) {
    const parsed = parseNameOrNot(model.name);
    const hub = hubOf(parsed);
    const isOf = (/** @type {Note} */ note) => note.name === hub?.name && note.files.some(({ url }) => model.paths.includes(this.#pathOf(url)));
    const files = notes.find(isOf)?.files;
    const places = parsed?.kind === "url" ? partNames(withoutQuery(parsed.url)) : (files ?? []).map(({ url }) => this.#pathOf(url));
    if (places.every((place) => whole.has(place))) return model;
    const size = model.paths.length >= places.length ? model.size : files && sizeOf(files);
    return { ...model, complete: false, size, sha256: undefined };
  }

  /** What is remembered of names. @returns {Promise<Note[]>} */
  async #notes() {
    const folder = path.join(this.#folder, "models", NAMES);
    const files = (await readdir(folder).catch(() => [])).map((file) => path.join(folder, file));
    const notes = await Promise.all(files.map(async (file) => ({ path: file, ...(await readJson(file)) })));
    return notes.filter(({ name, files }) => typeof name === "string" && Array.isArray(files));
  }

  /** Each stored file, complete or not. */
  async #stored() {
    const found = [];
    const roots = [this.#folder, path.join(this.#folder, DEFAULT_EMBEDDINGS.folder)];
    const inside = await readdir(path.join(this.#folder, "models"), { withFileTypes: true }).catch(() => []);
    const folders = inside.filter((entry) => entry.isDirectory() && entry.name !== NAMES).map(({ name }) => path.join(this.#folder, "models", name));
    for (const folder of [...roots, ...folders]) {
      const entries = new Set(await readdir(folder).catch(() => []));
      const files = new Set([...entries].flatMap((entry) => /^(.+)\.(record|part)\.json$/.exec(entry)?.[1] ?? []));
      for (const file of files) found.push(...(await storedFile(path.join(folder, file))));
    }
    return found;
  }

  /**
   * Removes a model.
   *
   * @param {string} name one by which it was fetched, or the path of its file
   * @returns {Promise<boolean>} whether there was one
   */
  async delete(name) {
    const parsed = parseNameOrNot(name);
    const meant = new Set([name, parsed?.name, hubOf(parsed)?.name]);
    const notes = await this.#notes();
    const files = new Set(notes.filter((note) => meant.has(note.name)).flatMap((note) => note.files.map(({ url }) => this.#pathOf(url))));
    const models = (await this.list()).filter(({ names, url, paths }) => [...names, url].some((each) => meant.has(each)) || paths.some((file) => file === name || files.has(file)));
    const removed = new Set([...files, ...models.flatMap(({ paths }) => paths)]);
    for (const file of removed) await this.#remove(file);
    for (const note of notes) if (note.files.some(({ url }) => removed.has(this.#pathOf(url)))) await rm(note.path, { force: true });
    return models.length > 0;
  }

  /** @param {string} file */
  async #remove(file) {
    // The beginning before the file that it becomes, and the lock last: a process that downloads it notices that its lock is gone, and then that all is.
    await removePart(file);
    await Promise.all([file, recordOf(file)].map((each) => rm(each, { force: true })));
    await rm(lockOf(file), { force: true });
    // Its own folder, unless something else is in it.
    if (path.dirname(file) !== this.#folder) await rmdir(path.dirname(file)).catch(() => {});
  }
}

/** What an engine waits for at most; it tries again by itself. */
export const FOR_ENGINES = { ...CONDITIONS, attempts: 1 };

/** The bytes of all files, if they are known. @param {{size?: number}[]} files @returns {number | undefined} */
function sizeOf(files) {
  return files.every(({ size }) => size !== undefined) ? files.reduce((sum, { size = 0 }) => sum + size, 0) : undefined;
}

/** The bytes that are not stored, of files whose size is known. @param {StoredFile[]} files */
async function missingBytes(files) {
  const sizes = await Promise.all(files.map(async ({ path: file, size = 0 }) => size - (await bytesOf(file).catch(() => bytesOf(partOf(file))).catch(() => 0))));
  return sizes.reduce((sum, missing) => sum + Math.max(0, missing), 0);
}

/** @param {string} file */
const bytesOf = async (file) => (await stat(file)).size;

/** @param {string} name */
function parseNameOrNot(name) {
  try {
    return parseName(name);
  } catch {
    return undefined;
  }
}

/**
 * @param {string} file
 * @returns {Promise<(Omit<StoredModel, "name" | "paths"> & {path: string})[]>} one, or none
 */
async function storedFile(file) {
  const [record, found] = [await readRecord(file), await stat(file).catch(() => undefined)];
  if (record && found) {
    const { mtime } = await stat(recordOf(file));
    return [{ path: file, names: record.names, url: record.url, bytes: found.size, size: record.size, complete: true, sha256: record.sha256, used: mtime }];
  }
  const [part, loaded] = [await readPart(file), await stat(partOf(file)).catch(() => undefined)];
  if (!part || !loaded) return [];
  return [{ path: file, names: part.names, url: part.url, bytes: loaded.size, size: part.size, complete: false, used: loaded.mtime }];
}

/** @param {string} file */
const lockOf = (file) => `${file}.lock`;

/** @param {string} text */
const digestOf = (text) => createHash("sha256").update(text).digest("hex").slice(0, 16);

/**
 * The name of a file at an address, such as every file system takes.
 *
 * @param {string} url
 */
function fileName(url) {
  const last = new URL(url).pathname.split("/").at(-1) ?? "";
  let name = last;
  try {
    name = decodeURIComponent(last);
  } catch {
    // As it is written.
  }
  return name.replaceAll(/[^\w.+@-]/g, "_").replace(/^\.+/, "").slice(-120) || "model";
}
