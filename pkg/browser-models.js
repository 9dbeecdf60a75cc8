// The stored models of a browser's origin: what is known of each, the list of them, their removal, and what names stood for.

import { openStore, tryLock } from "./browser-store.js";
import { parseName, hubOf } from "./names.js";
import { httpIdentity, partNames } from "./source.js";

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
  /** @type {Map<string, CachedModel>} */
  const models = new Map();
  for (const key of (await store?.folders()) ?? []) {
    const model = key === NAMES ? undefined : await modelIn(/** @type {Store} */ (store), key);
    const other = model && models.get(model.name);
    if (model) models.set(model.name, other ? together(other, model) : model);
  }
  return [...models.values()].sort((one, other) => other.used.getTime() - one.used.getTime());
}

/**
 * @param {Store} store
 * @param {string} key
 * @returns {Promise<CachedModel | undefined>}
 */
async function modelIn(store, key) {
  const entry = await readEntry(store, key);
  if (!entry) return void (await removeLeftover(store, key));
  const { id, name, url, size, sha256, complete, used } = entry;
  const pieces = (await store.files(key)).filter((file) => file.name.startsWith(id));
  const bytes = pieces.reduce((sum, file) => sum + file.size, 0);
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
export const nameOfUrl = (url) => partNames(url)[0];

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
  for (const file of await store.files(NAMES)) {
    const resolution = /** @type {Resolution | undefined} */ (await readJson(store, NAMES, file.name));
    if (resolution?.name === hub.name) for (const each of resolution.files) keys.add(await keyOf(each));
  }
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

/**
 * @param {Store} store
 * @param {string} endpoint
 * @param {Resolution} resolution
 */
export async function writeResolution(store, endpoint, { name, files }) {
  await store.write(NAMES, await hashOf(JSON.stringify([endpoint, name])), JSON.stringify({ name, files }));
}
