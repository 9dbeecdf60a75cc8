// `npm test`: everything it takes, then the suites. `npm test -- node browser` runs only those.

import { readdir } from "node:fs/promises";
import path from "node:path";
import { build } from "./build.mjs";
import { inProject, npmBin, withNode22 } from "./lib/project.mjs";
import { run, which } from "./lib/process.mjs";
import { UserError, duration, main, say } from "./lib/report.mjs";
import { ensureBrowser } from "./setup/browser.mjs";
import { ensureLocalBucket } from "./setup/local-bucket.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";
import { ensureToolchain, ensureToolchainWithStd } from "./setup/toolchain.mjs";
import { ensureVulkan } from "./setup/vulkan.mjs";

/** In this order. `needs` names what a suite takes beside the npm packages and the model. */
const SUITES = {
  rust: { what: "native Rust tests", needs: ["vulkan"], test: cargoTest },
  types: { what: "TypeScript types and examples", needs: ["build"], test: typeTest },
  node: { what: "real runs in Node", needs: ["build", "vulkan"], test: () => nodeTest("node") },
  clients: { what: "real clients against it", needs: ["build"], test: () => nodeTest("clients") },
  workerd: { what: "real runs in workerd", needs: ["build", "bucket"], test: () => nodeTest("workerd") },
  browser: { what: "real runs in Chromium", needs: ["build", "bucket", "browser"], test: () => nodeTest("browser") },
};

await main(async () => {
  const chosen = process.argv.slice(2);
  const unknown = chosen.find((name) => !(name in SUITES));
  if (unknown) throw new UserError(`no suite "${unknown}": choose from ${Object.keys(SUITES).join(", ")}`);
  const suites = Object.entries(SUITES).filter(([name]) => chosen.length === 0 || chosen.includes(name));
  const needs = new Set(suites.flatMap(([, { needs }]) => needs));

  const vulkan = await setUp(needs);

  const rows = [];
  const step = async (name, what, work) => {
    console.log(`\n── ${name}: ${what}`);
    const started = Date.now();
    const error = await work().then(
      () => null,
      (error) => error,
    );
    if (error) say(error instanceof UserError ? `error: ${error.message}` : error.stack);
    rows.push({ name, passed: !error, time: duration(Date.now() - started) });
    return !error;
  };

  let built = null;
  for (const [name, { what, needs, test }] of suites) {
    // The build comes right before the first suite that needs it: native tests fail sooner.
    if (needs.includes("build")) built ??= await step("build", "the package", build);
    if (needs.includes("build") && !built) rows.push({ name, passed: false, time: "not run: no build" });
    else await step(name, what, () => test(vulkan));
  }

  console.log("");
  for (const { name, passed, time } of rows) {
    console.log(`  ${passed ? "✓" : "✗"} ${name.padEnd(8)} ${passed ? "passed" : "FAILED"}  ${time}`);
  }
  const failed = rows.filter(({ passed }) => !passed).length;
  console.log(`\nsteps: ${rows.length - failed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
});

/**
 * All of it before the first test, so that whatever needs the network or a password does not come up in the middle.
 * Gives the environment in which native programs find a GPU.
 */
async function setUp(needs) {
  await ensurePackages();
  const modelPath = await ensureModel();
  // Read by every kind of test.
  process.env.WORKERS_AI_LOCAL_MODEL = modelPath;
  if (needs.has("bucket")) await ensureLocalBucket(modelPath);
  if (needs.has("browser")) process.env.CHROMIUM_PATH = await ensureBrowser();
  const vulkan = needs.has("vulkan") ? await ensureVulkan() : {};
  if (needs.has("build")) {
    await ensureToolchain();
    await ensureToolchainWithStd();
  }
  return vulkan;
}

async function cargoTest(vulkan) {
  const cargo = which("cargo");
  if (!cargo) throw new UserError("cargo is missing: install Rust from https://rustup.rs");
  await run(cargo, ["test"], { env: { ...vulkan, CARGO_TARGET_DIR: inProject("target", "native") } });
}

async function typeTest() {
  for (const project of ["tests/types", "examples"]) {
    await run(npmBin("tsc"), ["-p", project], { env: withNode22() });
  }
}

async function nodeTest(folder) {
  const names = await readdir(inProject("tests", folder)).catch(() => []);
  const files = names.filter((name) => name.endsWith(".test.mjs")).sort();
  if (files.length === 0) throw new UserError(`tests/${folder} has no *.test.mjs`);
  // One file at a time: each runs a model, and they would take the processor from one another.
  await run(
    npmBin("node"),
    ["--test", "--test-concurrency=1", "--test-reporter=spec", ...files.map((name) => path.join("tests", folder, name))],
    { env: withNode22() },
  );
}
