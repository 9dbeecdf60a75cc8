// The peer that our arithmetic comes from: candle's stock quantised Llama, compiled as the package is, with plain SIMD.
// Built here, because nobody publishes it.

import { mkdir, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { inProject, npmBin, withNode22 } from "../../lib/project.mjs";
import { run, which } from "../../lib/process.mjs";
import { withProgress } from "../../lib/report.mjs";
import { hashFiles, isStamped, stamp, unstamp } from "../../lib/stamp.mjs";
import { WASM_TARGET, ensureToolchain } from "../../setup/toolchain.mjs";
import { ensureWasmBindgen } from "../../setup/wasm-bindgen.mjs";

const CRATE = "scripts/bench/stock-candle";
const TARGET_FOLDER = inProject("target", "bench-stock");
/** What the page loads. */
const OUTPUT = path.join(TARGET_FOLDER, "web");
const WASM = path.join(OUTPUT, "stock_candle_bg.wasm");
const STAMP = inProject(".cache", "bench-stock.stamp");
const INPUTS = [`${CRATE}/src`, `${CRATE}/Cargo.toml`, `${CRATE}/Cargo.lock`, "scripts/bench/compare/stock-candle.mjs"];

const FEATURES = [
  ["simd128", "simd"],
  ["bulk-memory", "bulk-memory"],
  ["nontrapping-fptoint", "nontrapping-float-to-int"],
  ["sign-ext", "sign-ext"],
  ["mutable-globals", "mutable-globals"],
  ["reference-types", "reference-types"],
  ["multivalue", "multivalue"],
];

export const contenders = [
  {
    id: "stock-candle",
    name: "stock candle 0.11.1, 1 thread",
    prepare,
    page: { module: "stock-candle.js", options: {}, folders: { "/peers/stock-candle/": OUTPUT } },
  },
];

async function prepare() {
  if ((await stat(WASM).catch(() => null)) && (await isStamped(STAMP, await hashFiles(...INPUTS)))) return;
  const toolchain = await ensureToolchain();
  const wasmBindgen = await ensureWasmBindgen({ nativeCargo: which("cargo") ?? toolchain.cargo });
  await unstamp(STAMP);
  await withProgress("Compiling the stock candle for the comparison (some minutes, once)", async (note) => {
    await compile(toolchain, note);
    await bind(wasmBindgen);
    note("wasm-opt");
    await optimise();
  });
  await stamp(STAMP, await hashFiles(...INPUTS));
}

function compile({ cargo, env, args }, note) {
  const flags = [`-Ctarget-feature=${FEATURES.map(([rustc]) => `+${rustc}`).join(",")}`, "--cfg", 'getrandom_backend="wasm_js"'];
  return run(cargo, ["build", "--locked", "--lib", "--release", "--target", WASM_TARGET, ...args], {
    cwd: inProject(CRATE),
    env: { ...env, CARGO_TARGET_DIR: TARGET_FOLDER, CARGO_ENCODED_RUSTFLAGS: flags.join("\x1f") },
    onLine: (line) => note(line.trim().slice(0, 60)),
  });
}

async function bind(wasmBindgen) {
  const compiled = path.join(TARGET_FOLDER, WASM_TARGET, "release", "stock_candle.wasm");
  await rm(OUTPUT, { recursive: true, force: true });
  await mkdir(OUTPUT, { recursive: true });
  await run(wasmBindgen, [compiled, "--target", "web", "--out-dir", OUTPUT, "--no-typescript"]);
}

async function optimise() {
  const optimised = `${WASM}.opt`;
  const flags = FEATURES.map(([, wasmOpt]) => `--enable-${wasmOpt}`);
  await run(npmBin("wasm-opt"), ["-O3", ...flags, WASM, "-o", optimised], { env: withNode22(), onLine: () => {} });
  await rename(optimised, WASM);
}
