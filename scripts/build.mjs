// `npm run build`: src/ → pkg/wasm/, by cargo, wasm-bindgen and wasm-opt.

import { mkdir, readFile, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { inProject, npmBin, withNode22 } from "./lib/project.mjs";
import { run, which } from "./lib/process.mjs";
import { main, say, withProgress } from "./lib/report.mjs";
import { hashFiles, isStamped, stamp, unstamp } from "./lib/stamp.mjs";
import { ensurePackages } from "./setup/packages.mjs";
import { WASM_TARGET, ensureToolchain } from "./setup/toolchain.mjs";
import { ensureWasmBindgen } from "./setup/wasm-bindgen.mjs";

const NAME = "workers_ai_local";
const PROFILE = "wasm";
const OUTPUT = inProject("pkg", "wasm");
const WASM = path.join(OUTPUT, `${NAME}_bg.wasm`);
const OUTPUTS = [WASM, path.join(OUTPUT, `${NAME}.js`), path.join(OUTPUT, `${NAME}.d.ts`)];
const TARGET_FOLDER = inProject("target", "wasm");
const STAMP = inProject(".cache", "build.stamp");
/** Everything that the output depends on. */
const INPUTS = ["src", "Cargo.toml", "Cargo.lock", "build.rs", ".cargo", "scripts/build.mjs", "package-lock.json"];

/** Features of WebAssembly that the output may use: rustc's name and wasm-opt's flag. */
const FEATURES = [
  ["simd128", "simd"],
  ["bulk-memory", "bulk-memory"],
  ["nontrapping-fptoint", "nontrapping-float-to-int"],
  ["sign-ext", "sign-ext"],
  ["mutable-globals", "mutable-globals"],
];
/** Features that rustc and wasm-bindgen use unasked, so that wasm-opt must know them. */
const IMPLIED_FEATURES = ["reference-types", "multivalue"];

const RUSTFLAGS = [
  `-Ctarget-feature=${FEATURES.map(([rustc]) => `+${rustc}`).join(",")}`,
  "--cfg",
  'getrandom_backend="wasm_js"',
];

/** Makes pkg/wasm/ where it is not what the sources give. */
export async function build() {
  await ensurePackages();
  if (await upToDate()) return;

  const toolchain = await ensureToolchain();
  // The CLI is a native program: any cargo does, and the wasm one is there where no other is.
  const wasmBindgen = await ensureWasmBindgen({ nativeCargo: which("cargo") ?? toolchain.cargo });

  await unstamp(STAMP);
  // Hashed before the work, so that a change made meanwhile is built next time.
  const inputs = await hashFiles(...INPUTS);
  await compile(toolchain);
  await bind(wasmBindgen);
  await optimise();
  await stamp(STAMP, inputs);
  await reportSize();
}

async function upToDate() {
  const present = await Promise.all(OUTPUTS.map((file) => stat(file).catch(() => null)));
  return present.every(Boolean) && isStamped(STAMP, await hashFiles(...INPUTS));
}

async function compile({ cargo, env, args }) {
  say("Compiling the crate for WebAssembly (some minutes the first time) …");
  await run(cargo, ["build", "--lib", "--target", WASM_TARGET, "--profile", PROFILE, ...args], {
    env: {
      ...env,
      CARGO_TARGET_DIR: TARGET_FOLDER,
      // The "encoded" form, because one flag has quotes in it.
      CARGO_ENCODED_RUSTFLAGS: RUSTFLAGS.join("\x1f"),
    },
  });
}

async function bind(wasmBindgen) {
  const compiled = path.join(TARGET_FOLDER, WASM_TARGET, PROFILE, `${NAME}.wasm`);
  await rm(OUTPUT, { recursive: true, force: true });
  await mkdir(OUTPUT, { recursive: true });
  await run(wasmBindgen, [
    compiled,
    ...["--target", "web", "--out-dir", OUTPUT, "--out-name", NAME],
    "--experimental-reset-state-function",
    "--remove-producers-section",
  ]);
}

async function optimise() {
  const flags = [...FEATURES.map(([, flag]) => flag), ...IMPLIED_FEATURES].map((flag) => `--enable-${flag}`);
  const optimised = `${WASM}.opt`;
  await withProgress("Optimising with wasm-opt", () =>
    run(npmBin("wasm-opt"), ["-O3", ...flags, WASM, "-o", optimised], { env: withNode22(), onLine: () => {} }),
  );
  await rename(optimised, WASM);
}

async function reportSize() {
  const bytes = await readFile(WASM);
  const megabytes = (length) => `${(length / 1e6).toFixed(2)} MB`;
  say(`pkg/wasm/${path.basename(WASM)}: ${megabytes(bytes.length)}, ${megabytes(gzipSync(bytes).length)} gzipped`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(async () => {
    await build();
    say("pkg/ is ready.");
  });
}
