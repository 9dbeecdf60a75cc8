// The WebAssembly instances of this thread, and the loop that drives their operations.
//
// All work happens inside `poll()`, which this loop calls. A panic (a bug) is an error of the request that caused it. A trap (out of memory,
// the stack's end) is an exception in a request. The broken instance is then replaced by a new one, which the next request uses. The
// request that caused the trap fails; the others are computed again on the new instance (replay.js).

import { candidates } from "./builds.js";
import { abortError, aiError, AiInternalError, InferenceUpstreamError } from "./errors.js";
import { NO_THREADS, startThreads } from "./threads.js";

/**
 * @import { AiConfig, Build } from "./index.d.ts"
 * @import { BuildFiles, Glue, Host, StartThread, Task, WasmObject } from "./internal.d.ts"
 * @typedef {{build: Build, glue: Glue, module: WebAssembly.Module, threads: number, startThread?: StartThread}} Started
 */

/** An instance of a build, which all `Ai`s of a thread share. */
class Instance {
  /** Whether its memory has 64 bits. */
  #isWide;
  /**
   * The started build; before `start`, nothing else is called.
   *
   * @type {Started}
   */
  // @ts-expect-error: see above
  #running;
  /** The instance's worker threads. */
  #pool = NO_THREADS;
  /**
   * The reason why the instance must be replaced before its next use; `undefined` if it is intact.
   *
   * @type {string | undefined}
   */
  #lostReason;
  /** The number of the current instance. Handles of an earlier instance must not be used. */
  #current = 0;
  /**
   * Promise of the number of threads that the first `Ai` of this thread asked for, when it started the build.
   *
   * @type {Promise<number | undefined> | undefined}
   */
  #first;

  /** @param {boolean} isWide */
  constructor(isWide) {
    this.#isWide = isWide;
  }

  /** The number of the current instance; it changes when the instance is replaced. */
  epoch() {
    return this.#current;
  }

  /** The functions and classes that wasm-bindgen generated for the started build. */
  glue() {
    return this.#running.glue;
  }

  /** The started build, its current number of threads, including this one, and the size of its memory in bytes, which never shrinks. */
  facts() {
    const { build } = this.#running;
    return { build, threads: 1 + this.#pool.size, memoryBytes: exportsOf(this.#running).memory.buffer.byteLength };
  }

  /**
   * Starts the requested build, or the best one that runs here. The first `Ai` of a thread selects the build, and later ones that request
   * another are rejected.
   *
   * @template Wasm
   * @param {AiConfig} config
   * @param {Host<Wasm>} host
   * @throws {AiInternalError} if no build can run here, or the requested build or threads differ from those of the first `Ai`
   */
  async start(config, host) {
    const { build = "auto", threads } = config;
    this.#first ??= this.#startFirst(candidates(config, host, this.#isWide), host).then(
      () => threads,
      (error) => {
        this.#first = undefined;
        throw error;
      },
    );
    const firstThreads = await this.#first;
    const running = this.#running;
    /** @param {string} setting */
    const refuse = (setting) => {
      throw new AiInternalError(`${setting} is not possible: another Ai in this thread has already started the build "${running.build}" (threads: ${running.threads}), and all Ais in a thread share it.`);
    };
    if (build !== "auto" && build !== running.build) refuse(`build: "${build}"`);
    // The same request as the first one is accepted, even if fewer threads were available.
    if (threads !== undefined && threads !== firstThreads && threads !== running.threads) refuse(`threads: ${threads}`);
  }

  /**
   * Starts the first build of the list that compiles and can be instantiated.
   *
   * @template Wasm
   * @param {ReturnType<typeof candidates>} list
   * @param {Host<Wasm>} host
   */
  async #startFirst(list, { builds, compile, startThread }) {
    for (const [index, { build, threads }] of list.entries()) {
      // `candidates` names only builds that exist.
      const { glue, wasm } = /** @type {BuildFiles<Wasm>} */ (builds[build]);
      const [loaded, module] = await Promise.all([glue(), compile(wasm)]).catch((error) => {
        // The engine lacks an instruction: try the next build. Any other error, such as a failed download, may not recur at the next try.
        if (error instanceof WebAssembly.CompileError && index + 1 < list.length) return [];
        throw error;
      });
      try {
        if (module) this.#instantiate({ build, threads, glue: loaded, module, startThread });
      } catch (error) {
        // Shared memory must be reserved at its maximum size, which some devices refuse: try the next build.
        if (index + 1 === list.length) throw error;
      }
      if (this.#running) return;
    }
  }

