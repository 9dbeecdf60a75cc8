// `npm run bench`: measures the speed of the package on this machine with the real model: compared with other packages, alone, and its
// kernels. It only measures; there are no thresholds. `npm run -s bench -- --json` prints only JSON.

import { stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { build } from "./build.mjs";
import * as chromium from "./bench/alone/chromium.mjs";
import * as node from "./bench/alone/node.mjs";
import { summary, table as aloneTable } from "./bench/alone/report.mjs";
import { compare } from "./bench/compare/compare.mjs";
import * as llamaCpp from "./bench/compare/llama-cpp.mjs";
import * as ours from "./bench/compare/ours.mjs";
import { summaries, table as comparedTable } from "./bench/compare/report.mjs";
import * as stockCandle from "./bench/compare/stock-candle.mjs";
import * as wllama from "./bench/compare/wllama.mjs";
import { kernelTable, measureKernels } from "./bench/kernels/kernels.mjs";
import { UserError, main, say, withProgress } from "./lib/report.mjs";
import { ensureBrowser } from "./setup/browser.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";

/**
 * The runtimes in which the package is measured alone, with its default settings. A module exports `id`, `name`, `needs` and
 * `open(setting)`, which resolves to `{ version, measure(repetition), close() }`. `measure` does one cold run with the texts of
 * bench/page/workload.js and resolves to its figures (`Measured` in bench/alone/report.mjs).
 */
const ALONE = [node, chromium];

const HELP = `Usage: npm run bench [-- options]

  --json             print JSON instead of a table
  --only A,B         only these; "wllama" means wllama-1 and wllama-2. Compared with each other, in alternating runs:
                       ours-simd128, ours-relaxed, ours-threads, ours-relaxed-threads, wllama-1, wllama-2, stock-candle,
                       node-ours-simd128 (-relaxed, -threads, -relaxed-threads), workerd-ours-simd128, workerd-ours-relaxed,
                       node-llama-cpp-1, node-llama-cpp-2 (where node-llama-cpp is installed)
                     or the package alone, with its load time and memory: node, chromium
  --repetitions N    runs of each (default: 3)
  --quick            one run of each, without the measurements with a long context
  --llama-cpp DIR    a folder in which node-llama-cpp is installed
  --kernels          measure only the kernels of each build, in Node`;

// At these signals Playwright closes its browser, but the process would continue without it: end the process.
for (const signal of ["SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

await main(async () => {
  const options = optionsFrom(process.argv.slice(2));
  if (options.help) return void console.log(HELP);
  const print = (results, table) => console.log(options.json ? JSON.stringify(results, null, 2) : `\n${table(results)}`);

  await ensurePackages();
  if (options.kernels) {
    await build();
    const machine = machineNow();
    return print({ machine, builds: await measureKernels() }, kernelTable);
  }

  const { alone, compared } = await chosenFrom(options);
  const modelPath = await ensureModel();
  if (alone.includes(chromium) || compared.some(({ page }) => page)) process.env.CHROMIUM_PATH = await ensureBrowser();
  await build();

  const { size: bytes } = await stat(modelPath);
  const model = { file: path.basename(modelPath), bytes };
  if (alone.length > 0) print(await runAlone(alone, { model, modelPath, ...options }), aloneTable);
  else print(await runCompared(compared, { model, modelPath, ...options }), comparedTable);
});

function optionsFrom(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: {
        json: { type: "boolean" },
        only: { type: "string" },
        repetitions: { type: "string" },
        quick: { type: "boolean" },
        "llama-cpp": { type: "string" },
        kernels: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }));
  } catch (error) {
    throw new UserError(`${error.message.split("\n")[0]}\n${HELP}`);
  }
  const repetitions = Number(values.repetitions ?? (values.quick ? 1 : 3));
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new UserError(`--repetitions needs a number from 1, not "${values.repetitions}"`);
  return { ...values, repetitions, quick: !!values.quick };
}

/**
 * The runtimes and contenders to measure. Without `--only`: the whole comparison. A name also selects all ids that begin with it and a
 * hyphen.
 */
async function chosenFrom({ only, "llama-cpp": folder }) {
  const native = await llamaCpp.contenders(folder);
  const contenders = [...ours.inChromium, ...wllama.contenders, ...stockCandle.contenders, ...ours.inNode, ...ours.inWorkerd, ...native];
  if (only === undefined) {
    if (native.length === 0) say("node-llama-cpp is not installed, so it is not measured: install it in a folder and pass that folder with --llama-cpp");
    return { alone: [], compared: contenders };
  }
  const names = only.split(",");
  const takes = (name, id) => id === name || id.startsWith(`${name}-`);
  const alone = ALONE.filter(({ id }) => names.includes(id));
  // "node" alone means the package in Node, not every contender that runs in Node.
  const groups = names.filter((name) => !ALONE.some(({ id }) => id === name));
  const unknown = groups.find((name) => !contenders.some(({ id }) => takes(name, id)));
  if (unknown !== undefined) {
    throw new UserError(`--only: there is no "${unknown}"; choose from ${[...contenders, ...ALONE].map(({ id }) => id).join(", ")}`);
  }
  if (alone.length > 0 && groups.length > 0) throw new UserError("--only: node and chromium cannot be combined with other names");
  return { alone, compared: contenders.filter(({ id }) => groups.some((name) => takes(name, id))) };
}

function machineNow() {
  return {
    processor: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    // Of the last minute. It shows whether other programs used the machine.
    loadAverage: os.loadavg()[0],
  };
}

async function runCompared(chosen, { model, modelPath, repetitions, quick }) {
  const machine = machineNow();
  const { chromium, entries } = await compare(chosen, { modelPath, repetitions, deep: !quick });
  if (entries.every(({ runs }) => runs.length === 0)) throw new UserError("nothing could be measured");
  return { model, machine, chromium, repetitions, quick, contenders: summaries(entries, model.bytes) };
}

async function runAlone(chosen, { model, modelPath, repetitions }) {
  const machine = machineNow();
  const runtimes = [];
  for (const runtime of chosen) {
    runtimes.push(summary(...(await runsOf(runtime, { modelPath }, repetitions)), model.bytes));
  }
  return { model, machine, repetitions, runtimes };
}

/** Does all runs one after the other, so that they do not compete for the processor. */
async function runsOf({ id, name, open }, setting, repetitions) {
  const opened = await open(setting);
  try {
    const runs = [];
    for (let repetition = 0; repetition < repetitions; repetition += 1) {
      runs.push(await withProgress(`${name}: run ${repetition + 1} of ${repetitions}`, () => opened.measure(repetition)));
    }
    return [{ id, name, version: opened.version }, runs];
  } finally {
    await opened.close();
  }
}
