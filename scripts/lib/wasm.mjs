// Rust → WebAssembly: the flags, wasm-bindgen and wasm-opt, for every crate of this project.

import { mkdir, rename, rm } from "node:fs/promises";
import { npmBin, withNode22 } from "./project.mjs";
import { run } from "./process.mjs";

/** Features of WebAssembly that every output may use: rustc's name and wasm-opt's flag. */
export const FEATURES = [
  ["simd128", "simd"],
  ["bulk-memory", "bulk-memory"],
  ["nontrapping-fptoint", "nontrapping-float-to-int"],
  ["sign-ext", "sign-ext"],
  ["mutable-globals", "mutable-globals"],
];
/** Features that rustc and wasm-bindgen use by default; wasm-opt must allow them. */
export const IMPLIED_FEATURES = [
  ["reference-types", "reference-types"],
  ["multivalue", "multivalue"],
];

/** The features of a build, with those of exceptions if it unwinds. */
const used = (features, unwinds) => (unwinds ? [...features, ["exception-handling", "exception-handling"]] : features);

/** The environment in which cargo compiles for these features, into a folder. `entropy`: where getrandom has its random bytes from. */
export const cargoEnvironment = (features, folder, { unwinds = false, link = [], entropy = "wasm_js" } = {}) => ({
  CARGO_TARGET_DIR: folder,
  CARGO_PROFILE_WASM_PANIC: unwinds ? "unwind" : "abort",
  CARGO_PROFILE_WASM_EMBEDDINGS_PANIC: unwinds ? "unwind" : "abort",
  // The "encoded" form, because one flag has quotes in it.
  CARGO_ENCODED_RUSTFLAGS: [
    `-Ctarget-feature=${used(features, unwinds).map(([rustc]) => `+${rustc}`).join(",")}`,
    // The older form of exceptions, which every engine has.
    ...(unwinds ? ["-Cpanic=unwind", "-Cllvm-args=-wasm-use-legacy-eh=true"] : []),
    ...["--cfg", `getrandom_backend="${entropy}"`],
    ...link.map((argument) => `-Clink-arg=${argument}`),
  ].join("\x1f"),
});

/** Writes wasm-bindgen's output for a compiled module, `name`.js and `name`_bg.wasm, into a folder that is emptied first. */
export async function bind(wasmBindgen, compiled, folder, name, args = []) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await run(wasmBindgen, [compiled, folder, name, ...args]);
}

/** Runs wasm-opt's passes over a module that uses these features and the implied ones, and replaces the file. */
export async function optimise(wasm, passes, features, { unwinds = false } = {}) {
  const flags = [...used(features, unwinds), ...IMPLIED_FEATURES].map(([, flag]) => `--enable-${flag}`);
  const optimised = `${wasm}.opt`;
  await run(npmBin("wasm-opt"), [...passes, ...flags, wasm, "-o", optimised], { env: withNode22(), onLine: () => {} });
  await rename(optimised, wasm);
}
