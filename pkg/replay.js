// Answers that outlive the loss of their instance: if another request breaks the instance, an answer is computed again on the new one, and
// what was already delivered is skipped. The same request with the same nonce gives the same bytes (src/ai/nonce.rs), which is checked.

import { aiError } from "./errors.js";
import { forgetTicket, isRestart, newTicket } from "./instance.js";

/**
 * @import { WasmInstance } from "./instance.js"
 * @import { Chunks, CoreChunks, Nonce, Task, WasmObject } from "./internal.d.ts"
 */

/** How often an answer or a call is computed again. More losses than that are no accident. */
const MOST = 3;

/** @returns {Nonce} */
function newNonce() {
  return { random: crypto.getRandomValues(new Uint8Array(16)), created: Math.floor(Date.now() / 1000), ticket: newTicket() };
}

/**
 * Runs work that has no effect until it has succeeded; again if the instance was lost meanwhile.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function again(work) {
  for (let losses = 0; ; losses += 1) {
    try {
      return await work();
    } catch (error) {
      if (!isRestart(error) || losses === MOST) throw error;
    }
  }
}

/**
 * Starts an answer.
 *
 * @template {CoreChunks} Core
 * @template Facts
 * @param {WasmInstance} instance
 * @param {(nonce: Nonce) => Promise<{begin: () => Task<Core>, since: number}>} prepare makes the instance ready for the answer
 * @param {(core: Core) => Facts} read the facts of the answer that has begun
 * @param {AbortSignal} [signal]
 * @returns {Promise<{facts: Facts, whole: <T>(task: (core: Core) => Task<T>) => Promise<T>} & Chunks>} `whole` runs a task of the answer
 *   and ends the answer; the others are those of `Chunks`
 */
export async function start(instance, prepare, read, signal) {
  const nonce = newNonce();
  let losses = 0;
  let delivered = 0;
  let checksum = EMPTY;
  let ended = false;
  /** @type {Set<WasmObject>} */
  const running = new Set();
  /** @type {{core: Core, since: number} | undefined} */
  let current;

  const begin = async () => {
    const { begin, since } = await prepare(nonce);
    current = { core: await instance.drive(begin, signal, since, running, nonce.ticket), since };
    return current;
  };
  /**
   * @template T
   * @param {{core: Core, since: number}} of
   * @param {(core: Core) => Task<T>} task
   */
  const run = ({ core, since }, task) => instance.drive(() => task(core), signal, since, running, nonce.ticket);
  /** @param {{core: Core, since: number}} of */
  const next = (of) => run(of, (core) => core.chunk());

  /**
   * Begins again and skips what was delivered.
   *
   * @returns {Promise<Uint8Array<ArrayBuffer> | undefined>} the rest of the chunk that has more than that
   */
  const resume = async () => {
    const answer = await begin();
    let [skipped, sum] = [0, EMPTY];
    while (skipped < delivered) {
      const chunk = await next(answer);
      if (chunk === undefined) break;
      const old = chunk.subarray(0, delivered - skipped);
      sum = checksumOf(old, sum);
      skipped += old.length;
      if (skipped === delivered && sum === checksum && chunk.length > old.length) return chunk.slice(old.length);
    }
    // Only a GPU can round differently from one time to the next.
    if (skipped < delivered || sum !== checksum) throw drifted();
    return next(answer);
  };

  /**
   * @template T
   * @param {() => Promise<T>} first
   * @param {() => Promise<T>} after what to do on a new instance
   */
  const outliving = async (first, after) => {
    let work = first;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (ended || !isRestart(error) || losses === MOST) throw error;
        losses += 1;
        work = after;
      }
    }
  };

  const free = () => {
    if (ended) return;
    ended = true;
    forgetTicket(nonce.ticket);
    if (!current) return;
    // Frees the tasks now, not when they continue: in workerd, the timer that a task waits for may have ended with its request.
    for (const task of running) instance.release(task, current.since);
    running.clear();
    instance.release(current.core, current.since);
  };

  try {
    const begun = await outliving(begin, begin);
    // The same object until the instance is lost, then that of the new instance.
    const answer = () => current ?? begun;
    return {
      facts: read(begun.core),
      async whole(task) {
        try {
          return await outliving(
            () => run(answer(), task),
            async () => run(await begin(), task),
          );
        } finally {
          free();
        }
      },
      async chunk() {
        const chunk = await outliving(() => next(answer()), resume);
        if (chunk !== undefined) {
          checksum = checksumOf(chunk, checksum);
          delivered += chunk.length;
        }
        return chunk;
      },
      free,
    };
  } catch (error) {
    free();
    throw error;
  }
}

/** The error of an answer whose beginning was computed differently after the instance was lost. */
const drifted = () => aiError(3040, 429, "The engine was restarted by another request, and this answer could not be continued. Try again.");

/** The checksum of no bytes. */
const EMPTY = 0x811c9dc5;

/**
 * The FNV-1a checksum of bytes that follow others.
 *
 * @param {Uint8Array} bytes
 * @param {number} before the checksum of the others
 */
function checksumOf(bytes, before) {
  let sum = before;
  for (const byte of bytes) sum = Math.imul(sum ^ byte, 0x01000193) >>> 0;
  return sum;
}
