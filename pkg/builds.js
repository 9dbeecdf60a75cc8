// The wasm builds and the backends: validates the configuration, and selects the builds that run here, in the order in which they are
// tried.

import { DOT_PRODUCT, multipliesSignedBytes } from "./dot-products.js";
import { AiInternalError } from "./errors.js";

/**
 * @import { AiConfig, Build } from "./index.d.ts"
 * @import { CoreMemory, Host } from "./internal.d.ts"
 * @typedef {Omit<Host<unknown>, "compile" | "startThread">} Capabilities what decides which builds run in a runtime
 */

/**
 * The builds: for one thread, or multithreaded in shared memory; with WebAssembly SIMD, which every engine runs, or with relaxed SIMD,
 * which is used where it is faster; with 32-bit memory, or with 64-bit memory (`wide`). All of them generate the same text.
 *
 * @type {Record<Build, {multithreaded: boolean, relaxed: boolean, wide: boolean}>}
 */
const BUILDS = {
  simd128: { multithreaded: false, relaxed: false, wide: false },
  relaxed: { multithreaded: false, relaxed: true, wide: false },
  threads: { multithreaded: true, relaxed: false, wide: false },
  "relaxed-threads": { multithreaded: true, relaxed: true, wide: false },
  wasm64: { multithreaded: false, relaxed: false, wide: true },
  "wasm64-threads": { multithreaded: true, relaxed: false, wide: true },
};
/**
 * Builds in order of preference, the best one first.
 *
 * @type {Build[]}
 */
const PREFERENCE = ["relaxed-threads", "threads", "relaxed", "simd128", "wasm64-threads", "wasm64"];
const GIB = 2 ** 30;
/** What WebAssembly's memory can hold, in bytes: 32 bits, and what engines give with 64 bits. */
const [NARROW_BYTES, WIDE_BYTES] = [4 * GIB, 16 * GIB];
/** No machine benefits from more threads, and a mistyped number must not use up its memory. */
const MAX_THREADS = 64;
const BACKENDS = ["auto", "webgpu", "cpu"];

/**
 * Validates the settings that do not depend on the host. Called when an `Ai` is created.
 *
 * @param {AiConfig} config
 * @throws {AiInternalError} if `build`, `threads` or `backend` is invalid, or `build` and `threads` contradict each other
 */
export function checkBuild({ build = "auto", threads = 1, backend = "auto" }) {
  if (!BACKENDS.includes(backend)) throw new AiInternalError(`backend must be "auto", "webgpu" or "cpu", not ${JSON.stringify(backend)}.`);
  if (build !== "auto" && !Object.hasOwn(BUILDS, build)) {
    const names = ["auto", ...Object.keys(BUILDS)].map((name) => JSON.stringify(name));
    throw new AiInternalError(`build must be ${names.slice(0, -1).join(", ")} or ${names.at(-1)}, not ${JSON.stringify(build)}.`);
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS) {
    throw new AiInternalError(`threads must be an integer from 1 to ${MAX_THREADS}, not ${JSON.stringify(threads)}.`);
  }
  if (threads > 1 && build !== "auto" && !BUILDS[build].multithreaded) {
    const multithreaded = { simd128: "threads", relaxed: "relaxed-threads", wasm64: "wasm64-threads" }[String(build)];
    throw new AiInternalError(`The build "${build}" computes in one thread. Leave out threads: ${threads}, or set build: "${multithreaded}".`);
  }
}

/**
 * Whether a configuration asks for 64-bit memory whatever the model needs.
 *
 * @param {AiConfig} config
 */
export const wantsWide = ({ build = "auto" }) => build !== "auto" && Object.hasOwn(BUILDS, build) && BUILDS[build].wide;

/**
 * The memory that the crate's instance of a build can have, and what a model does that needs more: it goes elsewhere, to a build with 64-bit
 * memory, or it is refused, with this advice.
 *
 * @param {Build} build
 * @param {AiConfig} config
 * @param {Capabilities} host
 * @returns {CoreMemory}
 */
export function memoryOf(build, { build: wanted = "auto" }, { widens, widerRuntime, memoryBytes = Infinity }) {
  const has = { bytes: Math.min(BUILDS[build].wide ? WIDE_BYTES : NARROW_BYTES, memoryBytes), elsewhere: false };
  // No build has more than this machine.
  if (BUILDS[build].wide || memoryBytes < NARROW_BYTES) return { ...has, advice: "" };
  if (!hasMemory64()) return { ...has, advice: `Use ${widerRuntime}, which has 64-bit memory.` };
  if (!widens) return { ...has, advice: "No build with 64-bit memory is at hand here." };
  if (wanted !== "auto") return { ...has, advice: `Leave out build: "${wanted}", so that 64-bit memory can be used.` };
  return { ...has, elsewhere: true, advice: "" };
}

