// `npm run bench`: how fast the package is on this machine, in Node and in Chromium, with the real model.
// It measures and judges nothing. `npm run -s bench -- --json` prints nothing but JSON.

import { stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { build } from "./build.mjs";
import * as chromium from "./bench/chromium.mjs";
import * as node from "./bench/node.mjs";
import { summary, table } from "./bench/report.mjs";
import { UserError, main, withProgress } from "./lib/report.mjs";
import { ensureBrowser } from "./setup/browser.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";

/**
 * What is measured, in this order. A module gives `id`, `name`, `needs` and `open(setting)`, which resolves to
 * `{ version, measure(repetition), close() }`; `measure` makes one cold run and gives plain figures (`Measured` in
 * bench/report.mjs) over the texts of bench/page/workload.js.
 */
const RUNTIMES = [node, chromium];

const HELP = `Usage: npm run bench [-- options]

  --json             print JSON instead of a table
  --only A,B         only these: ${RUNTIMES.map(({ id }) => id).join(", ")}
  --repetitions N    cold runs of each (default: 3)`;

await main(async () => {
  const options = optionsFrom(process.argv.slice(2));
  if (options.help) return void console.log(HELP);
  const { json, chosen, repetitions } = options;

  await ensurePackages();
  const modelPath = await ensureModel();
  if (chosen.some(({ needs }) => needs?.includes("browser"))) process.env.CHROMIUM_PATH = await ensureBrowser();
  await build();

  const { size: bytes } = await stat(modelPath);
  const machine = {
    processor: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    // Of the last minute: whoever reads the figures should know whether the machine was busy with something else.
    loadAverage: os.loadavg()[0],
  };
  const runtimes = [];
  for (const runtime of chosen) {
    runtimes.push(summary(...(await runsOf(runtime, { modelPath }, repetitions)), bytes));
  }
  const results = {
    model: { file: path.basename(modelPath), bytes },
    machine,
    repetitions,
    runtimes,
  };
  console.log(json ? JSON.stringify(results, null, 2) : `\n${table(results)}`);
});

function optionsFrom(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: { json: { type: "boolean" }, only: { type: "string" }, repetitions: { type: "string" }, help: { type: "boolean", short: "h" } },
    }));
  } catch (error) {
    throw new UserError(`${error.message.split("\n")[0]}\n${HELP}`);
  }
  const only = values.only?.split(",");
  const unknown = only?.find((id) => !RUNTIMES.some((runtime) => runtime.id === id));
  if (unknown !== undefined) throw new UserError(`--only knows no "${unknown}": choose from ${RUNTIMES.map(({ id }) => id).join(", ")}`);
  const repetitions = Number(values.repetitions ?? 3);
  if (!Number.isInteger(repetitions) || repetitions < 1) throw new UserError(`--repetitions takes a number from 1, not "${values.repetitions}"`);
  return { ...values, repetitions, chosen: RUNTIMES.filter(({ id }) => !only || only.includes(id)) };
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
