// The wasm builds and the backends: validates the configuration, and selects the builds that run here, in the order in which they are
// tried.

import { DOT_PRODUCT, multipliesSignedBytes } from "./dot-products.js";
import { AiInternalError } from "./errors.js";

/**
 * @import { AiConfig, Build } from "./index.d.ts"
 * @import { Host } from "./internal.d.ts"
 * @typedef {Omit<Host<unknown>, "compile" | "startThread">} Capabilities what decides which builds run in a runtime
 */

/**
 * The builds: for one thread, or multithreaded in shared memory; with WebAssembly SIMD, which every engine runs, or with relaxed SIMD,
 * which is used where it is faster. All of them generate the same text.
 *
 * @type {Record<Build, {multithreaded: boolean, relaxed: boolean}>}
 */
const BUILDS = {
  simd128: { multithreaded: false, relaxed: false },
  relaxed: { multithreaded: false, relaxed: true },
  threads: { multithreaded: true, relaxed: false },
  "relaxed-threads": { multithreaded: true, relaxed: true },
};
/**
 * Builds in order of preference, the best one first.
 *
 * @type {Build[]}
 */
const PREFERENCE = ["relaxed-threads", "threads", "relaxed", "simd128"];
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
    throw new AiInternalError(`The build "${build}" computes in one thread. Leave out threads: ${threads}, or set build: "${build === "relaxed" ? "relaxed-threads" : "threads"}".`);
  }
}

/**
 * Returns the builds to try, the best one first. The first one that starts is used.
 *
 * @param {AiConfig} config
 * @param {Capabilities} host
 * @returns {{build: Build, threads: number}[]} never empty
 * @throws {AiInternalError} if the requested build, or every build, cannot run here
 */
export function candidates({ build = "auto", threads }, host) {
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
  const usable = PREFERENCE.filter((name) => !reasonUnavailable(name, host) && worthwhile(BUILDS[name]));
  if (usable.length === 0) throw new AiInternalError("No build of this package can run here: this engine has no WebAssembly SIMD, or the package is incomplete.");
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