/**
 * Returns the builds to try, the best one first. The first one that starts is used.
 *
 * @param {AiConfig} config
 * @param {Capabilities} host
 * @param {boolean} wide whether the instance has 64-bit memory
 * @returns {{build: Build, threads: number}[]} never empty
 * @throws {AiInternalError} if the requested build, or every build, cannot run here
 */
export function candidates({ build = "auto", threads }, host, wide) {
  const count = threads ?? defaultThreads(host.cores);
  /** @param {Build} name */
  const withThreads = (name) => ({ build: name, threads: BUILDS[name].multithreaded ? count : 1 });
  if (build !== "auto") {
    const reason = reasonUnavailable(build, host);
    if (reason) throw new AiInternalError(`The build "${build}" cannot run here: ${reason}.`);
    return [withThreads(build)];
  }
  const fastRelaxed = hasRelaxedSimd() && multipliesSignedBytes(host.dotProduct ?? compiledDotProduct());
  /** @param {{multithreaded: boolean, relaxed: boolean}} build */
  const worthwhile = ({ multithreaded, relaxed }) => (!multithreaded || count > 1) && (!relaxed || fastRelaxed);
  const usable = PREFERENCE.filter((name) => BUILDS[name].wide === wide && !reasonUnavailable(name, host) && worthwhile(BUILDS[name]));
  if (usable.length === 0) {
    const missing = wide ? "64-bit memory" : "WebAssembly SIMD";
    throw new AiInternalError(`No build of this package can run here: this engine has no ${missing}, or the package is incomplete.`);
  }
  return usable.map(withThreads);
}

/**
 * Of more than four cores, half: the rest are often hyperthreads or slow cores.
 *
 * @param {number} cores
 */
function defaultThreads(cores) {
  return cores <= 4 ? cores : Math.min(8, Math.ceil(cores / 2));
}

/**
 * The reason why a build cannot run here; `undefined` if it can.
 *
 * @param {Build} build
 * @param {Capabilities} host
 */
function reasonUnavailable(build, { builds, mayShare }) {
  if (BUILDS[build].multithreaded && !(mayShare && hasSharedMemory())) return "memory cannot be shared between threads (a page must be cross-origin isolated)";
  if (!builds[build]) return "it was not built";
  if (!hasSimd()) return "this engine has no WebAssembly SIMD";
  if (BUILDS[build].wide && !hasMemory64()) return "this engine has no 64-bit memory";
  if (BUILDS[build].relaxed && !hasRelaxedSimd()) return "this engine has no relaxed SIMD";
  return undefined;
}

/** A module with one function, (v128, v128) -> v128, whose body is a single SIMD instruction. */
// prettier-ignore
const SIMD = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // "\0asm", version 1
  0x01, 0x07, 0x01, 0x60, 0x02, 0x7b, 0x7b, 0x01, 0x7b, // types: (v128, v128) -> v128
  0x03, 0x02, 0x01, 0x00, // functions: one of that type
  0x0a, 0x0b, 0x01, 0x09, 0x00, // code: one body of 9 bytes, no locals
  0x20, 0x00, 0x20, 0x01, 0xfd, 0xba, 0x01, 0x0b, // local.get 0, local.get 1, i32x4.dot_i16x8_s, end
]);

/** workerd cannot compile modules, so in its types the class is abstract. There, the host has a compiled module. */
function compiledDotProduct() {
  const { Module } = /** @type {{Module: new (bytes: Uint8Array) => WebAssembly.Module}} */ (/** @type {unknown} */ (WebAssembly));
  return new Module(DOT_PRODUCT);
}

/** A module with one memory, whose addresses have 64 bits. */
const MEMORY64 = new Uint8Array([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x05, 0x03, 0x01, 0x04, 0x01]);

const hasMemory64 = () => WebAssembly.validate(MEMORY64);

const hasSimd = () => WebAssembly.validate(SIMD);

const hasRelaxedSimd = () => WebAssembly.validate(DOT_PRODUCT);

function hasSharedMemory() {
  try {
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}
