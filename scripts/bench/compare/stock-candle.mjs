// The contender from which our arithmetic is derived: candle's stock quantised Llama, compiled like the package with `simd128`. It is
// built here, because no published build exists.

import { stat } from "node:fs/promises";
import path from "node:path";
import { inProject } from "../../lib/project.mjs";
import { run, which } from "../../lib/process.mjs";
import { withProgress } from "../../lib/report.mjs";
import { hashFiles, isStamped, stamp, unstamp } from "../../lib/stamp.mjs";
import { FEATURES, IMPLIED_FEATURES, bind, cargoEnvironment, optimise } from "../../lib/wasm.mjs";
import { WASM_TARGET, ensureToolchain } from "../../setup/toolchain.mjs";
import { ensureWasmBindgen } from "../../setup/wasm-bindgen.mjs";

const CRATE = "scripts/bench/stock-candle";
const TARGET_FOLDER = inProject("target", "bench-stock");
/** The folder that is served to the page. */
const OUTPUT = path.join(TARGET_FOLDER, "web");
const WASM = path.join(OUTPUT, "stock_candle_bg.wasm");
const STAMP = inProject(".cache", "bench-stock.stamp");
const INPUTS = [`${CRATE}/src`, `${CRATE}/Cargo.toml`, `${CRATE}/Cargo.lock`, "scripts/bench/compare/stock-candle.mjs", "scripts/lib/wasm.mjs"];

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
  await withProgress("Compiling stock candle for the comparison (some minutes, once)", async (note) => {
    await compile(toolchain, note);
    await bind(wasmBindgen, path.join(TARGET_FOLDER, WASM_TARGET, "release", "stock_candle.wasm"), OUTPUT, "stock_candle", ["--no-typescript"]);
    note("wasm-opt");
    await optimise(WASM, ["-O3"], FEATURES);
  });
  await stamp(STAMP, await hashFiles(...INPUTS));
}

function compile({ cargo, env, args }, note) {
  return run(cargo, ["build", "--locked", "--lib", "--release", "--target", WASM_TARGET, ...args], {
    cwd: inProject(CRATE),
    env: { ...env, ...cargoEnvironment([...FEATURES, ...IMPLIED_FEATURES], TARGET_FOLDER) },
    onLine: (line) => note(line.trim().slice(0, 60)),
  });
}
