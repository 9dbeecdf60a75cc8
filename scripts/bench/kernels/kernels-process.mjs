// Runs the micro-benchmark that is compiled into a build, and prints its result as a line of JSON. Started by kernels.mjs.

import { readFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

/** Duration per type and operation: long enough that V8's optimised code runs most of the time. */
const MILLISECONDS = 500;

const folder = process.argv[2];
const { benchKernels, initSync } = await import(pathToFileURL(path.join(folder, "workers_ai_local.js")).href);
if (!benchKernels) {
  console.error(`error: ${path.basename(folder)} has no benchKernels(): it was built from older sources`);
  process.exit(1);
}
initSync({ module: await readFile(path.join(folder, "workers_ai_local_bg.wasm")) });
const kernels = JSON.parse(benchKernels(MILLISECONDS));
process.stdout.write(`${JSON.stringify(kernels)}\n`, () => process.exit());
