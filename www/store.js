// What the page keeps in this browser: conversations in IndexedDB, and small values in localStorage. Without either (private windows, a full
// disk) the page works the same and forgets at the end.

/**
 * @import { StoredTurn } from "./conversation.js"
 *
 * @typedef {object} StoredConversation
 * @property {string} id
 * @property {string} title
 * @property {boolean} [named] whether the user has given the title
 * @property {number} updated
 * @property {number} [version] how often the turns were stored: tells a tab that another one has changed them
 * @property {StoredTurn[]} turns
 */

const DATABASE = "workers-ai-local-playground";
const CONVERSATIONS = "conversations";
const PREFIX = "workers-ai-local:";

/** The open database; `null` if there is none. @type {Promise<IDBDatabase | null> | undefined} */
let opened;

function database() {
  opened ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(CONVERSATIONS, { keyPath: "id" });
      request.onsuccess = () => resolve(request.result);
      request.onerror = request.onblocked = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opened;
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T>} use
 * @returns {Promise<{result: T} | undefined>} `undefined` if it failed
 */
async function inStore(mode, use) {
  const open = await database();
  if (!open) return undefined;
  return new Promise((resolve) => {
    try {
      const transaction = open.transaction(CONVERSATIONS, mode);
      const request = use(transaction.objectStore(CONVERSATIONS));
      transaction.oncomplete = () => resolve(request);
      transaction.onabort = transaction.onerror = () => resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
}

/** All conversations, the newest first. @returns {Promise<StoredConversation[] | undefined>} `undefined` if they cannot be read */
export async function readConversations() {
  const all = await inStore("readonly", (store) => store.getAll());
  return all?.result.sort((one, other) => other.updated - one.updated);
}

/**
 * Changes what is stored of a conversation. No other tab changes it between the reading and the writing.
 *
 * @param {string} id
 * @param {(stored: StoredConversation | undefined) => StoredConversation | null | undefined} change gives what is to be stored, `null` to remove it,
 *   `undefined` to leave it
 * @returns {Promise<boolean>} whether that is done
 */
export async function changeConversation(id, change) {
  const done = await inStore("readwrite", (store) => {
    const request = store.get(id);
    request.onsuccess = () => {
      const next = change(request.result);
      if (next) store.put(next);
      if (next === null) store.delete(id);
    };
    return request;
  });
  return done !== undefined;
}

/**
 * A small value of an earlier visit.
 *
 * @param {string} name
 * @returns {any} `undefined` if there is none
 */
export function recall(name) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name) ?? "") ?? undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {string} name
 * @param {unknown} value `undefined` removes it
 */
export function remember(name, value) {
  try {
    if (value === undefined) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // The page forgets it.
  }
}
