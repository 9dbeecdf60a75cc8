// Worker threads of the multithreaded builds. They share the memory of the thread that starts them, wait for work inside wasm, and never
// return to their event loop. So they can only be terminated from outside.

/** @import { Builds, Shared, StartThread } from "./internal.d.ts" */

/**
 * Size in bytes of each worker thread's shadow stack, for values that are not on the engine's own stack; a multiple of WebAssembly's page
 * size.
 */
const STACK = 256 * 1024;

/**
 * The pool of a build without worker threads.
 *
 * @type {Pool}
 */
export const NO_THREADS = { size: 0, stop() {} };

/**
 * Starts worker threads. The instance does not wait for them: until a thread is ready, the others compute without it.
 *
 * @param {number} count number of worker threads, without the calling one
 * @param {Shared} shared
 * @param {StartThread} startThread
 * @param {(reason: string) => void} onLost called when a thread ends after it became ready. The state of the shared memory is then
 *   unknown
 * @returns {Pool}
 */
export function startThreads(count, shared, startThread, onLost) {
  let size = 0;
  let stopped = false;
  const start = () => {
    let joined = false;
    const ready = () => {
      joined = true;
      size += 1;
    };
    /** @param {string} reason */
    const ended = (reason) => {
      if (!joined || stopped) return;
      joined = false;
      size -= 1;
      onLost(reason);
    };
    try {
      return startThread(shared, { ready, ended });
    } catch {
      // A page's Content Security Policy may forbid workers.
      return () => {};
    }
  };
  const stops = Array.from({ length: count }, start);
  return {
    get size() {
      return size;
    },
    stop() {
      stopped = true;
      for (const stop of stops) stop();
    },
  };
}

/**
 * Runs a worker thread. Does not return.
 *
 * @param {Shared} shared
 * @param {Builds<unknown>} builds
 * @param {() => void} ready called before the thread waits for work
 */
export async function workAsThread({ build, module, memory }, builds, ready) {
  const glue = await builds[build]?.glue();
  if (!glue?.workThread) throw new Error(`The build "${build}" has no worker threads.`);
  glue.initSync({ module, memory, thread_stack_size: STACK });
  ready();
  glue.workThread();
}

/** @typedef {{readonly size: number, stop(): void}} Pool `size` is the number of threads that are ready */
