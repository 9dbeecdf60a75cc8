// Small files in the origin's own storage, by folder: in its private file system (OPFS), or in Cache Storage where there is none.

/**
 * @typedef {object} Store
 * @property {() => Promise<string[]>} folders
 * @property {(folder: string) => Promise<{name: string, size: number}[]>} files of a folder; none if there is no such folder
 * @property {(folder: string, name: string) => Promise<Blob | undefined>} read
 * @property {(folder: string, name: string, content: Uint8Array<ArrayBuffer> | string) => Promise<void>} write replaces the file; rejects where there is no room
 * @property {(folder: string) => Promise<void>} remove a folder with its files
 */

/** The name of the folder, and of the cache, that hold everything. */
const ROOT = "workers-ai-local";

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
    async write(folder, name, content) {
      const handle = await (await root.getDirectoryHandle(folder, { create: true })).getFileHandle(name, { create: true });
      await writeFile(handle, content);
    },
    async remove(folder) {
      await root.removeEntry(folder, { recursive: true }).catch(unlessMissing);
    },
  };
}

/**
 * @param {FileSystemFileHandle} handle
 * @param {Uint8Array<ArrayBuffer> | string} content
 */
async function writeFile(handle, content) {
  // Takes the file's place at once when it is closed, so that nobody sees a half.
  if ("createWritable" in handle) {
    const stream = await handle.createWritable();
    try {
      await stream.write(content);
      await stream.close();
    } catch (error) {
      await stream.abort().catch(() => {});
      throw error;
    }
    return;
  }
  // Safari before 26 has only this one, and only in dedicated workers. A half that it leaves is shorter than what its reader expects.
  const access = await /** @type {any} */ (handle).createSyncAccessHandle();
  try {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    access.truncate(0);
    if (access.write(bytes, { at: 0 }) !== bytes.length) throw new DOMException("there is no room", "QuotaExceededError");
    access.flush();
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
    write: (folder, name, content) => cache.put(prefix(folder) + name, new Response(content)),
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