  /**
   * Creates the instance. `threads` includes this thread.
   *
   * @param {Started} started
   */
  #instantiate(started) {
    started.glue.initSync({ module: started.module });
    this.#running = started;
    this.#startPool();
  }

  #startPool() {
    const { build, module, threads, startThread } = this.#running;
    this.#lostReason = undefined;
    const shared = { build, module, memory: exportsOf(this.#running).memory };
    const lost = (/** @type {string} */ reason) => (this.#lostReason = reason);
    this.#pool = threads > 1 && startThread ? startThreads(threads - 1, shared, startThread, lost) : NO_THREADS;
  }

  /**
   * Calls into wasm. Errors of the crate are thrown as InferenceUpstreamError. A trap replaces the instance: it is thrown as error 5004 if
   * this request caused it, otherwise as an error for which `isRestart` is true.
   *
   * @template T
   * @param {number} since the `epoch()` of the instance that `work` uses; if that has been replaced, `isRestart` is true for the error
   * @param {() => T} work synchronous
   * @param {number} [ticket] the number of the request that calls
   * @returns {T}
   */
  call(since, work, ticket = 0) {
    const guilty = guiltyTickets.get(ticket);
    if (guilty !== undefined) throw broken(guilty);
    if (since !== this.#current) throw restarted("another request broke it");
    if (this.#lostReason !== undefined) {
      const reason = this.#lostReason;
      this.#replace();
      throw restarted(reason);
    }
    try {
      return work();
    } catch (error) {
      if (isTrap(error)) throw this.#afterTrap(error.message, ticket);
      if (error?.internalCode) throw new InferenceUpstreamError(error.message, error);
      // wasm-bindgen's error for a panic; those inside `poll` are errors of the crate.
      if (error?.name === "PanicError") throw aiError(5004, 400, `This call failed because of a bug in workers-ai-local (${error.message}). Please report it.`);
      throw error;
    }
  }

  /**
   * Replaces the instance after a trap. Returns the error of the request in whose turn it happened.
   *
   * @param {string} reason
   * @param {number} ticket
   */
  #afterTrap(reason, ticket) {
    // From the exports themselves: wasm-bindgen's function refuses to be called after a trap.
    const blamed = exportsOf(this.#running).blamedTicket() >>> 0;
    this.#replace();
    if (blamed === 0 || blamed === ticket) return broken(reason);
    guiltyTickets.set(blamed, reason);
    return restarted("another request broke it");
  }

  /** Replaces the instance by a new one with new memory. */
  #replace() {
    this.#current += 1;
    this.#pool.stop();
    this.#pool = NO_THREADS;
    try {
      this.#running.glue.__wbg_reset_state();
      this.#startPool();
    } catch (error) {
      // There is not enough memory for a new instance yet. The next call tries again.
      this.#lostReason = error.message;
    }
  }

  /**
   * Frees a wasm object, unless its instance (`since`) has been replaced or must be replaced.
   *
   * @param {WasmObject} handle
   * @param {number} since
   */
  release(handle, since) {
    if (handle && since === this.#current && this.#lostReason === undefined && handle.__wbg_ptr) handle.free();
  }

  /**
   * Runs an operation to its end. Aborting ends it at the next step; the model keeps what was computed so far.
   *
   * @template T
   * @param {() => Task<T>} begin starts the operation
   * @param {AbortSignal} [signal]
   * @param {number} [since] the `epoch()` of the instance that `begin` uses
   * @param {Set<WasmObject>} [running] contains the task while it runs. Removing the task from the set aborts the operation; the remover
   *   frees it
   * @param {number} [ticket] the number of the request that the operation belongs to
   * @returns {Promise<T>} the operation's result
   * @throws {DOMException} `AbortError` if the signal fires
   * @throws {InferenceUpstreamError} if the operation fails
   */
  async drive(begin, signal, since = this.#current, running = new Set(), ticket = 0) {
    if (signal?.aborted) throw abortError(signal);
    const task = this.call(since, begin, ticket);
    const abort = abortWatch(signal);
    running.add(task);
    driven += 1;
    try {
      let failed = false;
      /** @type {unknown} */
      let value;
      for (;;) {
        const wanted = this.call(since, () => task.poll(failed, value), ticket);
        if (wanted === undefined) return this.call(since, () => task.take(), ticket);
        try {
          value = await (wanted === null ? yieldToEventLoop() : abort.race(wanted));
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
      this.release(task, since);
    }
  }
}

/** The instance with 32-bit memory. */
export const narrow = new Instance(false);
/** The instance with 64-bit memory, for what the other one cannot hold. */
export const wide = new Instance(true);

/** @typedef {Instance} WasmInstance */

/**
 * The exports of the current instance: once there is one, `initSync` only returns them, also after a replacement.
 *
 * @param {Started} started
 */
const exportsOf = ({ glue, module }) => glue.initSync({ module });

/**
 * Whether an exception means that the instance can no longer be trusted.
 *
 * @param {unknown} error
 */
function isTrap(error) {
  // A RangeError from running wasm is a stack overflow or a failed allocation.
  return error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
}

/**
 * The reason why an instance broke, by the ticket of the request that broke it while another request's turn computed for both.
 *
 * @type {Map<number, string>}
 */
const guiltyTickets = new Map();

/** The number of a new request. */
export const newTicket = () => (tickets = (tickets % 0xffff_ffff) + 1);
let tickets = 0;

/** @param {number} ticket of a request that has ended */
export const forgetTicket = (ticket) => void guiltyTickets.delete(ticket);

/** @param {string} reason */
function broken(reason) {
  return aiError(5004, 400, `This request broke the engine (${reason}), which was restarted; other requests go on. If memory ran out, use a smaller model or a shorter prompt. Otherwise it is a bug: please report it.`);
}

/** Errors of calls whose instance was lost through no fault of theirs. */
const restarts = new WeakSet();

/** @param {string} reason */
function restarted(reason) {
  const error = aiError(3040, 429, `The engine was restarted (${reason}). Try again.`);
  restarts.add(error);
  return error;
}

/**
 * Whether a call failed because its instance was lost, so that it may succeed on the new one.
 *
 * @param {unknown} error
 */
export const isRestart = (error) => typeof error === "object" && error !== null && restarts.has(error);

/** Number of operations that are running in `drive`. */
let driven = 0;

/**
 * `race(promise)` rejects when the signal fires; `end()` removes the signal's listener.
 *
 * @param {AbortSignal} [signal]
 * @returns {{race(promise: Promise<unknown>): Promise<unknown>, end(): void}}
 */
function abortWatch(signal) {
  if (!signal) return { race: (promise) => promise, end() {} };
  let fire = () => {};
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

/**
 * Yields to timers, messages and other requests, by a task of the event loop (a microtask would not let them run).
 *
 * @type {() => Promise<void> | undefined}
 */
export const yieldToEventLoop = (() => {
  // Only in Node: elsewhere, `setImmediate` may be a bundler's shim over a timer, which is slow.
  if (typeof setImmediate === "function" && globalThis.process?.versions?.node && !isWorkerd()) return () => new Promise((resolve) => setImmediate(resolve));
  // Browsers throttle nested timers to 4 ms, but not messages. workerd does not allow a port to outlive a request.
  if (typeof MessageChannel === "function" && !isWorkerd()) {
    /** @type {(() => void)[]} */
    const waiting = [];
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => waiting.shift()?.();
    return () => new Promise((resolve) => void (waiting.push(resolve), port2.postMessage(null)));
  }
  /** @type {() => Promise<void>} */
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  return isWorkerd() ? yieldLessOften(turn) : turn;
})();

/**
 * Limits for an operation before it yields: milliseconds, and number of steps (a limit on its own, because the next step may take longer
 * than the ones before).
 */
const [MAX_BUSY_MS, MAX_STEPS] = [40, 8];

/**
 * workerd runs other requests only at a timer, which costs more than 1 ms (10 % of a token). So a lone operation yields only every
 * `steps` steps. workerd's clock advances only at a yield, so the duration of a step is taken from the last interval.
 *
 * @param {() => Promise<void>} turn
 */
function yieldLessOften(turn) {
  let [steps, done, last] = [1, 0, 0];
  return () => {
    done += 1;
    if (done < steps && driven === 1) return undefined;
    return turn().then(() => {
      const now = Date.now();
      steps = Math.min(Math.floor((MAX_BUSY_MS * done) / Math.max(now - last, 1)), MAX_STEPS);
      [done, last] = [0, now];
    });
  };
}

function isWorkerd() {
  return typeof navigator === "object" && navigator.userAgent === "Cloudflare-Workers";
}
