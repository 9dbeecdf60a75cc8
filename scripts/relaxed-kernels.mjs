// The crate `kernels` alone, compiled with relaxed SIMD, as a module that compares itself with its reference implementation. The builds with
// relaxed SIMD differ from the others in nothing else, so `npm test` runs this instead of compiling them.

import path from "node:path";
import { inProject } from "./lib/project.mjs";
import { run, which } from "./lib/process.mjs";
import { hashFiles, isStamped, stamp, unstamp } from "./lib/stamp.mjs";
import { withCargoTarget } from "./lib/user-cache.mjs";
import { FEATURES, bind, cargoEnvironment } from "./lib/wasm.mjs";
import { WASM_TARGET, ensureToolchain, ensureToolchainWithStd } from "./setup/toolchain.mjs";
import { ensureWasmBindgen } from "./setup/wasm-bindgen.mjs";

const PACKAGE = "workers-ai-local-kernels";
const NAME = "workers_ai_local_kernels";
const PROFILE = "wasm";
const STAMP = inProject(".cache", "relaxed-kernels.stamp");
const INPUTS = ["kernels", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "scripts/lib/wasm.mjs", "scripts/relaxed-kernels.mjs"];

/** Resolves to the folder of the module. */
export async function buildRelaxedKernels() {
  const output = inProject("target", "relaxed-kernels");
  const inputs = await hashFiles(...INPUTS);
  if (await isStamped(STAMP, inputs)) return output;
  const { cargo, env, args, unwinds } = (await ensureToolchainWithStd()) ?? (await ensureToolchain());
  const wasmBindgen = await ensureWasmBindgen({ nativeCargo: which("cargo") ?? cargo });
  await unstamp(STAMP);
  const profile = ["--target", WASM_TARGET, "--profile", PROFILE];
  await withCargoTarget("wasm", { cargo, env, clean: profile }, async (folder) => {
    const features = ["--features", "relaxed-simd,export-comparison"];
    await run(cargo, ["rustc", "--locked", "--package", PACKAGE, "--lib", "--crate-type", "cdylib", ...features, ...profile, ...args], {
      env: { ...env, ...cargoEnvironment(FEATURES, folder, { unwinds }) },
    });
    await bind(wasmBindgen, path.join(folder, WASM_TARGET, PROFILE, `${NAME}.wasm`), output, NAME, ["--no-typescript"]);
  });
  await stamp(STAMP, inputs);
  return output;
}
