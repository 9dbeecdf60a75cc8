// The WebAssembly instance of this thread, and the loop that drives its operations.
//
// All work happens inside `poll()`, called from here. So a trap (memory that ran out, a bug) is an exception of the
// request that caused it; the broken instance is then replaced by a fresh one, and the next request finds it whole.

import { __wbg_reset_state, initSync } from "./wasm/workers_ai_local.js";
import { abortError, aiError, InferenceUpstreamError } from "./errors.js";

/** Counts instances: handles of an earlier one must not be touched. */
let current = 0;

export const epoch = () => current;

/** Whether an exception means that the instance can no longer be trusted. */
function isTrap(error) {
  // A RangeError thrown while wasm runs is a stack that overflowed, or memory that could not be taken.
  return error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
}

/** Calls into wasm. Errors of the table come out as InferenceUpstreamError; a trap replaces the instance. */
export function call(since, work) {
  if (since !== current) throw restarted("another request broke it");
  try {
    return work();
  } catch (error) {
    if (isTrap(error)) {
      current += 1;
      __wbg_reset_state();
      throw restarted(error.message);
    }
    if (error?.internalCode) throw new InferenceUpstreamError(error.message, error);
    throw error;
  }
}

function restarted(reason) {
  return aiError(3040, 429, `The engine ran out of memory or failed (${reason}) and was restarted. Try again; if it happens again, use a smaller model or a shorter prompt.`);
}

/**
 * Bytes of the instance's memory. It grows and never shrinks, so this is also the most that was needed, since the
 * instance was last replaced.
 */
export function memoryBytes() {
  // Without an argument it gives the exports of the instance that is there, a replaced one too.
  return initSync().memory.buffer.byteLength;
}

/** Gives a wasm object's memory back, unless it belongs to an instance that is gone. */
export function release(handle, since) {
  if (handle && since === current && handle.__wbg_ptr) handle.free();
}

/**
 * Runs an operation to its end. Aborting ends it at the next step; what it computed so far is not lost.
 *
 * @template T
 * @param {() => import("./wasm/workers_ai_local.js").Task} begin
 * @param {AbortSignal} [signal]
 * @param {number} [since] the instance that what `begin` calls belongs to
 * @param {Set<object>} [running] holds the task while it runs; whoever frees it takes it out
 * @returns {Promise<T>}
 */
export async function drive(begin, signal, since = current, running = new Set()) {
  if (signal?.aborted) throw abortError(signal);
  const task = call(since, begin);
  const abort = abortWatch(signal);
  running.add(task);
  try {
    let failed = false;
    let value;
    for (;;) {
      const wanted = call(since, () => task.poll(failed, value));
      if (wanted === undefined) return call(since, () => task.take());
      try {
        value = await (wanted === null ? giveWay() : abort.race(wanted));
        failed = false;
      } catch (error) {
        failed = true;
        value = error;
      }
      if (signal?.aborted || !running.has(task)) throw abortError(signal);
    }
  } finally {
    abort.end();
    running.delete(task);
    release(task, since);
  }
}

/** Ends a wait when the signal fires; takes its listener back afterwards. */
function abortWatch(signal) {
  if (!signal) return { race: (promise) => promise, end() {} };
  let fire;
  const fired = new Promise((_, reject) => {
    fire = () => reject(abortError(signal));
  });
  fired.catch(() => {});
  signal.addEventListener("abort", fire, { once: true });
  return {
    race: (promise) => Promise.race([promise, fired]),
    end: () => signal.removeEventListener("abort", fire),
  };
}

/** Lets timers, messages and other requests in: a task of the event loop, not a microtask. */
const giveWay = (() => {
  // Node. Elsewhere (bundled shims of it) a timer may stand behind it, which is slow.
  if (typeof setImmediate === "function" && globalThis.process?.versions?.node && !isWorkerd()) return () => new Promise((resolve) => setImmediate(resolve));
  // Browsers slow down nested timers to 4 ms; messages they do not. workerd allows no ports that outlive a request.
  if (typeof MessageChannel === "function" && !isWorkerd()) {
    const waiting = [];
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => waiting.shift()();
    return () => new Promise((resolve) => void (waiting.push(resolve), port2.postMessage(null)));
  }
  return () => new Promise((resolve) => setTimeout(resolve, 0));
})();

function isWorkerd() {
  return globalThis.navigator?.userAgent === "Cloudflare-Workers";
}
