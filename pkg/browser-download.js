// A file over HTTP that is kept in the origin's storage while it is read, and read from there the next time.
//
// Whoever has the file's lock downloads it. Others, in other tabs, read what that one stores, and download what is missing once the lock is free.

import { keyOf, missingBytes, noteUse, readEntry, writeEntry } from "./browser-models.js";
import { PIECE_BYTES, lengthOf, unsealed } from "./browser-pieces.js";
import { openStore, tryLock } from "./browser-store.js";
import { Writer, hasRoom, pieceName, warnNotKept } from "./browser-writer.js";
import { initialState } from "./sha256.js";
import { download, http, httpIdentity, sourceError } from "./source.js";

/**
 * @import { Entry } from "./browser-models.js"
 * @import { Store } from "./browser-store.js"
 * @import { StoreObservers } from "./browser-writer.js"
 * @import { HubFile } from "./hub.js"
 * @import { ModelFileStream } from "./index.d.ts"
 * @import { Source, Version } from "./source.js"
 *
 * @typedef {object} StoredFile
 * @property {string} url absolute
 * @property {Record<string, string>} headers
 * @property {string} [sha256] that the file must have
 * @property {boolean} ownCheck whether this source compares the SHA-256 of a file that it stores. Otherwise the crate does, too, whose error says more
 * @property {string} name of the model, in the list of the stored ones
 * @property {HubFile[]} [others] the other files of the model, if their sizes are known
 */

/** How often is looked for what another tab has stored, and how long without anything. */
const LOOK_EVERY_MS = 250;
const LOOK_FOR_MS = 60_000;
/** If all but this part of a file was read when the reading ends, the rest is downloaded for the storage. */
const SMALL_REST = 1 / 8;
/** A stored file is used without asking the server if that takes longer. */
const REVALIDATION_MS = 3000;

/**
 * @param {StoredFile} file
 * @param {StoreObservers} observers
 * @returns {Source}
 */
export function storedHttp(file, observers) {
  const reading = new Reading(file, observers);
  return {
    name: file.url,
    identity: httpIdentity(file.url, file.headers),
    get sha256() {
      return reading.unverified;
    },
    open: (offset) => reading.open(offset),
  };
}

/** The reading of one file, which may begin several times. */
class Reading {
  /** The SHA-256 that somebody else must compare. @type {string | undefined} */
  unverified;
  #plain;
  /** The last stream. @type {StoredStream | undefined} */
  #stream;
  /** Streams are made one after the other. @type {Promise<unknown>} */
  #made = Promise.resolve();
  /** What is stored of the file whose beginning was read. @type {Entry | undefined} */
  #entry;

  /**
   * @param {StoredFile} file
   * @param {StoreObservers} observers
   */
  constructor(file, observers) {
    this.file = file;
    this.observers = observers;
    this.#plain = http(file.url, file.headers);
    this.unverified = file.sha256;
  }

  /**
   * @param {number} offset
   * @returns {Promise<ModelFileStream>}
   */
  async open(offset) {
    const made = this.#made.then(() => this.#make(offset));
    this.#made = made.catch(() => {});
    const stream = await made;
    if (!stream) return this.#plain.open(offset);
    await stream.start();
    this.#entry = stream.entry;
    const { sha256, ownCheck } = this.file;
    this.unverified = stream.entry && (ownCheck || stream.entry.complete) ? undefined : sha256;
    return { size: stream.size, read: () => stream.read(), cancel: () => void stream.end() };
  }

  /**
   * The stream from an offset, not started; `undefined` where nothing can be stored.
   *
   * @param {number} offset
   */
  async #make(offset) {
    // What it still writes comes first. And nobody may have ended it, if a load was aborted while it was opened.
    await this.#stream?.end();
    const store = await openStore();
    if (!store) return undefined;
    const key = await keyOf(this.file);
    if (offset === 0) {
      this.#entry = await this.#current(store, key);
      if (this.#entry?.complete) noteUse(store, key).catch(() => {});
    }
    this.#stream = new StoredStream(this, store, key, offset, this.#entry);
    return this.#stream;
  }

  /** The stored bytes are lost, and the crate reads on: what remains is the network. @param {Entry} entry */
  lose(entry) {
    this.#entry = { ...entry, complete: false };
  }

