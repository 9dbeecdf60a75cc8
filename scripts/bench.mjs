// `npm run bench`: how fast the package is on this machine with the real model: beside its peers, by itself, and its
// kernels. It measures and judges nothing. `npm run -s bench -- --json` prints nothing but JSON.

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
 * The package by itself, as it comes. A module gives `id`, `name`, `needs` and `open(setting)`, which resolves to
 * `{ version, measure(repetition), close() }`; `measure` makes one cold run and gives plain figures (`Measured` in
 * bench/alone/report.mjs) over the texts of bench/page/workload.js.
 */
const ALONE = [node, chromium];

const HELP = `Usage: npm run bench [-- options]

  --json             print JSON instead of a table
  --only A,B         only these; "wllama" means wllama-1 and wllama-2. Compared with one another, in turns:
                       ours-simd128, ours-relaxed, ours-threads, ours-relaxed-threads, wllama-1, wllama-2, stock-candle,
                       node-ours-simd128 (-relaxed, -threads, -relaxed-threads), workerd-ours-simd128, workerd-ours-relaxed,
                       node-llama-cpp-1, node-llama-cpp-2 (where node-llama-cpp is installed)
                     or the package by itself, with its load and memory: node, chromium
  --repetitions N    runs of each (default: 3)
  --quick            one run of each, and nothing with a long context
  --llama-cpp DIR    a folder in which node-llama-cpp is installed
  --kernels          instead: the kernels of each build, in Node`;

// Playwright closes its browser at these signals, and would let the rest go on without one.
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
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new UserError(`--repetitions takes a number from 1, not "${values.repetitions}"`);
  return { ...values, repetitions, quick: !!values.quick };
}

/** Without `--only`, the comparison. A name takes those that it begins. */
async function chosenFrom({ only, "llama-cpp": folder }) {
  const native = await llamaCpp.contenders(folder);
  const contenders = [...ours.inChromium, ...wllama.contenders, ...stockCandle.contenders, ...ours.inNode, ...ours.inWorkerd, ...native];
  if (only === undefined) {
    if (native.length === 0) say("node-llama-cpp is not installed and left out: install it in a folder, and name that with --llama-cpp");
    return { alone: [], compared: contenders };
  }
  const names = only.split(",");
  const takes = (name, id) => id === name || id.startsWith(`${name}-`);
  const alone = ALONE.filter(({ id }) => names.includes(id));
  // "node" by itself is the package in Node, not everything that runs there.
  const groups = names.filter((name) => !ALONE.some(({ id }) => id === name));
  const unknown = groups.find((name) => !contenders.some(({ id }) => takes(name, id)));
  if (unknown !== undefined) {
    throw new UserError(`--only knows no "${unknown}": choose from ${[...contenders, ...ALONE].map(({ id }) => id).join(", ")}`);
  }
  if (alone.length > 0 && groups.length > 0) throw new UserError("--only: node and chromium are measured by themselves, not together with others");
  return { alone, compared: contenders.filter(({ id }) => groups.some((name) => takes(name, id))) };
}

function machineNow() {
  return {
    processor: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    // Of the last minute: whoever reads the figures should know whether the machine was busy with something else.
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

/** Runs one after the other: each has the machine to itself. */
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
