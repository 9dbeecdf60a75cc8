// The builds of the crate and its backends: what a configuration may ask for, which of them run here, and in which order they are tried.

import { DOT_PRODUCT, multipliesSignedBytes } from "./dot-products.js";
import { AiInternalError } from "./errors.js";

/**
 * For one thread or, in shared memory, for several; with what every engine runs or, to be taken where it is faster, with relaxed SIMD.
 * All give the same text.
 */
const BUILDS = {
  simd128: { several: false, relaxed: false },
  relaxed: { several: false, relaxed: true },
  threads: { several: true, relaxed: false },
  "relaxed-threads": { several: true, relaxed: true },
};
/** The best ones first. */
const PREFERENCE = ["relaxed-threads", "threads", "relaxed", "simd128"];
/** No machine has a use for more, and a mistyped number must not fill its memory. */
const MOST_THREADS = 64;
const BACKENDS = ["auto", "webgpu", "cpu"];

/** Refuses settings that have no meaning anywhere, when an `Ai` is made. */
export function checkBuild({ build = "auto", threads = 1, backend = "auto" }) {
  if (!BACKENDS.includes(backend)) throw new AiInternalError(`backend is "auto", "webgpu" or "cpu", not ${JSON.stringify(backend)}.`);
  if (build !== "auto" && !Object.hasOwn(BUILDS, build)) {
    const names = ["auto", ...Object.keys(BUILDS)].map((name) => JSON.stringify(name));
    throw new AiInternalError(`build is ${names.slice(0, -1).join(", ")} or ${names.at(-1)}, not ${JSON.stringify(build)}.`);
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS) {
    throw new AiInternalError(`threads is an integer from 1 to ${MOST_THREADS}, not ${JSON.stringify(threads)}.`);
  }
  if (threads > 1 && build !== "auto" && !BUILDS[build].several) {
    throw new AiInternalError(`The build "${build}" computes in one thread: leave threads: ${threads} out, or ask for the build "${build === "relaxed" ? "relaxed-threads" : "threads"}".`);
  }
}

/**
 * The builds to try, the best one first: the first that starts computes.
 *
 * @param {import("./index.d.ts").AiConfig} config
 * @param {object} host
 * @param {Record<string, object>} host.builds those that are there, by name
 * @param {number} host.cores
 * @param {boolean} host.mayShare whether memory can be shared with worker threads
 * @param {WebAssembly.Module} [host.dotProduct] the module `DOT_PRODUCT`, where none can be compiled
 * @returns {{build: string, threads: number}[]} never empty
 */
export function candidates({ build = "auto", threads }, host) {
  const count = threads ?? defaultThreads(host.cores);
  const withThreads = (name) => ({ build: name, threads: BUILDS[name].several ? count : 1 });
  if (build !== "auto") {
    const reason = hindrance(build, host);
    if (reason) throw new AiInternalError(`The build "${build}" cannot run here: ${reason}.`);
    return [withThreads(build)];
  }
  const worthwhile = ({ several, relaxed }) => (!several || count > 1) && (!relaxed || multipliesSignedBytes(host.dotProduct ?? new WebAssembly.Module(DOT_PRODUCT)));
  const usable = PREFERENCE.filter((name) => !hindrance(name, host) && worthwhile(BUILDS[name]));
  if (usable.length === 0) throw new AiInternalError("No build of this package can run here: this engine has no WebAssembly SIMD, or the package is not complete.");
  return usable.map(withThreads);
}

/** Of many cores, half: the others are often no cores of their own, or slow ones. */
function defaultThreads(cores) {
  return cores <= 4 ? cores : Math.min(8, Math.ceil(cores / 2));
}

/** Why a build cannot run here; `undefined` where it can. */
function hindrance(build, { builds, mayShare }) {
  if (BUILDS[build].several && !(mayShare && hasSharedMemory())) return "no memory can be shared with other threads (a page must be cross-origin isolated)";
  if (!builds[build]) return "it was not built";
  if (!hasSimd()) return "this engine has no WebAssembly SIMD";
  if (BUILDS[build].relaxed && !WebAssembly.validate(DOT_PRODUCT)) return "this engine has no relaxed SIMD";
  return undefined;
}

/** A module with one function, of two vectors to one, that is a single instruction. */
// prettier-ignore
const SIMD = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // "\0asm", version 1
  0x01, 0x07, 0x01, 0x60, 0x02, 0x7b, 0x7b, 0x01, 0x7b, // types: (v128, v128) -> v128
  0x03, 0x02, 0x01, 0x00, // functions: one of that type
  0x0a, 0x0b, 0x01, 0x09, 0x00, // code: one body of 9 bytes, no locals
  0x20, 0x00, 0x20, 0x01, 0xfd, 0xba, 0x01, 0x0b, // local.get 0, local.get 1, i32x4.dot_i16x8_s, end
]);

const hasSimd = () => WebAssembly.validate(SIMD);

function hasSharedMemory() {
  try {
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}
