// The stored models of a browser's origin: what is known of each, the list of them, their removal, and what names stood for.

import { openStore, tryLock } from "./browser-store.js";
import { DEFAULT_MODEL, DEFAULT_NAME } from "./default-model.js";
import { parseName, hubOf } from "./names.js";
import { httpIdentity, partNames, partUrls, withoutQuery } from "./source.js";

/**
 * @import { Store } from "./browser-store.js"
 * @import { HubFile } from "./hub.js"
 * @import { CachedModel } from "./index.d.ts"
 *
 * @typedef {object} Entry what is known of a stored file
 * @property {string} id of these bytes: the names of the pieces begin with it
 * @property {string} name by which it was asked for
 * @property {string} url
 * @property {number} [size] of the whole file in bytes
 * @property {string} [etag] only if it promises the same bytes
 * @property {string} [tag] the ETag as the server gave it
 * @property {string} [modified]
 * @property {string} [sha256] of the whole file, once it is complete or if it was known before
 * @property {boolean} complete
 * @property {number} used when it was last read: Unix time in milliseconds
 *
 * @typedef {{name: string, files: HubFile[]}} Resolution
 */

const ENTRY = "entry.json";
/** The folder of what names stood for. */
const NAMES = "names";
/** The time of use is written at most so often. */
const USED_STEP_MS = 60_000;
/** A removal waits so long for a tab that downloads the file. It then removes what is there. */
const REMOVAL_WAIT_MS = 1000;
/** Room that is left free. */
const SPARE_BYTES = 1 << 20;

/**
 * The folder of a file: the same one for the same bytes, if their SHA-256 is known, and otherwise for the same request.
 *
 * @param {{url: string, headers?: Record<string, string>, sha256?: string}} file
 */
export async function keyOf({ url, headers = {}, sha256 }) {
  if (sha256) return `sha256-${sha256.toLowerCase()}`;
  return `url-${await hashOf(httpIdentity(url, headers))}`;
}

