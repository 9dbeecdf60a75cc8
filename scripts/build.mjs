// `npm run build`: src/ → pkg/wasm/, by cargo, wasm-bindgen and wasm-opt: for engines with relaxed SIMD and without, for one thread and for several.
// `npm run build -- --only simd128` makes one of them.

import { mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { DOT_PRODUCT } from "../pkg/dot-products.js";
import { inProject } from "./lib/project.mjs";
import { run, which } from "./lib/process.mjs";
import { UserError, main, say, withProgress } from "./lib/report.mjs";
import { hashFiles, isStamped, stamp, unstamp } from "./lib/stamp.mjs";
import { FEATURES, bind, cargoEnvironment, optimise } from "./lib/wasm.mjs";
import { ensurePackages } from "./setup/packages.mjs";
import { STD_SOURCES_HELP, WASM_TARGET, ensureToolchain, ensureToolchainWithStd } from "./setup/toolchain.mjs";
import { ensureWasmBindgen } from "./setup/wasm-bindgen.mjs";

const NAME = "workers_ai_local";
const PROFILE = "wasm";
const OUTPUT = inProject("pkg", "wasm");
/** What the package's entries read: the builds that are there, in a form that bundlers can follow. workerd takes modules, and has no threads. */
const INDEX = "builds.js";
const WORKERD_INDEX = "workerd-builds.js";
/** `DOT_PRODUCT` as a file, because workerd compiles no bytes. */
const DOT_PRODUCT_FILE = "dot-product.wasm";
/** Everything that the output depends on. */
const INPUTS = ["src", "kernels", "Cargo.toml", "Cargo.lock", "build.rs", ".cargo", "scripts/build.mjs", "scripts/lib/wasm.mjs", "node_modules/binaryen/package.json"];

const ATOMICS = ["atomics", "threads"];
/** Only the functions that need it are compiled for it (the crates' feature `relaxed-simd`), so that all else is compiled once for both. */
const RELAXED_SIMD = ["relaxed-simd", "relaxed-simd"];
/** Memory that comes from outside and is shared, up to all that 32 bits can address; and what wasm-bindgen needs for threads. */
const SHARED_MEMORY = [
  ...["--shared-memory", "--import-memory", "--max-memory=4294967296"],
  ...["__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base", "__heap_base"].map((symbol) => `--export=${symbol}`),
];

/**
 * Features that everything is compiled with, what the linker is told, and cargo's folder. The standard library is compiled with them
 * too, which makes it smaller, and for some must be (`std`).
 */
const ONE_THREAD = { features: FEATURES, link: [], target: "wasm", std: false };
const THREADS = { features: [...FEATURES, ATOMICS], link: SHARED_MEMORY, target: "wasm-threads", std: true };

const BUILDS = {
  simd128: ONE_THREAD,
  relaxed: { ...ONE_THREAD, relaxed: true },
  threads: THREADS,
  "relaxed-threads": { ...THREADS, relaxed: true },
};

/** What wgpu asks an error of WebGPU whether it is one. */
const ERROR_CLASSES = ["GPUOutOfMemoryError", "GPUValidationError"];

/**
 * wasm-opt's work. It only tidies up after LLVM and wasm-bindgen: its own levels take minutes, make no token faster, and what
 * they give is shorter but does not compress as well.
 */
const OPTIMISATION = [
  ...["strip-debug", "dce", "vacuum", "remove-unused-brs", "remove-unused-names", "optimize-instructions", "precompute", "vacuum"],
  ...["duplicate-function-elimination", "remove-unused-module-elements", "reorder-functions"],
].map((pass) => `--${pass}`);

/** Makes what in pkg/wasm/ is not what the sources give. */
export async function build(only = Object.keys(BUILDS)) {
  await ensurePackages();
  await mkdir(OUTPUT, { recursive: true });
  // Hashed before the work, so that a change made meanwhile is built next time.
  const inputs = await hashFiles(...INPUTS);
  for (const name of only) {
    if (!(await upToDate(name, inputs))) await make(name, inputs);
  }
  await writeIndex();
}

/** The builds that pkg/ has, of all that there can be. */
export async function presentBuilds() {
  const present = [];
  for (const name of Object.keys(BUILDS)) if (await isPresent(name)) present.push(name);
  return present;
}

const outputs = (name) => ["_bg.wasm", ".js", ".d.ts"].map((ending) => path.join(OUTPUT, name, `${NAME}${ending}`));
const stampOf = (name) => inProject(".cache", `build-${name}.stamp`);

async function isPresent(name) {
  const present = await Promise.all(outputs(name).map((file) => stat(file).catch(() => null)));
  return present.every(Boolean);
}

const upToDate = async (name, inputs) => (await isPresent(name)) && isStamped(stampOf(name), inputs);

async function make(name, inputs) {
  const { std } = BUILDS[name];
  const toolchain = (await ensureToolchainWithStd()) ?? (std ? null : await ensureToolchain());
  const folder = path.join(OUTPUT, name);
  await unstamp(stampOf(name));
  if (!toolchain) {
    // One that was made before would not be what the sources give.
    await rm(folder, { recursive: true, force: true });
    return say(`The build "${name}" is left out, and the package computes in one thread: there are no sources of Rust's standard library to compile for it. ${STD_SOURCES_HELP}`);
  }
  // The CLI is a native program: any cargo does, and the wasm one is there where no other is.
  const wasmBindgen = await ensureWasmBindgen({ nativeCargo: which("cargo") ?? toolchain.cargo });
  const compiled = await compile(name, toolchain);
  await bind(wasmBindgen, compiled, folder, ["--out-name", NAME, "--experimental-reset-state-function", "--remove-producers-section"]);
  await importErrorClasses(path.join(folder, `${NAME}.js`));
  const [wasm] = outputs(name);
  const { features, relaxed } = BUILDS[name];
  await withProgress("Optimising with wasm-opt", () => optimise(wasm, OPTIMISATION, relaxed ? [...features, RELAXED_SIMD] : features));
  await stamp(stampOf(name), inputs);
  await reportSize(wasm);
}

/** WebGPU's errors are known by classes of the package (`pkg/gpu.js`), because Node's WebGPU puts none among the globals. */
async function importErrorClasses(glue) {
  const text = await readFile(glue, "utf8");
  const missing = ERROR_CLASSES.find((name) => !text.includes(`instanceof ${name}`));
  if (missing) throw new UserError(`wasm-bindgen's output for wgpu compares nothing with ${missing} any more: look at ERROR_CLASSES in scripts/build.mjs and at pkg/gpu.js`);
  await writeFile(glue, `import { ${ERROR_CLASSES.join(", ")} } from "../../gpu.js";\n${text}`);
}

/** Gives the compiled module. */
async function compile(name, { cargo, env, args }) {
  const { features, link, target, relaxed } = BUILDS[name];
  if (relaxed) args = [...args, "--features", "relaxed-simd"];
  const folder = inProject("target", target);
  say(`Compiling the crate for WebAssembly, "${name}" (some minutes the first time) …`);
  await run(cargo, ["rustc", "--package", "workers-ai-local", "--lib", "--crate-type", "cdylib", "--target", WASM_TARGET, "--profile", PROFILE, ...args], {
    env: { ...env, ...cargoEnvironment(features, folder, link) },
  });
  return path.join(folder, WASM_TARGET, PROFILE, `${NAME}.wasm`);
}

async function writeIndex() {
  const present = await presentBuilds();
  const module = (name) => `./${name}/${NAME}_bg.wasm`;
  const glue = (name) => `glue: () => import("./${name}/${NAME}.js")`;
  const index = (names, wasm) => {
    const entries = names.map((name) => `  "${name}": { ${glue(name)}, wasm: ${wasm(name)} },\n`);
    return `// Written by \`npm run build\`: the builds that are here.\n\nexport const builds = {\n${entries.join("")}};\n`;
  };
  const files = {
    [INDEX]: index(present, (name) => `new URL("${module(name)}", import.meta.url)`),
    [WORKERD_INDEX]: index(present.filter((name) => !BUILDS[name].std), (name) => `() => import("${module(name)}")`),
    [DOT_PRODUCT_FILE]: DOT_PRODUCT,
  };
  // The folder ships as it is, so nothing stays in it that is of an older kind.
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
