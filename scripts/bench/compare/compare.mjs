// Compares the package with similar ones, all in the same Chromium. Their runs alternate, so that other load on the machine affects all
// alike. Contenders outside the browser run in the same rounds, each run in a new process.

import { inProject, npmBin } from "../../lib/project.mjs";
import { run } from "../../lib/process.mjs";
import { say, withProgress } from "../../lib/report.mjs";
import { startChromium } from "./chromium.mjs";

/**
 * @typedef {object} Definition a contender; it has either `page` or `process`
 * @property {string} id
 * @property {string} name
 * @property {() => Promise<void>} [prepare] builds or installs missing files
 * @property {{module: string, options: object, folders?: Record<string, string>}} [page] `module` is in page/contenders/
 * @property {{module: string, options: object}} [process] `module` is relative to this folder
 */

/**
 * Measures all contenders.
 *
 * @param {Definition[]} contenders
 * @param {{modelPath: string, repetitions: number, deep: boolean}} setting `deep`: also measure with a context of 2,000 tokens
 * @returns the version of Chromium, if it was used, and one entry per contender; `failed` is the message of its last error
 */
export async function compare(contenders, setting) {
  const entries = contenders.map((definition) => ({ definition, runs: [] }));
  for (const entry of entries) await attempt(entry, async () => entry.definition.prepare?.());
  const ready = entries.filter(({ failed }) => !failed);
  const inPages = ready.filter(({ definition }) => definition.page);
  const folders = Object.assign({}, ...inPages.map(({ definition }) => definition.page.folders));
  const chromium = inPages.length > 0 ? await startChromium(setting, folders) : undefined;
  try {
    for (let round = 1; round <= setting.repetitions; round += 1) {
      for (const entry of ready) await measureOnce(entry, chromium, setting, round);
    }
  } finally {
    await chromium?.close();
  }
  return { chromium: chromium?.version, entries };
}

function measureOnce(entry, chromium, setting, round) {
  const { definition } = entry;
  return attempt(entry, async () => {
    const { ran, figures } = await withProgress(`round ${round} of ${setting.repetitions}: ${definition.name}`, () =>
      definition.page ? chromium.measure(definition, setting) : measureInProcess(definition, setting),
    );
    entry.ran = ran;
    entry.runs.push(figures);
  });
}

/** Runs `work` for a contender. An error is recorded in its entry and does not end the comparison. */
async function attempt(entry, work) {
  try {
    await work();
  } catch (error) {
    entry.failed = error.message.split("\n")[0];
    say(`  ${entry.definition.name} failed: ${entry.failed}`);
  }
}

async function measureInProcess({ process: { module, options } }, { modelPath, deep }) {
  const job = { module, options: { ...options, model: modelPath }, deep };
  let last = "";
  await run(npmBin("node"), [inProject("scripts", "bench", "compare", "contender-process.mjs"), JSON.stringify(job)], {
    // A contender may print other lines too.
    onLine: (line) => (last = line.startsWith('{"') ? line : last),
  });
  return JSON.parse(last);
}