/** @param {string} text */
async function hashOf(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @template Content
 * @param {Store} store
 * @param {string} folder
 * @param {string} name
 * @returns {Promise<Content | undefined>}
 */
async function readJson(store, folder, name) {
  try {
    return JSON.parse((await (await store.read(folder, name))?.text()) ?? "null") ?? undefined;
  } catch {
    // A half that was written, or one that is just being replaced: as if it were not there.
    return undefined;
  }
}

/**
 * @param {Store} store
 * @param {string} key
 * @returns {Promise<Entry | undefined>}
 */
export const readEntry = (store, key) => readJson(store, key, ENTRY);

/**
 * @param {Store} store
 * @param {string} key
 * @param {Entry} entry
 */
export const writeEntry = (store, key, entry) => store.write(key, ENTRY, JSON.stringify(entry));

/**
 * Notes that a file is used now.
 *
 * @param {Store} store
 * @param {string} key
 */
export async function noteUse(store, key) {
  const release = await tryLock(key);
  try {
    const entry = release && (await readEntry(store, key));
    if (entry && Date.now() - entry.used > USED_STEP_MS) await writeEntry(store, key, { ...entry, used: Date.now() });
  } finally {
    release?.();
  }
}

/** The bytes that the origin may still store, if the browser says so. */
export async function freeBytes() {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  return quota === undefined ? undefined : Math.max(0, quota - usage - SPARE_BYTES);
}

/** @returns {Promise<CachedModel[]>} */
export async function listModels() {
  const store = await openStore();
  if (!store) return [];
  /** @type {Map<string, {model: CachedModel, count: number}>} with the number of its files that are there */
  const models = new Map();
  /** The folders and the addresses of the files that are complete. @type {Set<string>} */
  const whole = new Set();
  for (const key of await store.folders()) {
    const model = key === NAMES ? undefined : await modelIn(store, key);
    if (!model) continue;
    if (model.complete) whole.add(key).add(withoutQuery(model.url));
    const before = models.get(model.name);
    models.set(model.name, before ? { model: together(before.model, model), count: before.count + 1 } : { model, count: 1 });
  }
  const resolutions = await allResolutions(store);
  const all = await Promise.all([...models.values()].map(({ model, count }) => withMissing(model, count, resolutions, whole)));
  return all.sort((one, other) => other.used.getTime() - one.used.getTime());
}

/**
 * A split model of which some files are not there is not complete.
 *
 * @param {CachedModel} model
 * @param {number} count of its files that are there, complete or not
 * @param {Resolution[]} resolutions
 * @param {Set<string>} whole the folders and the addresses of all files that are complete
 * @returns {Promise<CachedModel>}
 */
async function withMissing(model, count, resolutions, whole) {
  const hub = hubOf(parseName(model.name));
  const files = hub ? resolutions.find(({ name, files }) => name === hub.name && files.some(({ url }) => url === model.url))?.files : undefined;
  const places = files ? await Promise.all(files.map(keyOf)) : hub ? [] : partNames(withoutQuery(model.url));
  if (places.length <= count || places.every((place) => whole.has(place))) return model;
  const { size: _, sha256: __, ...rest } = model;
  return { ...rest, ...(files && { size: files.reduce((sum, { size }) => sum + size, 0) }), complete: false };
}

/**
 * The bytes that are not stored yet.
 *
 * @param {Store} store
 * @param {HubFile[]} [files]
 */
export async function missingBytes(store, files = []) {
  const missing = await Promise.all(
    files.map(async (file) => {
      const key = await keyOf(file);
      const entry = await readEntry(store, key);
      return entry?.complete ? 0 : file.size - (entry ? await storedBytes(store, key, entry) : 0);
    }),
  );
  return missing.reduce((sum, bytes) => sum + Math.max(0, bytes), 0);
}

/**
 * @param {Store} store
 * @param {string} key
 * @param {Entry} entry
 */
async function storedBytes(store, key, { id }) {
  const pieces = (await store.files(key)).filter((file) => file.name.startsWith(id));
  return pieces.reduce((sum, file) => sum + file.size, 0);
}

/**
 * @param {Store} store
 * @param {string} key
 * @returns {Promise<CachedModel | undefined>}
 */
async function modelIn(store, key) {
  const entry = await readEntry(store, key);
  if (!entry) return void (await removeLeftover(store, key));
  const { name, url, size, sha256, complete, used } = entry;
  const bytes = await storedBytes(store, key, entry);
  return { name, url, bytes, ...(size !== undefined && { size }), complete, ...(sha256 && { sha256 }), used: new Date(used) };
}

/**
 * Removes pieces of a file whose entry was removed while another tab wrote them.
 *
 * @param {Store} store
 * @param {string} key
 */
async function removeLeftover(store, key) {
  const release = await tryLock(key);
  try {
    if (release && !(await readEntry(store, key))) await store.remove(key);
  } finally {
    release?.();
  }
}

/**
 * Two files of one split model as one.
 *
 * @param {CachedModel} one
 * @param {CachedModel} other
 * @returns {CachedModel}
 */
function together(one, other) {
  const [first, later] = one.url < other.url ? [one, other] : [other, one];
  const size = one.size !== undefined && other.size !== undefined ? one.size + other.size : undefined;
  const used = one.used > other.used ? one.used : other.used;
  return { name: first.name, url: first.url, bytes: first.bytes + later.bytes, ...(size !== undefined && { size }), complete: one.complete && other.complete, used };
}

/**
 * The name of a stored file: of a part of a split model, that of the first part.
 *
 * @param {string} url
 */
export const nameOfUrl = (url) => partUrls(url)[0];

/**
 * @param {string} name
 * @returns {Promise<boolean>} whether anything was stored under this name
 */
export async function deleteModel(name) {
  const store = await openStore();
  if (!store) return false;
  const wanted = await keysOf(store, String(name));
  let removed = false;
  for (const key of await store.folders()) {
    const entry = key === NAMES ? undefined : await readEntry(store, key);
    if (!entry || !(wanted.keys.has(key) || wanted.names.has(entry.name) || wanted.names.has(nameOfUrl(entry.url)))) continue;
    await whenUnlocked(key, () => store.remove(key));
    removed = true;
  }
  return removed;
}

/**
 * What a name may stand for: names of entries, and the folders of the files that it stood for when they were loaded.
 *
 * @param {Store} store
 * @param {string} name
 */
async function keysOf(store, name) {
  const parsed = parseName(name);
  const hub = hubOf(parsed);
  if (!parsed || !hub) return { names: new Set([name, nameOfUrl(new URL(name, location.href).href)]), keys: new Set() };
  /** @type {Set<string>} */
  const keys = new Set();
  for (const resolution of await allResolutions(store)) if (resolution.name === hub.name) for (const each of resolution.files) keys.add(await keyOf(each));
  // It is asked for by its address, which may be that of a mirror.
  if (parsed.name === DEFAULT_NAME) keys.add(await keyOf(DEFAULT_MODEL));
  return { names: new Set([parsed.name, hub.name]), keys };
}

/**
 * @param {string} key
 * @param {() => Promise<void>} work
 */
async function whenUnlocked(key, work) {
  /** @type {(() => void) | undefined} */
  let release;
  for (let waited = 0; waited < REMOVAL_WAIT_MS && !(release = await tryLock(key)); waited += 100) await new Promise((resolve) => setTimeout(resolve, 100));
  try {
    await work();
  } finally {
    release?.();
  }
}

/**
 * What a name on the hub stood for when it was last asked.
 *
 * @param {Store} store
 * @param {string} endpoint
 * @param {string} name
 * @returns {Promise<Resolution | undefined>}
 */
export async function readResolution(store, endpoint, name) {
  return readJson(store, NAMES, await hashOf(JSON.stringify([endpoint, name])));
}

/** What all names stood for. @param {Store} store */
async function allResolutions(store) {
  const found = await Promise.all((await store.files(NAMES)).map(({ name }) => /** @type {Promise<Resolution | undefined>} */ (readJson(store, NAMES, name))));
  return found.filter((resolution) => resolution !== undefined);
}

/**
 * @param {Store} store
 * @param {string} endpoint
 * @param {Resolution} resolution
 */
export async function writeResolution(store, endpoint, { name, files }) {
  await store.write(NAMES, await hashOf(JSON.stringify([endpoint, name])), JSON.stringify({ name, files }));
}
