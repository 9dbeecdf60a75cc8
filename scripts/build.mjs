// `npm run build`: src/ → pkg/wasm/, by cargo, wasm-bindgen and wasm-opt. Six builds, for one thread and for several: with SIMD, with relaxed
// SIMD, and with 64-bit memory; and a module of its own for embeddings; and the playground's libraries. `npm run build -- --only simd128` makes one of them.

import { copyFile, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { DOT_PRODUCT } from "../pkg/dot-products.js";
import { changedCrate } from "./lib/changed-crates.mjs";
import { withNarrowTables } from "./lib/narrow-tables.mjs";
import { inProject } from "./lib/project.mjs";
import { run, which } from "./lib/process.mjs";
import { UserError, main, say, withProgress } from "./lib/report.mjs";
import { hashFiles, isStamped, stamp, unstamp } from "./lib/stamp.mjs";
import { withCargoTarget } from "./lib/user-cache.mjs";
import { withoutExports } from "./lib/wasm-format.mjs";
import { FEATURES, bind, cargoEnvironment, optimise } from "./lib/wasm.mjs";
import { ensurePackages } from "./setup/packages.mjs";
import { STD_SOURCES_HELP, WASM64_TARGET, WASM_TARGET, ensureToolchain, ensureToolchainWithStd } from "./setup/toolchain.mjs";
import { ensureWasmBindgen } from "./setup/wasm-bindgen.mjs";
import { vendor } from "./vendor.mjs";

/** The crate of a build and its profile, unless the build says otherwise. */
const CRATE = { package: "workers-ai-local", profile: "wasm" };
/** The name of a crate's module. */
const moduleName = (crate) => crate.replaceAll("-", "_");
const OUTPUT = inProject("pkg", "wasm");
/**
 * Lists of the builds that exist, in a form that bundlers can follow, for the package's entries. workerd imports modules and has no threads.
 * Browsers import the glue statically: service workers allow nothing else, and Vite by default bundles a worker into one file.
 */
const INDEX = "builds.js";
const WORKERD_INDEX = "workerd-builds.js";
const SINGLE_INDEX = "single-builds.js";
const THREAD_INDEX = "thread-builds.js";
const WIDE_INDEX = "wide-builds.js";
/** The same for embeddings, which nothing imports before they are asked for. */
const EMBEDDINGS_INDEX = "embeddings.js";
const WORKERD_EMBEDDINGS_INDEX = "workerd-embeddings.js";
/** `DOT_PRODUCT` as a file, because workerd cannot compile bytes. */
const DOT_PRODUCT_FILE = "dot-product.wasm";
/** Everything that the output depends on. */
const INPUTS = [
  ...["src", "kernels", "clock", "embeddings", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"],
  ...["scripts/build.mjs", "scripts/lib/wasm.mjs", "scripts/lib/changed-crates.mjs", "scripts/lib/narrow-tables.mjs", "scripts/lib/wasm-format.mjs", "scripts/bindgen", "node_modules/binaryen/package.json"],
];

const ATOMICS = ["atomics", "threads"];
/** What the target implies. */
const MEMORY64 = ["memory64", "memory64"];
/** Only the functions that need relaxed SIMD are compiled for it (feature `relaxed-simd`), so both builds share their dependencies. */
const RELAXED_SIMD = ["relaxed-simd", "relaxed-simd"];
/** Imported shared memory of up to so many bytes, and the exports that wasm-bindgen needs for threads. */
const sharedMemory = (bytes) => [
  ...["--shared-memory", "--import-memory", `--max-memory=${bytes}`],
  ...["__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base", "__heap_base"].map((symbol) => `--export=${symbol}`),
];
const GIB = 2 ** 30;

/**
 * Features that every crate is compiled with, the linker's arguments, and cargo's folder. The standard library is compiled with them too:
 * that makes it smaller, and shared memory requires it.
 */
const ONE_THREAD = { features: FEATURES, link: [], target: "wasm", shared: false };
const THREADS = { features: [...FEATURES, ATOMICS], link: sharedMemory(4 * GIB), target: "wasm-threads", shared: true };
/** 64-bit memory, of which engines give up to 16 GiB. */
const WIDE = { wide: true };

const BUILDS = {
  simd128: ONE_THREAD,
  relaxed: { ...ONE_THREAD, relaxed: true },
  threads: THREADS,
  "relaxed-threads": { ...THREADS, relaxed: true },
  wasm64: { ...ONE_THREAD, ...WIDE, link: [`--max-memory=${16 * GIB}`], target: "wasm64" },
  "wasm64-threads": { ...THREADS, ...WIDE, link: sharedMemory(16 * GIB), target: "wasm64-threads" },
  // Another crate: the engine that generates text has nothing of it.
  embeddings: { ...ONE_THREAD, package: "workers-ai-local-embeddings", profile: "wasm-embeddings", link: [] },
};

/** The builds of the engine, from which one is chosen. */
const isEngine = ({ package: crate = CRATE.package }) => crate === CRATE.package;

/**
 * cargo's arguments for 64-bit memory: without a GPU, because wgpu takes this target for a native one, and with SIMD for the kernels alone, because
 * candle's own SIMD code asks for 32-bit memory.
 */
const WIDE_ARGS = [
  "--no-default-features",
  ...["-Z", "profile-rustflags", "--config", `profile.${CRATE.profile}.package.workers-ai-local-kernels.rustflags=["-Ctarget-feature=+simd128"]`],
];

/** What the names of llguidance's functions for C begin with. They would be exported, with all that only they use. */
const FOREIGN_EXPORTS = "llg_";

/** The classes by which wgpu recognises an error of WebGPU. */
const ERROR_CLASSES = ["GPUOutOfMemoryError", "GPUValidationError"];

/**
 * The passes of wasm-opt. They only tidy up after LLVM and wasm-bindgen: the levels -O1 to -Oz take minutes, make no token faster, and
 * their output is shorter but larger once compressed.
 */
const OPTIMISATION = [
  ...["strip-debug", "dce", "vacuum", "remove-unused-brs", "remove-unused-names", "optimize-instructions", "precompute", "vacuum"],
  ...["duplicate-function-elimination", "remove-unused-module-elements", "reorder-functions"],
].map((pass) => `--${pass}`);

/** All builds of the engine that the package ships. */
export const ALL_BUILDS = Object.keys(BUILDS).filter((name) => isEngine(BUILDS[name]));
/** All that the package ships. */
const EVERYTHING = Object.keys(BUILDS);

/** Makes those of `only` that are missing in pkg/wasm/ or older than the sources. Builds that are older and not made now are left out of the index. */
export async function build(only = EVERYTHING) {
  await ensurePackages();
  await vendor();
  await mkdir(OUTPUT, { recursive: true });
  // Hashed before the work, so that a change made meanwhile is built next time.
  const inputs = await hashFiles(...INPUTS);
  for (const name of only) {
    if (!(await upToDate(name, inputs))) await make(name, inputs);
  }
  const current = [];
  for (const name of EVERYTHING) if (await upToDate(name, inputs)) current.push(name);
  await writeIndex(current);
}

const nameOf = (build) => moduleName({ ...CRATE, ...BUILDS[build] }.package);
const outputs = (name) => ["_bg.wasm", ".js", ".d.ts"].map((ending) => path.join(OUTPUT, name, `${nameOf(name)}${ending}`));
const stampOf = (name) => inProject(".cache", `build-${name}.stamp`);

async function isPresent(name) {
  const present = await Promise.all(outputs(name).map((file) => stat(file).catch(() => null)));
  return present.every(Boolean);
}

const upToDate = async (name, inputs) => (await isPresent(name)) && isStamped(stampOf(name), inputs);

async function make(name, inputs) {
  const { features, relaxed, shared, wide } = BUILDS[name];
  const toolchain = (await ensureToolchainWithStd()) ?? (shared || wide ? null : await ensureToolchain());
  const folder = path.join(OUTPUT, name);
  await unstamp(stampOf(name));
  if (!toolchain) {
    await rm(folder, { recursive: true, force: true });
    const without = wide ? "holds models of up to 4 GiB" : "computes in one thread";
    return say(`The build "${name}" is left out, and the package ${without}: it needs the sources of Rust's standard library. ${STD_SOURCES_HELP}`);
  }
  // The second compiles for this machine, with any cargo. Together they leave no core idle: the crate itself is one codegen unit.
  const [compiled, wasmBindgen] = await Promise.all([
    compile(name, toolchain),
    ensureWasmBindgen({ nativeCargo: which("cargo") ?? toolchain.cargo }),
  ]);
  await bind(wasmBindgen, compiled, folder, nameOf(name));
  const glue = path.join(folder, `${nameOf(name)}.js`);
  if (!wide && isEngine(BUILDS[name])) await importErrorClasses(glue);
  if (wide && shared) await importWideMemory(glue);
  const [wasm] = outputs(name);
  await writeFile(wasm, withoutExports(await readFile(wasm), (exported) => exported.startsWith(FOREIGN_EXPORTS)));
  const used = [...features, ...(relaxed ? [RELAXED_SIMD] : []), ...(wide ? [MEMORY64] : [])];
  await withProgress("Optimising with wasm-opt", () => optimise(wasm, OPTIMISATION, used, toolchain));
  if (wide) await narrowTables(wasm);
  await stamp(stampOf(name), inputs);
  await reportSize(wasm);
}

async function narrowTables(wasm) {
  const module = withNarrowTables(await readFile(wasm));
  // Node 20 knows no 64-bit memory at all.
  if (!WebAssembly.validate(module) && Number(process.versions.node.split(".")[0]) >= 22) throw new UserError(`${wasm} is not valid: see scripts/lib/narrow-tables.mjs`);
  await writeFile(wasm, module);
}

/** Imports the classes of WebGPU's errors from the package (`pkg/gpu.js`): Node's WebGPU does not define them as globals. */
async function importErrorClasses(glue) {
  const text = await readFile(glue, "utf8");
  const missing = ERROR_CLASSES.find((name) => !text.includes(`instanceof ${name}`));
  if (missing) throw new UserError(`wasm-bindgen's output for wgpu no longer compares anything with ${missing}: see ERROR_CLASSES in scripts/build.mjs and pkg/gpu.js`);
  await writeFile(glue, `import { ${ERROR_CLASSES.join(", ")} } from "../../gpu.js";\n${text}`);
}

/** Lets the package (`pkg/wide-memory.js`) make the shared memory with 64-bit addresses: Node 22 has another form of that. */
async function importWideMemory(glue) {
  const text = await readFile(glue, "utf8");
  const made = /new WebAssembly\.Memory\(\{initial:(\d+)n,maximum:(\d+)n,address:'i64',shared:true\}\)/;
  if (!made.test(text)) throw new UserError("wasm-bindgen's output makes 64-bit memory in another way than before: see scripts/build.mjs and pkg/wide-memory.js");
  await writeFile(glue, `import { wideMemory } from "../../wide-memory.js";\n${text.replace(made, "wideMemory($1, $2)")}`);
}

/** Compiles the crate; resolves to the path of the module. */
async function compile(name, { cargo, env, args, unwinds }) {
  const { package: crate, profile: ofProfile, features, link, target, relaxed, wide } = { ...CRATE, ...BUILDS[name] };
  const triple = wide ? WASM64_TARGET : WASM_TARGET;
  if (wide) args = [...args, ...WIDE_ARGS];
  if (unwinds && isEngine(BUILDS[name])) args = [...args, ...(await changedCrate(wide ? "wasm-bindgen" : "wgpu", { cargo, env }))];
  if (relaxed) args = [...args, "--features", "relaxed-simd"];
  const profile = ["--target", triple, "--profile", ofProfile];
  const compiled = inProject("target", `${name}.wasm`);
  say(`Compiling the crate for WebAssembly, "${name}" (some minutes the first time) …`);
  await withCargoTarget(target, { cargo, env, clean: profile }, async (folder) => {
    const ofAllCrates = wide ? features.filter(([feature]) => feature !== "simd128") : features;
    const settings = { env: { ...env, ...cargoEnvironment(ofAllCrates, folder, { unwinds, link, entropy: wide ? "custom" : "wasm_js" }) } };
    // The module's file name has no hash: without this, cargo could take the module of another build for a fresh one of this build.
    await run(cargo, ["clean", "--package", crate, ...profile], { ...settings, onLine: () => {} });
    await run(cargo, ["rustc", "--package", crate, "--lib", "--crate-type", "cdylib", ...profile, ...args], settings);
    await mkdir(path.dirname(compiled), { recursive: true });
    await copyFile(path.join(folder, triple, ofProfile, `${nameOf(name)}.wasm`), compiled);
  });
  return compiled;
}

async function writeIndex(current) {
  const module = (name) => `./${name}/${nameOf(name)}_bg.wasm`;
  const glue = (name) => `./${name}/${nameOf(name)}.js`;
  const imported = (name) => `() => import("${glue(name)}")`;
  const url = (name) => `new URL("${module(name)}", import.meta.url)`;
  const index = (names, glue, wasm, imports = "") => {
    const entries = names.map((name) => `  "${name}": { glue: ${glue(name)}, wasm: ${wasm(name)} },\n`);
    return `// Written by \`npm run build\`: the builds that exist.\n\n${imports}export const builds = {\n${entries.join("")}};\n`;
  };
  const staticIndex = (names) => {
    const imports = names.map((name, number) => `import * as glue${number} from "${glue(name)}";\n`);
    return index(names, (name) => `async () => glue${names.indexOf(name)}`, url, imports.length > 0 ? `${imports.join("")}\n` : "");
  };
  const those = (wanted) => current.filter((name) => isEngine(BUILDS[name]) && wanted(BUILDS[name]));
  const embeddings = current.filter((name) => !isEngine(BUILDS[name]));
  const inWorkerd = those(({ shared }) => !shared);
  const files = {
    [INDEX]: index(those(() => true), imported, url),
    [WORKERD_INDEX]: index(inWorkerd, imported, (name) => `() => import("${module(name)}")`),
    [EMBEDDINGS_INDEX]: staticIndex(embeddings),
    [WORKERD_EMBEDDINGS_INDEX]: index(embeddings, imported, (name) => `() => import("${module(name)}")`),
    [SINGLE_INDEX]: staticIndex(those(({ shared, wide }) => !shared && !wide)),
    [THREAD_INDEX]: staticIndex(those(({ shared, wide }) => shared && !wide)),
    [WIDE_INDEX]: staticIndex(those(({ wide }) => wide)),
    [DOT_PRODUCT_FILE]: DOT_PRODUCT,
  };
  // The whole folder ships, so files of earlier versions are removed.
  const others = (await readdir(OUTPUT)).filter((entry) => !(entry in BUILDS) && !(entry in files));
  for (const entry of others) await rm(path.join(OUTPUT, entry), { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(OUTPUT, name);
    const before = await readFile(file).catch(() => null);
    if (!before?.equals(Buffer.from(content))) await writeFile(file, content);
  }
}

async function reportSize(wasm) {
  const bytes = await readFile(wasm);
  const megabytes = (length) => `${(length / 1e6).toFixed(2)} MB`;
  say(`${path.relative(inProject(), wasm)}: ${megabytes(bytes.length)}, ${megabytes(gzipSync(bytes).length)} gzipped`);
}

/** The builds that the command line names. */
function chosen(args) {
  let only;
  try {
    ({ only } = parseArgs({ args, options: { only: { type: "string" } } }).values);
  } catch (error) {
    throw new UserError(error.message.split("\n")[0]);
  }
  const names = only?.split(",");
  const unknown = names?.find((name) => !(name in BUILDS));
  if (unknown !== undefined) throw new UserError(`--only knows no "${unknown}": choose from ${Object.keys(BUILDS).join(", ")}`);
  return names;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(async () => {
    await build(chosen(process.argv.slice(2)));
    say("pkg/ is ready.");
  });
}
