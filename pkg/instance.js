// The WebAssembly instance of this thread, and the loop that drives its operations.
//
// All work happens inside `poll()`, called from here. So a trap (memory that ran out, a bug) is an exception of the
// request that caused it; the broken instance is then replaced by a fresh one, and the next request finds it whole.

import { candidates } from "./builds.js";
import { abortError, aiError, AiInternalError, InferenceUpstreamError } from "./errors.js";
import { NO_THREADS, startThreads } from "./threads.js";

/** What was started: `{ build, glue, module, threads, startThread }`. */
let running;
/** The worker threads of the instance. */
let pool = NO_THREADS;
/** Why the instance must be replaced before it is used again. */
let lost;
/** Counts instances: handles of an earlier one must not be touched. */
let current = 0;

export const epoch = () => current;

/** wasm-bindgen's functions and classes, of the build that runs. */
export const glue = () => running.glue;

/** Which build runs, and in how many threads by now. */
export const facts = () => ({ build: running.build, threads: 1 + pool.size });

let first;

/**
 * Starts the best build that runs here, or the one that is asked for. All of a thread's `Ai`s share the instance: the
 * first one decides, and another one that asks for something else is refused.
 *
 * @param {import("./index.d.ts").AiConfig} config
 * @param {object} host what this runtime has: as in builds.js, and
 * @param {Record<string, {glue: () => Promise<object>, wasm: unknown}>} host.builds
 * @param {(wasm: unknown) => Promise<WebAssembly.Module>} host.compile takes a build's `wasm`
 * @param {import("./threads.js").StartThread} [host.startThread] where memory can be shared
 */
export async function start(config, host) {
  first ??= startFirst(candidates(config, host), host).then(
    () => config,
    (error) => {
      first = undefined;
      throw error;
    },
  );
  const { build = "auto", threads } = config;
  const asked = await first;
  const refuse = (what) => {
    throw new AiInternalError(`${what} is asked for, but another Ai of this thread has started the build "${running.build}" (threads: ${running.threads}), and they share it.`);
  };
  if (build !== "auto" && build !== running.build) refuse(`The build "${build}"`);
  // Who asks as the first one did takes what that one could get.
  if (threads !== undefined && threads !== asked.threads && threads !== running.threads) refuse(`threads: ${threads}`);
}

async function startFirst(list, { builds, compile, startThread }) {
  for (const [index, { build, threads }] of list.entries()) {
    const { glue, wasm } = builds[build];
    const [loaded, module] = await Promise.all([glue(), compile(wasm)]).catch((error) => {
      // An instruction that this engine lacks. Anything else, such as a file that did not come, may be better next time.
      if (error instanceof WebAssembly.CompileError && index + 1 < list.length) return [];
      throw error;
    });
    try {
      if (module) instantiate({ build, threads, glue: loaded, module, startThread });
    } catch (error) {
      // Memory of the size that threads share must be reserved at once, which not every device grants.
      if (index + 1 === list.length) throw error;
    }
    if (running) return;
  }
}

/** Makes the instance of this thread; `threads` counts this one. */
function instantiate({ build, glue, module, threads, startThread }) {
  glue.initSync({ module });
  running = { build, glue, module, threads, startThread };
  startPool();
}

function startPool() {
  const { build, module, threads, startThread } = running;
  lost = undefined;
  pool = threads > 1 ? startThreads(threads - 1, { build, module, memory: exportsOf(running).memory }, startThread, (reason) => (lost = reason)) : NO_THREADS;
}

/** Without an argument it gives the exports of the instance that is there, a replaced one too. */
const exportsOf = ({ glue }) => glue.initSync();

/** Whether an exception means that the instance can no longer be trusted. */
function isTrap(error) {
  // A RangeError thrown while wasm runs is a stack that overflowed, or memory that could not be taken.
  return error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
}

/** Calls into wasm. Errors of the table come out as InferenceUpstreamError; a trap replaces the instance. */
export function call(since, work) {
  if (since !== current) throw restarted("another request broke it");
  if (lost !== undefined) throw replaced(lost);
  try {
    return work();
  } catch (error) {
    if (isTrap(error)) throw replaced(error.message);
    if (error?.internalCode) throw new InferenceUpstreamError(error.message, error);
    throw error;
  }
}

/** Puts a fresh instance, with a memory of its own, in the place of this one. Gives the error to throw. */
function replaced(reason) {
  current += 1;
  pool.stop();
  pool = NO_THREADS;
  try {
    running.glue.__wbg_reset_state();
    startPool();
  } catch (error) {
    // No room for another memory yet: the next call tries again.
    lost = error.message;
  }
  return restarted(reason);
}

function restarted(reason) {
  return aiError(3040, 429, `The engine ran out of memory or failed (${reason}) and was restarted. Try again; if it happens again, use a smaller model or a shorter prompt.`);
}

/**
 * Bytes of the instance's memory. It grows and never shrinks, so this is also the most that was needed, since the
 * instance was last replaced.
 */
export function memoryBytes() {
  return exportsOf(running).memory.buffer.byteLength;
}

/** Gives a wasm object's memory back, unless it belongs to an instance that is gone, or is to go. */
export function release(handle, since) {
  if (handle && since === current && lost === undefined && handle.__wbg_ptr) handle.free();
}

/**
 * Runs an operation to its end. Aborting ends it at the next step; what it computed so far is not lost.
 *
 * @template T
 * @param {() => import("./wasm/simd128/workers_ai_local.js").Task} begin
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
  driven += 1;
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
    driven -= 1;
    abort.end();
    running.delete(task);
    release(task, since);
  }
}

/** Operations that are being driven. */
let driven = 0;

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
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  return isWorkerd() ? fewer(turn) : turn;
})();

/** Milliseconds that one operation may compute before it gives way, and steps, of which the next may be longer than those before. */
const [LONGEST, MOST_STEPS] = [40, 8];

/**
 * In workerd only a timer lets others in, and takes more than a millisecond, with which a token would be a tenth slower. So an operation
 * that is alone gives way only so often. Clocks stand still there until it does: what a step takes is known from the last time.
 */
function fewer(turn) {
  let [steps, done, last] = [1, 0, 0];
  return () => {
    done += 1;
    if (done < steps && driven === 1) return undefined;
    return turn().then(() => {
      const now = Date.now();
      steps = Math.min(Math.floor((LONGEST * done) / Math.max(now - last, 1)), MOST_STEPS);
      [done, last] = [0, now];
    });
  };
}

function isWorkerd() {
  return globalThis.navigator?.userAgent === "Cloudflare-Workers";
}
