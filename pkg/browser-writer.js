// Stores a file piece by piece while it is downloaded, and compares its SHA-256.

import { freeBytes, writeEntry } from "./browser-models.js";
import { PIECE_BYTES, sealed } from "./browser-pieces.js";
import { finishHash, hashBlocks } from "./sha256.js";
import { sourceError } from "./source.js";

/**
 * @import { Entry } from "./browser-models.js"
 * @import { Store } from "./browser-store.js"
 */

/** What is asked for in the page, and told to the program. @typedef {{onWarning(text: string): void, onStored(): void}} StoreObservers */

/**
 * Whether the origin has room for a file, and for the other files of its model. Warns if not.
 *
 * @param {string} name
 * @param {number | undefined} size bytes that are still to be stored
 * @param {StoreObservers} observers
 */
export async function hasRoom(name, size, observers) {
  const free = await freeBytes();
  if (size === undefined || free === undefined || size <= free) return true;
  observers.onWarning(noRoom(name, `it needs ${inMb(size)}, and this site may store ${inMb(free)} more`));
  return false;
}

/**
 * @param {string} name
 * @param {string} reason
 */
const noRoom = (name, reason) =>
  `workers-ai-local: ${name} is not kept in this browser (${reason}), so it will be downloaded again at the next load. Free space on the disk, or remove what is no longer needed: Ai.models.list() says what is stored, Ai.models.delete(name) removes it.`;

/**
 * Warns that a file cannot be stored.
 *
 * @param {string} name
 * @param {Error} error of the store
 * @param {StoreObservers} observers
 */
export const warnNotKept = (name, error, { onWarning }) => onWarning(noRoom(name, error.name === "QuotaExceededError" ? "there is no more room" : error.message));

/** @param {number} bytes */
const inMb = (bytes) => `${Math.ceil(bytes / 1e6)} MB`;

/** Holds the lock of its file. */
export class Writer {
  #store;
  #key;
  #entry;
  #observers;
  #release;
  /** The piece that is being filled. */
  #piece = new Uint8Array(0);
  #length = 0;
  /** The SHA-256 of everything before it. */
  #state;
  #index;
  /** The writing of the piece before it. */
  #written = Promise.resolve();
  /** Ends when there is no room. The bytes are still hashed. */
  #isStoring;
  #ended = false;

  /**
   * @param {Store} store
   * @param {string} key
   * @param {Entry} entry
   * @param {{index: number, bytes: Uint8Array, state: Int32Array<ArrayBuffer>}} from what is stored of the piece with this number
   * @param {StoreObservers} observers
   * @param {() => void} release gives the lock back
   * @param {boolean} stores whether there is room
   */
  constructor(store, key, entry, { index, bytes, state }, observers, release, stores) {
    this.#store = store;
    this.#key = key;
    this.#entry = entry;
    this.#observers = observers;
    this.#release = release;
    this.#index = index;
    this.#state = state;
    this.#isStoring = stores;
    this.#append(bytes);
  }

  get ended() {
    return this.#ended;
  }

  /** Takes bytes that follow, which it copies. @param {Uint8Array} bytes */
  async add(bytes) {
    while (bytes.length > 0) {
      // A full piece is kept until more follows: the last piece of a file is stored when the whole was compared.
      if (this.#length === PIECE_BYTES) await this.#next();
      const part = bytes.subarray(0, PIECE_BYTES - this.#length);
      this.#append(part);
      bytes = bytes.subarray(part.length);
    }
  }

  /** @param {Uint8Array} bytes that fit into the piece */
  #append(bytes) {
    const needed = this.#length + bytes.length;
    if (needed > this.#piece.length) {
      const rest = (this.#entry.size ?? Infinity) - this.#index * PIECE_BYTES;
      const larger = new Uint8Array(Math.max(needed, Math.min(PIECE_BYTES, rest)));
      larger.set(this.#piece.subarray(0, this.#length));
      this.#piece = larger;
    }
    this.#piece.set(bytes, this.#length);
    this.#length = needed;
  }

  /** Stores the full piece while the next one is filled. */
  async #next() {
    const [piece, index, before] = [this.#piece, this.#index, this.#state.slice()];
    hashBlocks(this.#state, piece);
    this.#index += 1;
    this.#piece = new Uint8Array(0);
    this.#length = 0;
    // One at a time, or memory would fill where storage is slower than the network.
    await this.#written;
    this.#written = this.#write(index, piece, before);
  }

  /**
   * The file has ended.
   *
   * @returns {Promise<void>} resolves when it is stored, or not because there is no room
   * @throws a source's error if it is not the expected file, which is then removed
   */
  async finish() {
    const last = this.#piece.subarray(0, this.#length);
    const size = this.#index * PIECE_BYTES + last.length;
    const sha256 = finishHash(this.#state, last, size);
    try {
      await this.#written;
      const expected = this.#entry.sha256;
      if (expected !== undefined && expected.toLowerCase() !== sha256) {
        await this.#store.remove(this.#key).catch(() => {});
        throw sourceError("changed", `its SHA-256 is ${sha256} instead of ${expected}, so it was damaged on its way or replaced`);
      }
      await this.#write(this.#index, last, this.#state);
      if (this.#isStoring) await this.#attempt(() => writeEntry(this.#store, this.#key, { ...this.#entry, size, sha256, complete: true, used: Date.now() }));
    } finally {
      this.#end();
    }
  }

  /** Stops before the end of the file. What has come is stored. */
  async pause() {
    if (this.#ended) return;
    await this.#written;
    if (this.#length > 0) await this.#write(this.#index, this.#piece.subarray(0, this.#length), this.#state);
    this.#end();
  }

  #end() {
    this.#ended = true;
    this.#release();
  }

  /**
   * @param {number} index
   * @param {Uint8Array} piece
   * @param {Int32Array<ArrayBuffer>} before
   */
  async #write(index, piece, before) {
    if (!this.#isStoring) return;
    await this.#attempt(async () => this.#store.add(this.#key, pieceName(this.#entry, index), await sealed(piece, before)));
  }

  /**
   * Writes, and gives all of it back if that fails: a part of a file for which there is no room is of no use.
   *
   * @param {() => Promise<void>} write
   */
  async #attempt(write) {
    try {
      await write();
    } catch (error) {
      this.#isStoring = false;
      // Somebody has removed the file meanwhile.
      if (error.name === "NotFoundError") return;
      warnNotKept(this.#entry.name, error, this.#observers);
      await this.#store.remove(this.#key).catch(() => {});
    }
  }
}

/**
 * The name of a piece's file.
 *
 * @param {Entry} entry
 * @param {number} index
 */
export const pieceName = (entry, index) => `${entry.id}-${index}`;
