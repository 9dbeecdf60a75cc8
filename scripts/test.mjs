// `npm test`: sets up, builds and runs every check. `npm test -- node browser` runs only those steps.
// `npm run test:long` (`--long`) runs the tests that take minutes and rarely break, on all builds of the package.

import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { build } from "./build.mjs";
import { checkFormat, checkLicences, checkLints, checkTypes } from "./checks.mjs";
import { inProject, npmBin, withNode22 } from "./lib/project.mjs";
import { compileNative } from "./lib/native.mjs";
import { run } from "./lib/process.mjs";
import { UserError, main, say } from "./lib/report.mjs";
import { follow } from "./lib/test-output.mjs";
import { withCargoTarget } from "./lib/user-cache.mjs";
import { buildRelaxedKernels } from "./relaxed-kernels.mjs";
import { ensureBrowser } from "./setup/browser.mjs";
import { ensureLocalBucket } from "./setup/local-bucket.mjs";
import { ensureEmbeddings, ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";
import { ensureToolchain, ensureToolchainWithStd, requireCargo } from "./setup/toolchain.mjs";
import { ensureVulkan } from "./setup/vulkan.mjs";

/**
 * The builds with relaxed SIMD differ in the crate `kernels` alone, which the step `kernels` compares with its reference; the one with 64-bit memory
 * and threads differs from others in one of these each. The long tests run all builds.
 */
const BUILDS_OF_THE_GATE = ["simd128", "threads", "wasm64", "embeddings"];

/** Steps that run at the same time, if they are made for it (`beside`). */
const LANES = 2;

/** The types of weights whose accuracy the long tests compare with exact arithmetic (`tests/exactness.rs`); each takes minutes. */
const TYPES_OF_EXACTNESS = "Q4_1,Q4_K";

/**
 * The steps, in the order in which they run. `needs`: other steps and pieces of the set-up. `test` gets the set-up's results and `results`,
 * to which it adds its tests and failures (`follow`). `long`: whether the step has long tests; "only" if it has no others. `beside`: its programs
 * compute in one thread for the most part, so that two such steps run at the same time; but not those of the long tests, some of which measure.
 */
const STEPS = {
  format: { what: "rustfmt, and a line in ARCHITECTURE.md for every file", test: checkFormat },
  lints: { what: "clippy, for this machine and for WebAssembly", needs: ["toolchain"], test: checkLints },
  licences: { what: "licences and sources of the crates, by cargo-deny", test: checkLicences },
  rust: { what: "native Rust tests", needs: ["vulkan", "embeddings"], test: cargoTest, long: true },
  loom: { what: "every order of the thread pool's accesses, by loom", test: modelThreads, long: "only" },
  build: { what: "the package", needs: ["toolchain"], test: ({ long }) => build(long ? undefined : BUILDS_OF_THE_GATE), long: true },
  kernels: { what: "the relaxed-SIMD kernels beside their reference", needs: ["toolchain"], test: relaxedKernels },
  types: { what: "TypeScript: types of the package, its JavaScript, examples; what scripts and tests import", needs: ["build"], test: checkTypes },
  node: { what: "real runs in Node", needs: ["build", "vulkan", "embeddings"], test: nodeTest("node"), long: true, beside: true },
  models: { what: "vocabularies, families and chat templates of other models, beside what llama.cpp and Jinja2 answer", needs: ["build", "vulkan"], test: modelsTest, long: true, beside: true },
  clients: { what: "published clients", needs: ["build", "embeddings"], test: nodeTest("clients"), beside: true },
  workerd: { what: "real runs in workerd", needs: ["build", "bucket", "embeddings"], test: nodeTest("workerd"), long: true, beside: true },
  browser: { what: "real runs in Chromium", needs: ["build", "bucket", "chromium", "embeddings"], test: nodeTest("browser"), long: true, beside: true },
  docs: { what: "every example of README.md and docs/", needs: ["build", "bucket", "chromium", "embeddings"], test: nodeTest("docs"), long: true, beside: true },
  package: { what: "the packed tarball in an empty project", needs: ["build", "chromium"], test: nodeTest("package"), long: true, beside: true },
  projects: { what: "projects with wrangler, Vite and vitest, and the packed tarball", needs: ["build"], test: nodeTest("projects"), long: true, beside: true },
};

await main(async () => {
  const args = process.argv.slice(2);
  const long = args.includes("--long");
  const chosen = args.filter((arg) => arg !== "--long");
  const offered = Object.keys(STEPS).filter((name) => (long ? STEPS[name].long : STEPS[name].long !== "only"));
  const unknown = chosen.find((name) => !offered.includes(name));
  if (unknown) throw new UserError(`no step "${unknown}": choose from ${offered.join(", ")}`);
  const wanted = (name) => chosen.length === 0 || chosen.includes(name) || chosen.some((other) => STEPS[other].needs?.includes(name));
  const steps = offered.filter(wanted);
  const needs = new Set(steps.flatMap((name) => STEPS[name].needs ?? []));

  const isBeside = (name) => !long && STEPS[name]?.beside === true;
  const rows = [];
  const step = async (name, what, work) => {
    console.log(`\n── ${name}: ${what}`);
    const row = { name, tests: 0, failures: [], passed: false, started: Date.now(), label: isBeside(name) ? `${name.padEnd(9)}│ ` : "" };
    rows.push(row);
    try {
      const result = await work(row);
      row.passed = true;
      return result;
    } catch (error) {
      say(`${row.label}${error instanceof UserError ? `error: ${error.message}` : error.stack}`);
      return null;
    } finally {
      row.milliseconds = Date.now() - row.started;
    }
  };

  const setting = await step("set-up", "everything that the tests need", () => setUp(needs));
  if (setting) {
    const runStep = async (name) => {
      const { what, needs = [], test } = STEPS[name];
      const failed = rows.find((row) => !row.passed && needs.includes(row.name));
      if (failed) rows.push({ name, passed: false, notRun: `not run: no ${failed.name}` });
      else await step(name, what, (results) => test({ ...setting, long, results }));
    };
    for (const name of steps.filter((name) => !isBeside(name))) await runStep(name);
    const waiting = steps.filter(isBeside);
    const lane = async () => {
      for (let name; (name = waiting.shift()); ) await runStep(name);
    };
    await Promise.all(Array.from({ length: LANES }, lane));
  }
  for (const { name, failures } of rows.filter((row) => row.failures?.length)) console.log(`\n── what failed in ${name}\n${failures.join("\n")}`);
  console.log(`\n${table(rows)}`);
  const failed = rows.filter(({ passed }) => !passed).length;
  console.log(`\nsteps: ${rows.length - failed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
});

/** A line for each step: its result, the number of its tests, its minutes. */
function table(rows) {
  const line = (mark, name, result, tests, minutes) => `  ${mark} ${name.padEnd(9)} ${result.padEnd(20)} ${tests.padStart(6)} ${minutes.padStart(8)}`;
  const minutes = (milliseconds) => (milliseconds / 60_000).toFixed(1);
  const tests = rows.reduce((sum, row) => sum + (row.tests ?? 0), 0);
  return [
    line(" ", "step", "", "tests", "minutes"),
    ...rows.map(({ name, passed, notRun, tests, milliseconds = 0 }) =>
      line(passed ? "✓" : "✗", name, notRun ?? (passed ? "passed" : "FAILED"), tests ? String(tests) : "", minutes(milliseconds)),
    ),
    // Steps may have run at the same time.
    line(" ", "all", "", String(tests), minutes(Date.now() - rows[0].started)),
  ].join("\n");
}

/**
 * Everything before the first test, so that nothing asks for the network or a password in the middle.
 *
 * @returns {Promise<{vulkan: object}>} the environment in which native programs find a GPU
 */
async function setUp(needs) {
  await ensurePackages();
  const modelPath = await ensureModel();
  // Every kind of test reads this variable.
  process.env.WORKERS_AI_LOCAL_MODEL = modelPath;
  if (needs.has("embeddings")) await ensureEmbeddings();
  if (needs.has("bucket")) await ensureLocalBucket(modelPath);
  if (needs.has("chromium")) process.env.CHROMIUM_PATH = await ensureBrowser();
  const vulkan = needs.has("vulkan") ? await ensureVulkan() : {};
  if (needs.has("toolchain")) {
    await ensureToolchain();
    await ensureToolchainWithStd();
  }
  return { vulkan };
}

async function cargoTest({ vulkan, long, results }) {
  const cargo = requireCargo();
  await withCargoTarget("native", { cargo }, (folder) =>
    run(cargo, ["test", "--locked", "--no-fail-fast", ...(long ? ["--", "--ignored"] : [])], {
      // Incremental compilation only helps the clone that compiles again, and costs the others time.
      env: { ...vulkan, CARGO_TARGET_DIR: folder, CARGO_INCREMENTAL: "0", TYPES: process.env.TYPES ?? TYPES_OF_EXACTNESS },
      onLine: follow("cargo", results),
    }),
  );
}

/** The models in kernels/src/threads.rs, optimised, because they try some hundred thousand orders. */
async function modelThreads({ results }) {
  const cargo = requireCargo();
  await withCargoTarget("loom", { cargo, clean: ["--release"] }, (folder) =>
    run(cargo, ["test", "--locked", "--release", "--package", "workers-ai-local-kernels", "--lib", "threads::models"], {
      env: { CARGO_TARGET_DIR: folder, CARGO_INCREMENTAL: "0", RUSTFLAGS: "--cfg loom" },
      onLine: follow("cargo", results),
    }),
  );
}

/** Runs the tests of a folder. */
function nodeTest(folder) {
  return async ({ long, results }) => runNodeTests(await testsOf(folder, long), results);
}

/** The files of a folder that end in `.test.mjs`, or the long ones, which end in `.long.mjs`. */
async function testsOf(folder, long) {
  const ending = long ? ".long.mjs" : ".test.mjs";
  const names = (await readdir(inProject("tests", folder))).filter((name) => name.endsWith(ending)).sort();
  if (names.length === 0) throw new UserError(`tests/${folder} has no *${ending}`);
  return names.map((name) => path.join("tests", folder, name));
}

/** The package returns no log-probabilities, so a native program computes them. */
async function modelsTest({ vulkan, long, results }) {
  const program = inProject("target", "log_probabilities");
  await mkdir(inProject("target"), { recursive: true });
  await compileNative(["build", "--example", "log_probabilities"], program);
  await runNodeTests(await testsOf("models", long), results, { ...vulkan, LOG_PROBABILITIES: program });
}

async function relaxedKernels({ results }) {
  process.env.RELAXED_KERNELS = await buildRelaxedKernels();
  await runNodeTests([path.join("tests", "kernels", "relaxed.test.mjs")], results);
}

/** One file at a time: each runs a model, and they would slow one another down. */
async function runNodeTests(files, results, env = {}) {
  await run(npmBin("node"), ["--test", "--test-concurrency=1", "--test-reporter=spec", ...files], {
    env: withNode22(env),
    onLine: follow("node", results),
  });
}
