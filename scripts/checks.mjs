// The checks of `npm test` that run no program of ours: format, lints, licences, types, and that the map of the files is complete.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { inProject, npmBin, withNode22 } from "./lib/project.mjs";
import { CommandFailed, run } from "./lib/process.mjs";
import { UserError, say } from "./lib/report.mjs";
import { withCargoTarget } from "./lib/user-cache.mjs";
import { ensureCargoDeny } from "./setup/cargo-deny.mjs";
import { WASM_TARGET, pathToolchainHasWasm, requireCargo } from "./setup/toolchain.mjs";

/** ARCHITECTURE.md has a line for each source file in these folders, except where one line speaks for a whole folder. */
const MAPPED = ["src", "kernels/src", "embeddings/src", "pkg", "www", "scripts"];
const MAPPED_AS_FOLDERS = ["src/backend/webgpu/shaders", "scripts/bench", "pkg/wasm", "www/vendor"];
const SOURCES = /\.(rs|js|mjs)$/;

/** TypeScript projects: the package's types as a program sees them, its JavaScript, the examples, and others' types of answers. */
const TYPE_PROJECTS = ["tests/types", "examples", "pkg", "pkg/tsconfig.workerd.json", "www", "tests/node/published-types"];

export async function checkFormat() {
  await run(requireCargo(), ["fmt", "--all", "--check"]);
  const map = await readFile(inProject("ARCHITECTURE.md"), "utf8");
  const missing = [];
  for (const folder of MAPPED) {
    for (const entry of await readdir(inProject(folder), { recursive: true })) {
      const file = path.posix.join(folder, ...entry.split(path.sep));
      const byFolder = MAPPED_AS_FOLDERS.some((place) => file.startsWith(`${place}/`));
      if (SOURCES.test(file) && !byFolder && !map.includes(`\`${file}\``)) missing.push(file);
    }
  }
  if (missing.length > 0) throw new UserError(`ARCHITECTURE.md has no line for ${missing.join(", ")}`);
}

/** Clippy with the lints of Cargo.toml. `src/js/` exists in WebAssembly only, so the crate is checked for both targets. */
export async function checkLints() {
  const lints = ["--locked", "--quiet", "--", "--deny", "warnings"];
  await withCargoTarget("native", { cargo: requireCargo() }, (folder) =>
    run(requireCargo(), ["clippy", "--workspace", "--all-targets", ...lints], { env: { CARGO_TARGET_DIR: folder } }),
  );
  if (!(await pathToolchainHasWasm())) {
    return say(`Not checked for WebAssembly: clippy's own compiler has no standard library for it. Add it with \`rustup target add ${WASM_TARGET}\`.`);
  }
  await withCargoTarget("lints-wasm", { cargo: requireCargo(), clean: ["--target", WASM_TARGET] }, (folder) =>
    run(requireCargo(), ["clippy", "--package", "workers-ai-local", "--package", "workers-ai-local-kernels", "--package", "workers-ai-local-embeddings", "--lib", "--target", WASM_TARGET, ...lints], {
      env: { CARGO_TARGET_DIR: folder, RUSTFLAGS: '--cfg getrandom_backend="wasm_js" -Ctarget-feature=+simd128' },
    }),
  );
}

export async function checkLicences() {
  const cargoDeny = await ensureCargoDeny({ cargo: requireCargo() });
  await run(cargoDeny, ["--all-features", "--locked", "check", "licenses", "bans", "sources"]);
}

export async function checkTypes() {
  for (const project of TYPE_PROJECTS) await run(npmBin("tsc"), ["-p", project], { env: withNode22() });
  await checkImports();
}

/** Scripts and tests have no types, but what they import from each other must exist: some of them run seldom. */
async function checkImports() {
  const files = [];
  for (const folder of ["scripts", "tests"]) {
    for (const entry of await readdir(inProject(folder), { recursive: true })) if (entry.endsWith(".mjs")) files.push(path.join(folder, entry));
  }
  // No such export, or no such file.
  const missing = /^\S+\.mjs\(.*error TS(2305|2459|2614|2724|2307: .*'\.\.?\/)/;
  const options = ["--noEmit", "--allowJs", "--checkJs", "--strict", "false", "--noImplicitAny", "false", "--module", "nodenext", "--target", "esnext", "--lib", "esnext,dom,dom.iterable", "--skipLibCheck"];
  const found = [];
  const onLine = (line) => missing.test(line) && found.push(line);
  await run(npmBin("tsc"), [...options, ...files], { env: withNode22(), onLine }).catch((error) => {
    // It fails because of types, which are not checked here.
    if (!(error instanceof CommandFailed) || !error.lines.some((line) => /error TS\d+/.test(line))) throw error;
  });
  if (found.length > 0) throw new UserError(`what is imported does not exist:\n${found.join("\n")}`);
}