  /**
   * What is stored, unless the server says that it has another file now.
   *
   * @param {Store} store
   * @param {string} key
   */
  async #current(store, key) {
    const entry = await readEntry(store, key);
    if (!entry || this.file.sha256 !== undefined || (await this.#isCurrent(entry))) return entry;
    const release = await tryLock(key);
    // Without the lock, another tab is about to store the new one.
    if (release) await store.remove(key).finally(release);
    return undefined;
  }

  /** @param {Entry} entry */
  async #isCurrent({ tag, modified, size }) {
    const { url, headers } = this.file;
    const asked = fetch(url, { method: "HEAD", headers, cache: "no-cache", signal: AbortSignal.timeout(REVALIDATION_MS) });
    const response = await asked.catch(() => undefined);
    // Offline, or a server that does not answer this: better the stored file than none.
    if (!response?.ok) return true;
    const now = { tag: response.headers.get("etag"), modified: response.headers.get("last-modified") };
    const length = response.headers.get("content-encoding") ? null : response.headers.get("content-length");
    if (length !== null && size !== undefined && Number(length) !== size) return false;
    // A weak one is enough here: it says that nobody has changed the file.
    if (tag !== undefined && now.tag !== null) return tag.replace(/^W\//, "") === now.tag.replace(/^W\//, "");
    return modified === undefined || now.modified === null || modified === now.modified;
  }
}

/** The browser's HTTP cache would keep a second copy, and make range requests of its own. @type {typeof fetch} */
const withoutHttpCache = (address, init) => fetch(address, { ...init, cache: "no-store" });

/** One reading from an offset to the end of the file, or until it is given up. */
class StoredStream {
  /** @type {number | undefined} */
  size;
  #reading;
  #store;
  #key;
  /** The offset of the next byte. */
  #position;
  /** @type {ModelFileStream | undefined} */
  #network;
  /** @type {Writer | undefined} */
  #writer;
  /** The next piece, which is read while the engine takes this one. @type {{index: number, bytes: Promise<Uint8Array | undefined>} | undefined} */
  #ahead;
  /** The read in progress, if there is one. @type {Promise<unknown> | undefined} */
  #pending;
  #failed = false;
  #givenUp = false;
  /** @type {Promise<void> | undefined} */
  #ended;

  /**
   * @param {Reading} reading
   * @param {Store} store
   * @param {string} key
   * @param {number} offset
   * @param {Entry | undefined} entry what is stored of the file whose beginning was read
   */
  constructor(reading, store, key, offset, entry) {
    this.#reading = reading;
    this.#store = store;
    this.#key = key;
    this.#position = offset;
    this.entry = entry;
    this.size = entry?.size;
  }

  /** Finds out where the file comes from, and its size. */
  async start() {
    if (this.#givenUp) throw sourceError("interrupted", "nobody waits for it any more");
    if (!this.entry) await this.#tracked(this.#connect());
  }

  /** @returns {Promise<Uint8Array | undefined>} */
  read() {
    return this.#tracked(this.#next());
  }

  /**
   * @template T
   * @param {Promise<T>} work
   */
  async #tracked(work) {
    this.#pending = work;
    try {
      return await work;
    } finally {
      this.#pending = undefined;
    }
  }

