// Worker threads of the builds for several. They share the memory of the thread that starts them, wait there for work, and
// never come back to their event loop: so they are ended from outside.

/** Bytes of each worker thread's stack, for what is not in the engine's own; a multiple of WebAssembly's page. */
const STACK = 256 * 1024;

/** No worker threads, of the builds that have none. */
export const NO_THREADS = { size: 0, stop() {} };

/**
 * Starts worker threads. The instance does not wait for them: one that comes late, or never, is one that does not help.
 *
 * @param {number} count
 * @param {Shared} shared
 * @param {StartThread} startThread how this runtime starts one
 * @param {(reason: string) => void} onLost told of a thread that ended after it had begun to compute: what it left
 *   behind in the shared memory is not known
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
    const ended = (reason) => {
      if (!joined || stopped) return;
      joined = false;
      size -= 1;
      onLost(reason);
    };
    try {
      return startThread(shared, { ready, ended });
    } catch {
      // A page's policy may forbid workers.
      return () => {};
    }
  };
  const stops = Array.from({ length: count }, start);
  return {
    /** How many there are by now. */
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
 * The life of a worker thread. Does not return.
 *
 * @param {Shared} shared
 * @param {object} glue wasm-bindgen's, of the build that is shared
 * @param {() => void} ready
 */
export function workAsThread({ module, memory }, glue, ready) {
  glue.initSync({ module, memory, thread_stack_size: STACK });
  ready();
  glue.workThread();
}

/** @typedef {{build: string, module: WebAssembly.Module, memory: WebAssembly.Memory}} Shared what a thread gets */

/**
 * @callback StartThread
 * @param {Shared} shared
 * @param {{ready: () => void, ended: (reason: string) => void}} events
 * @returns {() => void} ends the thread
 */
