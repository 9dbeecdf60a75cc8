// What the page keeps in this browser: conversations in IndexedDB, and small values in localStorage. Without either (private windows, a full
// disk) the page works the same and forgets at the end.

/**
 * @import { StoredTurn } from "./conversation.js"
 * @typedef {{id: string, title: string, named?: boolean, updated: number, turns: StoredTurn[]}} StoredConversation
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
 * @returns {Promise<T | undefined>} `undefined` if it failed
 */
async function inStore(mode, use) {
  const open = await database();
  if (!open) return undefined;
  return new Promise((resolve) => {
    try {
      const transaction = open.transaction(CONVERSATIONS, mode);
      const request = use(transaction.objectStore(CONVERSATIONS));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => resolve(undefined);
    } catch {
      resolve(undefined);
    }
  });
}

/** All conversations, the newest first. @returns {Promise<StoredConversation[]>} */
export async function readConversations() {
  const all = (await inStore("readonly", (store) => store.getAll())) ?? [];
  return all.sort((one, other) => other.updated - one.updated);
}

/**
 * @param {StoredConversation} conversation
 * @returns {Promise<boolean>} whether it is stored
 */
export const writeConversation = async (conversation) => (await inStore("readwrite", (store) => store.put(conversation))) !== undefined;

/** @param {string} id */
export const removeConversation = (id) => inStore("readwrite", (store) => store.delete(id));

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
