// One download into a file: resumed across processes, and compared with what is expected before it is called complete.
//
// While it goes on, the bytes are in `FILE.part`, and which version they are of is in `FILE.part.json`.

import { createHash } from "node:crypto";
import { mkdir, open, rename, rm, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { checkRange, checkSame, fromStream, request, sourceError, statusError, versionOf } from "../source.js";
import { hashed, readJson, writeJson } from "./records.js";

/**
 * @import { Version } from "../source.js"
 *
 * @typedef {object} Wanted
 * @property {string} url
 * @property {Record<string, string>} headers for the URL's own origin only
 * @property {string} target the file
 * @property {string[]} names for whom it is, which a list of unfinished files shows
 * @property {number} [size]
 * @property {string} [sha256]
 * @property {number} [further] bytes of the model's other files that are still to come
 * @property {(response: Response) => Error | undefined} [explain] what to say of an answer that is an error
 *
 * @typedef {object} Conditions
 * @property {number} attempts how often an attempt may fail, one after another, without having brought a byte
 * @property {number} firstWaitMs the wait before the second attempt; it doubles up to `longestWaitMs`
 * @property {number} longestWaitMs
 * @property {number} patienceMs the longest wait that a server's `Retry-After` gets
 * @property {(folder: string) => Promise<number>} room free bytes of a folder's disk
 *
 * @typedef {Version & {url: string, names: string[], sha256?: string}} Part what `FILE.part.json` says
 */

/** @type {Conditions} */
export const CONDITIONS = {
  attempts: 6,
  firstWaitMs: 500,
  longestWaitMs: 30_000,
  patienceMs: 10 * 60_000,
  async room(folder) {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  },
};

/** How every GGUF file begins. */
const GGUF = Buffer.from("GGUF");
const GGUF_FILE = /\.gguf$/i;
/** What stays free on the disk. */
const SPARE = 16 << 20;
/** How often a file may be replaced on the server, or come with other bytes, while it is downloaded. */
const MAX_RESTARTS = 1;
/** How often a process looks whether it still has its lock while it writes. */
const LOOK_EVERY_MS = 1_000;
/** So long may a server take to say whether a stored file is still the one that it has. */
const ANSWER_LIMIT_MS = 5_000;
const DIGEST = /^(?:W\/)?"?([\da-f]{64})"?$/i;
/** Errors of a disk that has no room, or not for this user. */
const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** @param {string} target */
export const partOf = (target) => `${target}.part`;
/** @param {string} target */
const stateOf = (target) => `${target}.part.json`;

/** @param {string} target @returns {Promise<Part | undefined>} */
export const readPart = (target) => readJson(stateOf(target));

/** Removes what an unfinished download left. @param {string} target */
export const removePart = (target) => Promise.all([partOf(target), stateOf(target)].map((file) => rm(file, { force: true })));

/**
 * Downloads a file. `target` appears, or is replaced, only when it is whole and has the expected SHA-256.
 *
 * @param {Wanted} wanted
 * @param {object} [options]
 * @param {AbortSignal} [options.signal]
 * @param {(progress: {loaded: number, total: number | null}) => void} [options.onProgress]
 * @param {(text: string) => void} [options.onWait] called before a wait that a user notices
 * @param {() => Promise<boolean>} [options.holds] whether this process may still write
 * @param {Partial<Conditions>} [options.conditions]
 * @returns {Promise<Pick<Version, "etag" | "modified"> & {sha256: string}>}
 * @throws an error with a `kind`, see source.js
 */
export async function download(wanted, { signal, onProgress = () => {}, onWait = () => {}, holds = async () => true, conditions = {} } = {}) {
  const all = { ...CONDITIONS, ...conditions };
  await mkdir(path.dirname(wanted.target), { recursive: true });
  await mustHold(wanted.target, holds);
  const transfer = await Transfer.begin(wanted, { signal, onProgress, holds, conditions: all });
  try {
    for (let failures = 0, restarts = 0; ; ) {
      const before = transfer.furthest;
      try {
        await transfer.attempt();
        return await transfer.complete();
      } catch (error) {
        signal?.throwIfAborted();
        const failure = asSourceError(error);
        if (failure.restart && restarts < MAX_RESTARTS) {
          restarts += 1;
          await transfer.restart();
          transfer.furthest = 0;
          continue;
        }
        failures = transfer.furthest > before ? 0 : failures + 1;
        const again = (failure.kind === "interrupted" || failure.kind === "busy") && !failure.restart;
        if (!again || failures >= all.attempts) throw failure;
        await pause(waitAfter(failures, all), failure, { all, onWait, signal });
      }
    }
  } catch (error) {
    if (error.leaveNothing && (await holds())) await removePart(wanted.target);
    throw error;
  } finally {
    await transfer.close();
  }
}

/**
 * Does what may fail for the moment, as often and with such waits as a download.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @param {{conditions?: Partial<Conditions>, onWait?: (text: string) => void, signal?: AbortSignal}} [options]
 * @returns {Promise<T>}
 */
export async function patiently(work, { conditions = {}, onWait = () => {}, signal } = {}) {
  const all = { ...CONDITIONS, ...conditions };
  for (let failures = 1; ; failures += 1) {
    try {
      return await work();
    } catch (error) {
      if ((error.kind !== "interrupted" && error.kind !== "busy") || failures >= all.attempts) throw error;
      await pause(waitAfter(failures, all), error, { all, onWait, signal });
    }
  }
}

/**
 * Whether the server still has the version that is stored; `undefined` if it does not answer. One that gives its files neither ETag nor
 * Last-Modified cannot tell, so its file counts as another one if it answers.
 *
 * @param {string} url
 * @param {Record<string, string>} headers for the URL's own origin only
 * @param {{etag?: string, modified?: string, sha256: string}} stored
 * @returns {Promise<boolean | undefined>}
 */
export async function isCurrent(url, headers, { etag, modified, sha256 }) {
  const answered = new AbortController();
  /** @type {boolean | undefined} */
  let said;
  /** @param {Response} redirect */
  const onRedirect = (redirect) => {
    const linked = DIGEST.exec(redirect.headers.get("x-linked-etag") ?? "")?.[1];
    if (linked === undefined) return;
    said = linked.toLowerCase() === sha256;
    // The hub has said it all.
    answered.abort();
  };
  /** @type {Record<string, string>} */
  const condition = etag ? { "if-none-match": etag } : modified ? { "if-modified-since": modified } : {};
  try {
    const signal = AbortSignal.any([answered.signal, AbortSignal.timeout(ANSWER_LIMIT_MS)]);
    const response = await request(url, headers, { "accept-encoding": "identity", ...condition }, { signal, onRedirect });
    answered.abort();
    if (response.status === 304) return true;
    // What it cannot give now is no reason to go without what is stored.
    if (!response.ok) return undefined;
    if (!etag && !modified) return false;
    const version = versionOf(response);
    return etag ? version.etag === etag : version.modified === modified;
  } catch {
    return said;
  }
}

/** A file on its way. */
class Transfer {
  #wanted;
  #options;
  #handle;
  #state;
  #hash = createHash("sha256");
  #offset = 0;
  /** When this process last had a look at its lock. */
  #looked = performance.now();
  /** The most bytes that there were. A server that begins anew each time brings nothing new. */
  furthest = 0;

  /**
   * @param {Wanted} wanted
   * @param {{signal?: AbortSignal, onProgress: (progress: {loaded: number, total: number | null}) => void, holds: () => Promise<boolean>, conditions: Conditions}} options
   */
  static async begin(wanted, options) {
    const state = await readPart(wanted.target);
    const bytes = await stat(partOf(wanted.target)).then(({ size }) => size, () => 0);
    // Without a validator only the SHA-256 can tell whether the rest belongs to the beginning that another process has left.
    const tells = state?.etag ?? state?.modified ?? state?.sha256;
    const continues = bytes > 0 && state !== undefined && tells !== undefined && isSameFile(state, wanted);
    const handle = await open(partOf(wanted.target), continues ? "r+" : "w").catch((error) => {
      throw asDiskError(error, wanted.target);
    });
    const fresh = { url: wanted.url, names: wanted.names, size: wanted.size, sha256: wanted.sha256 };
    const transfer = new Transfer(wanted, options, handle, continues ? { ...state, ...defined(fresh) } : fresh);
    if (continues) {
      await hashed(partOf(wanted.target), transfer.#hash);
      transfer.#offset = transfer.furthest = bytes;
    }
    return transfer;
  }

  /**
   * @param {Wanted} wanted
   * @param {Parameters<typeof Transfer.begin>[1]} options
   * @param {import("node:fs/promises").FileHandle} handle
   * @param {Part} state
   */
  constructor(wanted, options, handle, state) {
    this.#wanted = wanted;
    this.#options = options;
    this.#handle = handle;
    this.#state = state;
  }

  /** Forgets what has come. */
  async restart() {
    await this.#mustHold();
    const { url, names, size, sha256 } = this.#wanted;
    await this.#handle.truncate(0);
    this.#hash = createHash("sha256");
    this.#offset = 0;
    this.#state = { url, names, size, sha256 };
  }

  /** Asks for what is missing, and writes what comes until the end of the file or of the connection. */
  async attempt() {
    await this.#mustHold();
    const { size, etag, modified } = this.#state;
    if (size !== undefined && this.#offset > size) await this.restart();
    if (size !== undefined && this.#offset === size && size > 0) return;
    const condition = etag ?? modified;
    /** @type {Record<string, string>} */
    const range = this.#offset > 0 ? { range: `bytes=${this.#offset}-`, ...(condition && { "if-range": condition }) } : {};
    const { url, headers } = this.#wanted;
    const { signal } = this.#options;
    const response = await request(url, headers, { "accept-encoding": "identity", ...range }, { signal, onRedirect: (redirect) => this.#learn(redirect) });
    try {
      await this.#accept(response);
      await this.#write(response);
    } catch (error) {
      await response.body?.cancel().catch(() => {});
      throw error;
    }
  }

  /**
   * What the hub says of the file in the answer that leads to it.
   *
   * @param {Response} response
   */
  #learn({ url, headers }) {
    if (new URL(url || this.#wanted.url).origin !== new URL(this.#wanted.url).origin) return;
    const sha256 = DIGEST.exec(headers.get("x-linked-etag") ?? "")?.[1].toLowerCase();
    const size = Number(headers.get("x-linked-size") ?? NaN);
    if (sha256 && this.#state.sha256 && sha256 !== this.#state.sha256.toLowerCase()) {
      const error = sourceError("changed", `the server has another version now: its SHA-256 is ${sha256}, not ${this.#state.sha256}`);
      // Where nobody asks for a certain one, only the beginning that is there is of the old one.
      throw Object.assign(error, { restart: this.#wanted.sha256 === undefined });
    }
    if (sha256) this.#state.sha256 = sha256;
    if (Number.isSafeInteger(size) && size > 0) this.#state.size ??= size;
  }

  /**
   * Makes sure that an answer continues what has come, and that the disk has room for it.
   *
   * @param {Response} response
   */
  async #accept(response) {
    if (!response.ok || !response.body) {
      // What is there is more than the server's file has.
      if (response.status === 416) throw Object.assign(statusError(response), { restart: true });
      throw this.#wanted.explain?.(response) ?? statusError(response);
    }
    const version = versionOf(response);
    if (response.status === 206) {
      checkRange(response, this.#offset);
      check(() => checkSame(this.#state, version));
    } else if (this.#offset > 0) {
      // The server sends all of it: it has another version, or knows no ranges.
      await this.restart();
    }
    if (this.#wanted.size !== undefined && version.size !== undefined && version.size !== this.#wanted.size) {
      throw sourceError("changed", `the server has a file of ${version.size} bytes, not of ${this.#wanted.size}`);
    }
    this.#state = { ...this.#state, ...defined(version) };
    await this.#checkRoom();
    await this.#mustHold();
    await writeJson(stateOf(this.#wanted.target), this.#state).catch((error) => {
      throw asDiskError(error, this.#wanted.target);
    });
  }

  async #checkRoom() {
    const { size } = this.#state;
    if (size === undefined) return;
    const folder = path.dirname(this.#wanted.target);
    // Some file systems do not tell.
    const room = await this.#options.conditions.room(folder).catch(() => Infinity);
    const { further = 0 } = this.#wanted;
    const missing = size - this.#offset + further + SPARE;
    if (room < missing) throw noRoom(folder, `${further > 0 ? "the model's files need" : "it needs"} ${inMegabytes(missing)}, and ${Math.floor(room / 1e6).toLocaleString("en")} MB are free`);
  }

  /** @param {Response} response */
  async #write(response) {
    const { onProgress } = this.#options;
    const { size } = this.#state;
    const stream = fromStream(/** @type {ReadableStream} */ (response.body), size);
    for (let chunk; (chunk = await stream.read()) !== undefined; ) {
      await this.#mayWrite();
      if (this.#offset === 0) this.#checkKind(chunk);
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await this.#handle.write(chunk, done, chunk.length - done, this.#offset + done).catch((error) => {
          throw asDiskError(error, this.#wanted.target);
        });
        done += bytesWritten;
      }
      this.#hash.update(chunk);
      this.#offset += chunk.length;
      this.furthest = Math.max(this.furthest, this.#offset);
      onProgress({ loaded: this.#offset, total: size ?? null });
    }
    if (size !== undefined && this.#offset < size) throw sourceError("interrupted", `the connection ended after ${this.#offset} of ${size} bytes`);
    if (size !== undefined && this.#offset > size) throw Object.assign(sourceError("changed", `the server sent more than ${size} bytes`), { restart: true });
  }

  /**
   * Some servers answer with a page where they have no file, and gigabytes later is late to say so.
   *
   * @param {Uint8Array} start
   */
  #checkKind(start) {
    if (!GGUF_FILE.test(new URL(this.#wanted.url).pathname) || start.length < GGUF.length || GGUF.equals(start.subarray(0, GGUF.length))) return;
    const text = Buffer.from(start.subarray(0, 20)).toString("latin1").replaceAll(/[^ -~]/g, "·");
    throw Object.assign(sourceError("refused", `what the server sends is not a GGUF file: it begins with "${text}"`), { leaveNothing: true });
  }

  /** A process that stood still for long may have lost its lock to another, which writes the same file now. Or the model was removed. */
  async #mayWrite() {
    if (performance.now() - this.#looked < LOOK_EVERY_MS) return;
    await this.#mustHold();
    this.#looked = performance.now();
  }

  #mustHold() {
    return mustHold(this.#wanted.target, this.#options.holds);
  }

  /** Compares the SHA-256, and gives the file its name. */
  async complete() {
    const { target } = this.#wanted;
    const digest = this.#hash.copy().digest("hex");
    const { sha256 = digest } = this.#state;
    if (digest !== sha256.toLowerCase()) {
      const error = sourceError("changed", `the download has another SHA-256 than the model: ${digest} instead of ${sha256}`);
      throw Object.assign(error, { restart: true, leaveNothing: true });
    }
    await this.#mustHold();
    await this.#handle.sync();
    await rename(partOf(target), target);
    await rm(stateOf(target), { force: true });
    const { etag, modified } = this.#state;
    return { sha256: digest, etag, modified };
  }

  async close() {
    await this.#handle.close().catch(() => {});
    // Nothing has come.
    if (this.#offset === 0 && (await this.#options.holds())) await removePart(this.#wanted.target).catch(() => {});
  }
}

/**
 * Makes sure that this process may still write.
 *
 * @param {string} target
 * @param {() => Promise<boolean>} holds
 */
async function mustHold(target, holds) {
  if (await holds()) return;
  const isThere = await Promise.any([target, partOf(target)].map((file) => stat(file))).catch(() => undefined);
  throw isThere ? sourceError("interrupted", "another process has taken over this download") : sourceError("refused", "the model was removed while it was downloaded");
}

/**
 * Whether the beginning that is there is that of the wanted file.
 *
 * @param {Part} state
 * @param {Wanted} wanted
 */
function isSameFile(state, { url, sha256 }) {
  if (state.sha256 && sha256) return state.sha256.toLowerCase() === sha256.toLowerCase();
  return state.url === url;
}

/**
 * An error after which the download begins anew, once.
 *
 * @param {() => void} checks
 */
function check(checks) {
  try {
    checks();
  } catch (error) {
    throw Object.assign(error, { restart: true });
  }
}

/** @template {object} Value @param {Value} value @returns {Value} without what is undefined */
const defined = (value) => /** @type {Value} */ (Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)));

/** @param {any} error */
function asSourceError(error) {
  if (error.kind) return error;
  return sourceError("interrupted", error.cause?.message ?? error.message);
}

/**
 * What an error of the file system means for the one who wants the file.
 *
 * @param {any} error
 * @param {string} target
 */
export function asDiskError(error, target) {
  if (error.kind || typeof error.code !== "string") return error;
  const folder = path.dirname(target);
  if (FULL.has(error.code)) return noRoom(folder, "it became full");
  return sourceError("refused", `${folder} cannot be written (${error.code}): set WORKERS_AI_LOCAL_CACHE to a folder that can`);
}

/**
 * @param {string} folder
 * @param {string} why
 */
function noRoom(folder, why) {
  const error = sourceError("refused", `there is no room on the disk of ${folder}: ${why}. Remove models with \`workers-ai-local rm NAME\`, or set WORKERS_AI_LOCAL_CACHE to a folder on another disk`);
  return Object.assign(error, { leaveNothing: true });
}

/** @param {number} bytes */
const inMegabytes = (bytes) => `${Math.ceil(bytes / 1e6).toLocaleString("en")} MB`;

/**
 * @param {number} failures one after another
 * @param {Conditions} conditions
 */
const waitAfter = (failures, { firstWaitMs, longestWaitMs }) => Math.min(firstWaitMs * 2 ** Math.max(0, failures - 1), longestWaitMs);

/**
 * Waits before the next attempt, at least as long as the server asks for.
 *
 * @param {number} ms
 * @param {Error & {waitMs?: number}} failure
 * @param {{all: Conditions, onWait: (text: string) => void, signal?: AbortSignal}} options
 */
async function pause(ms, failure, { all, onWait, signal }) {
  const { waitMs = 0, message } = failure;
  if (waitMs > all.patienceMs) throw sourceError("refused", `${message}: the server asks to wait ${Math.ceil(waitMs / 60_000)} minutes. Try again then`);
  // Clients that were cut off together should not come back together.
  const wait = Math.max(waitMs, ms * (0.75 + Math.random() / 2));
  if (wait >= 3_000) onWait(`${message}. Trying again in ${Math.round(wait / 1000)} s.`);
  await new Promise((resolve, reject) => {
    const timer = setTimeout(done, wait);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      if (signal?.aborted) reject(signal.reason);
      else resolve(undefined);
    }
    signal?.addEventListener("abort", done);
  });
}
