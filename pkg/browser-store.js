// Small files in the origin's own storage, by folder: in its private file system (OPFS), or in Cache Storage where there is none.

/**
 * @typedef {object} Store
 * @property {() => Promise<string[]>} folders
 * @property {(folder: string) => Promise<{name: string, size: number}[]>} files of a folder; none if there is no such folder
 * @property {(folder: string, name: string) => Promise<Blob | undefined>} read
 * @property {(folder: string, name: string, text: string) => Promise<void>} write creates or replaces a small file, with its folder
 * @property {(folder: string, name: string, bytes: Uint8Array<ArrayBuffer>) => Promise<void>} add creates or replaces a large file in a folder that is
 *   there. Rejects with a `QuotaExceededError` where there is no room, and in OPFS with a `NotFoundError` if the folder has been removed
 * @property {(folder: string) => Promise<void>} remove a folder with its files
 */

/** The name of the folder, and of the cache, that hold everything. */
const ROOT = "workers-ai-local";
/** How often a folder is tried to be removed in which another tab writes, and the time between. */
const REMOVAL_TRIES = 50;
const REMOVAL_PAUSE_MS = 50;

/**
 * The store of this thread, opened once.
 *
 * @type {Promise<Store | undefined> | undefined}
 */
let opened;

/** The origin's store; `undefined` where a page may store nothing: in insecure contexts, and in some private windows. */
export function openStore() {
  opened ??= openFiles().then((files) => files ?? openCache());
  return opened;
}

/** @returns {Promise<Store | undefined>} */
async function openFiles() {
  try {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });
    return inFiles(root);
  } catch {
    return undefined;
  }
}

/** @returns {Promise<Store | undefined>} */
async function openCache() {
  try {
    return inCache(await caches.open(ROOT));
  } catch {
    return undefined;
  }
}

/**
 * @param {FileSystemDirectoryHandle} root
 * @returns {Store}
 */
function inFiles(root) {
  /** @param {string} folder */
  const existing = (folder) => root.getDirectoryHandle(folder).catch(unlessMissing);
  return {
    async folders() {
      const names = [];
      for await (const [name, handle] of root.entries()) if (handle.kind === "directory") names.push(name);
      return names;
    },
    async files(folder) {
      const files = [];
      for await (const [name, handle] of (await existing(folder))?.entries() ?? []) {
        // One that is being written appears beside it, and goes again.
        const file = handle.kind === "file" ? await /** @type {FileSystemFileHandle} */ (handle).getFile().catch(unlessMissing) : undefined;
        if (file) files.push({ name, size: file.size });
      }
      return files;
    },
    async read(folder, name) {
      const handle = await (await existing(folder))?.getFileHandle(name).catch(unlessMissing);
      return handle?.getFile().catch(unlessMissing);
    },
    async write(folder, name, text) {
      await writeText(await root.getDirectoryHandle(folder, { create: true }), name, text);
    },
    async add(folder, name, bytes) {
      await writeBytes(await root.getDirectoryHandle(folder), name, bytes);
    },
    async remove(folder) {
      for (let tries = 1; ; tries += 1) {
        try {
          return await root.removeEntry(folder, { recursive: true });
        } catch (error) {
          if (error.name === "NotFoundError") return;
          // Another tab is writing a file in it, which takes less than a second.
          if (error.name !== "NoModificationAllowedError" || tries === REMOVAL_TRIES) throw error;
          await new Promise((resolve) => setTimeout(resolve, REMOVAL_PAUSE_MS));
        }
      }
    },
  };
}

/**
 * What only some browsers have, and the types not at all.
 *
 * @typedef {object} SyncAccess
 * @property {(bytes: Uint8Array, options: {at: number}) => number} write
 * @property {(size: number) => void} truncate
 * @property {() => void} close
 *
 * @typedef {{createWritable?: FileSystemFileHandle["createWritable"], createSyncAccessHandle?: () => Promise<SyncAccess>, move?: (name: string) => Promise<void>}} FileHandle
 */