  /** @returns {Promise<Uint8Array | undefined>} */
  async #next() {
    try {
      for (;;) {
        if (this.size !== undefined && this.#position >= this.size) return undefined;
        const bytes = this.#network ? await this.#receive(this.#network) : await this.#stored();
        if (bytes) {
          this.#position += bytes.length;
          return bytes;
        }
        if (this.#network) return undefined;
        await this.#connect();
      }
    } catch (error) {
      this.#failed = true;
      throw error;
    }
  }

  /** The next bytes of the connection. They are passed on when they are on their way to the storage; the last ones, when the file was compared. */
  async #receive(/** @type {ModelFileStream} */ network) {
    const bytes = await network.read();
    if (!this.#writer || this.#writer.ended) return bytes;
    if (bytes) await this.#writer.add(bytes);
    const end = this.#position + (bytes?.length ?? 0);
    if (end === this.size || (!bytes && this.size === undefined)) await this.#finish(this.#writer);
    return bytes;
  }

  /** @param {Writer} writer */
  async #finish(writer) {
    try {
      await writer.finish();
    } catch (error) {
      // The crate compares it too, and has the better error.
      if (this.#reading.file.ownCheck) throw error;
    }
  }

  /** The rest of the piece at the position, if it is stored. */
  async #stored() {
    const { entry } = this;
    if (!entry) return undefined;
    const index = Math.floor(this.#position / PIECE_BYTES);
    const ahead = this.#ahead?.index === index ? await this.#ahead.bytes : undefined;
    // It may not have been there yet.
    const bytes = ahead ?? (await this.#piece(entry, index));
    if (!bytes || bytes.length <= this.#position % PIECE_BYTES) {
      if (entry.complete) await this.#discard(entry, "what the browser has stored of it is no longer there");
      return undefined;
    }
    const next = index + 1;
    const isFull = bytes.length === PIECE_BYTES && next * PIECE_BYTES < (this.size ?? Infinity);
    this.#ahead = isFull ? { index: next, bytes: this.#piece(entry, next) } : undefined;
    // Its error is that of the read which waits for it.
    this.#ahead?.bytes.catch(() => {});
    return bytes.subarray(this.#position % PIECE_BYTES);
  }

  /**
   * @param {Entry} entry
   * @param {number} index
   */
  async #piece(entry, index) {
    const stored = await this.#store.read(this.#key, pieceName(entry, index));
    if (!stored || lengthOf(stored) === 0) return undefined;
    return (await unsealed(stored).catch(() => this.#discard(entry, "what the browser has stored of it is damaged"))).bytes;
  }

  /**
   * Removes what is stored. The crate then reads on from the network.
   *
   * @param {Entry} entry
   * @param {string} reason
   * @returns {Promise<never>}
   */
  async #discard(entry, reason) {
    this.#reading.lose(entry);
    const release = await tryLock(this.#key);
    const now = release && (await readEntry(this.#store, this.#key));
    if (now?.id === entry.id) await this.#store.remove(this.#key).catch(() => {});
    release?.();
    throw sourceError("interrupted", reason);
  }

  /** Goes on where the stored bytes end: downloads, or waits for the tab that does. */
  async #connect() {
    for (let waited = 0; ; waited += LOOK_EVERY_MS) {
      const release = await tryLock(this.#key);
      if (release) return this.#download(release);
      await this.#adopt();
      if (this.entry && (await this.#hasMore(this.entry))) return;
      if (this.#givenUp) throw sourceError("interrupted", "nobody waits for it any more");
      if (waited >= LOOK_FOR_MS) return this.#readPlainly();
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }

  /** Learns what is stored now. */
  async #adopt() {
    const entry = await readEntry(this.#store, this.#key);
    const isSame = entry !== undefined && (this.entry ? entry.id === this.entry.id : this.#position === 0);
    // Other bytes than those that were read, or none any more: what remains is the network.
    if (!isSame) return false;
    this.entry = entry;
    this.size = entry.size;
    return true;
  }

  /** @param {Entry} entry */
  async #hasMore(entry) {
    const index = Math.floor(this.#position / PIECE_BYTES);
    const stored = await this.#store.read(this.#key, pieceName(entry, index));
    return lengthOf(stored) > this.#position % PIECE_BYTES;
  }

  /** @param {() => void} release gives the lock back */
  async #download(release) {
    try {
      const isSame = await this.#adopt();
      if (isSame && this.entry && (this.entry.complete || (await this.#hasMore(this.entry)))) return release();
      const from = isSame && this.entry ? await this.#storedEnd(this.entry) : this.#position === 0 ? { index: 0, bytes: new Uint8Array(0), state: initialState() } : undefined;
      if (!from) {
        release();
        return await this.#readPlainly();
      }
      const entry = isSame ? this.entry : undefined;
      const version = await this.#open(entry);
      this.entry = entry ?? (await this.#create(version));
      await this.#keep(entry === undefined, from, release);
    } catch (error) {
      if (error.kind === "changed") await this.#store.remove(this.#key).catch(() => {});
      release();
      throw error;
    }
  }

  /**
   * Begins to store what the connection brings.
   *
   * @param {boolean} isNew whether nothing is stored yet
   * @param {{index: number, bytes: Uint8Array, state: Int32Array<ArrayBuffer>}} from where the stored bytes end
   * @param {() => void} release gives the lock back
   */
  async #keep(isNew, from, release) {
    const { file, observers } = this.#reading;
    const missing = this.size === undefined ? undefined : this.size - this.#position + (await missingBytes(this.#store, file.others));
    const stores = this.entry !== undefined && (await hasRoom(this.entry.name, missing, observers));
    if (!this.entry || (isNew && !stores)) {
      this.entry = undefined;
      return release();
    }
    if (isNew && !(await this.#noted(this.entry))) {
      this.entry = undefined;
      return release();
    }
    if (stores) observers.onStored();
    this.#writer = new Writer(this.#store, this.#key, this.entry, from, observers, release, stores);
  }

  /**
   * Stores the entry of a new file. Returns whether that was possible: otherwise the file is read, and not kept.
   *
   * @param {Entry} entry
   */
  async #noted(entry) {
    try {
      await writeEntry(this.#store, this.#key, entry);
      return true;
    } catch (error) {
      warnNotKept(entry.name, error, this.#reading.observers);
      await this.#store.remove(this.#key).catch(() => {});
      return false;
    }
  }

  /**
   * Where the stored bytes end, if that is at the position.
   *
   * @param {Entry} entry
   */
  async #storedEnd(entry) {
    const index = Math.floor(this.#position / PIECE_BYTES);
    const there = this.#position % PIECE_BYTES;
    if (this.#position === 0) return { index, bytes: new Uint8Array(0), state: initialState() };
    const piece = await this.#store.read(this.#key, pieceName(entry, there > 0 ? index : index - 1));
    if (lengthOf(piece) !== (there || PIECE_BYTES)) return undefined;
    const { bytes, before } = await unsealed(/** @type {Blob} */ (piece));
    // A full piece is completed by the writer, with its hash.
    return { index: there > 0 ? index : index - 1, bytes, state: before };
  }

  /**
   * Opens the connection at the position.
   *
   * @param {Entry | undefined} entry what is stored of the file
   */
  async #open(entry) {
    const { url, headers, sha256 } = this.#reading.file;
    // Where the SHA-256 is known, it decides. The same bytes may come from another address, with another ETag.
    const first = entry && (sha256 === undefined ? entry : { size: entry.size });
    const { stream, version } = await download(url, headers, this.#position, first, withoutHttpCache);
    this.#network = stream;
    this.size = version.size ?? this.size;
    return version;
  }

  /** Reads from the network without storing. */
  async #readPlainly() {
    await this.#open(this.entry);
    if (this.#position === 0) this.entry = undefined;
  }

  /**
   * The entry of a file that is now downloaded; `undefined` if it must not be stored, or nothing would show that it is another one later.
   *
   * @param {Version} version
   * @returns {Promise<Entry | undefined>}
   */
  async #create({ etag, tag, modified, size, mayBeStored }) {
    const { url, name, sha256 } = this.#reading.file;
    if (sha256 === undefined && (!mayBeStored || (tag === undefined && modified === undefined))) return undefined;
    await this.#store.remove(this.#key);
    return { id: crypto.randomUUID(), name, url, size, etag, tag, modified, sha256, complete: false, used: Date.now() };
  }

  /** Ends the reading. A file whose last bytes nobody wanted is still stored whole. Does not reject. */
  end() {
    this.#ended ??= this.#finishOrPause().catch(() => {});
    return this.#ended;
  }

  async #finishOrPause() {
    this.#givenUp = true;
    if (this.#pending) {
      // Given up in the middle of a read, which may also be one that waits or connects.
      this.#network?.cancel();
      await this.#pending.catch(() => {});
      this.#failed = true;
    }
    const writer = this.#writer;
    const isSmallRest = this.size !== undefined && this.size - this.#position <= Math.max(PIECE_BYTES, this.size * SMALL_REST);
    try {
      if (writer && !writer.ended && !this.#failed && isSmallRest) while (await this.read());
    } finally {
      this.#network?.cancel();
      await writer?.pause();
    }
  }
}