/**
 * Writes a large file. In dedicated workers that is done synchronously, three times as fast.
 *
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
async function writeBytes(folder, name, bytes) {
  const handle = /** @type {FileHandle} */ (await folder.getFileHandle(name + UNFINISHED, { create: true }));
  if (!handle.createSyncAccessHandle || !handle.move) {
    await folder.removeEntry(name + UNFINISHED);
    return writeSlowly(folder, name, bytes);
  }
  await writeSynchronously(handle, bytes);
  // It appears under its name at once, so that no other tab sees a half.
  await handle.move(name);
}

/** A file whose writing has begun has this behind its name. */
const UNFINISHED = ".part";

/**
 * Writes a small file that may be there already. Other tabs see the old one or the new one, except in Safari before 26.
 *
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} name
 * @param {string} text
 */
async function writeText(folder, name, text) {
  const handle = /** @type {FileHandle} */ (await folder.getFileHandle(name, { create: true }));
  if (handle.createWritable) await writeSlowly(folder, name, text);
  else await writeSynchronously(handle, new TextEncoder().encode(text));
}

/**
 * @param {FileSystemDirectoryHandle} folder
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer> | string} content
 */
async function writeSlowly(folder, name, content) {
  const stream = await (await folder.getFileHandle(name, { create: true })).createWritable();
  try {
    await stream.write(content);
    await stream.close();
  } catch (error) {
    await stream.abort().catch(() => {});
    throw error;
  }
}

/**
 * @param {FileHandle} handle
 * @param {Uint8Array} bytes
 */
async function writeSynchronously(handle, bytes) {
  const access = await /** @type {NonNullable<FileHandle["createSyncAccessHandle"]>} */ (handle.createSyncAccessHandle).call(handle);
  try {
    access.truncate(0);
    if (access.write(bytes, { at: 0 }) !== bytes.length) throw new DOMException("there is no room", "QuotaExceededError");
  } finally {
    access.close();
  }
}

/**
 * @param {DOMException} error
 * @returns {undefined}
 */
function unlessMissing(error) {
  if (error.name !== "NotFoundError") throw error;
}

/** The addresses under which a cache keeps files. No server has this name. */
const ADDRESS = "https://workers-ai-local.invalid/";

/**
 * @param {Cache} cache
 * @returns {Store}
 */
function inCache(cache) {
  /** @param {string} folder */
  const prefix = (folder) => `${ADDRESS}${folder}/`;
  const addresses = async () => (await cache.keys()).map(({ url }) => url).filter((url) => url.startsWith(ADDRESS));
  return {
    async folders() {
      return [...new Set((await addresses()).map((url) => url.slice(ADDRESS.length).split("/")[0]))];
    },
    async files(folder) {
      const files = [];
      for (const url of await addresses()) {
        const response = url.startsWith(prefix(folder)) ? await cache.match(url) : undefined;
        if (response) files.push({ name: url.slice(prefix(folder).length), size: (await response.blob()).size });
      }
      return files;
    },
    read: async (folder, name) => (await cache.match(prefix(folder) + name))?.blob(),
    write: (folder, name, text) => cache.put(prefix(folder) + name, new Response(text)),
    add: (folder, name, bytes) => cache.put(prefix(folder) + name, new Response(bytes)),
    async remove(folder) {
      for (const url of await addresses()) if (url.startsWith(prefix(folder))) await cache.delete(url);
    },
  };
}

/**
 * Takes a lock of the origin, if nobody has it.
 *
 * @param {string} name
 * @returns {Promise<(() => void) | undefined>} releases it
 */
export function tryLock(name) {
  // Without locks, two tabs may both download, and each stores what it can.
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const held = (/** @type {Lock | null} */ lock) => (lock ? new Promise((/** @type {(value: void) => void} */ release) => resolve(() => release())) : resolve(undefined));
    navigator.locks.request(`${ROOT}:${name}`, { ifAvailable: true }, held).catch(reject);
  });
}
