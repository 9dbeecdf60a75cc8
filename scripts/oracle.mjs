// `npm run oracle`: asks llama.cpp for what the tests in `tests/models/` expect. `npm run oracle -- qwen-3` asks for the tokens of that vocabulary only,
// `npm run oracle -- families` for what models of every family compute.

import { mkdir } from "node:fs/promises";
import { askFor, writeAnswers } from "../tests/models/answers.mjs";
import { CASES } from "../tests/models/cases.mjs";
import { askForFamilies, writeFamilies } from "../tests/models/families.mjs";
import { openLlamaCpp } from "../tests/models/llama-cpp.mjs";
import { askForLogProbabilities, writeLogProbabilities } from "../tests/models/log-probabilities.mjs";
import { inProject } from "./lib/project.mjs";
import { UserError, main, withProgress } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";

const VOCABULARIES = Object.keys(CASES);
const FAMILIES = "families";

await main(async () => {
  const offered = [...VOCABULARIES, FAMILIES];
  const chosen = process.argv.length > 2 ? process.argv.slice(2) : offered;
  const unknown = chosen.find((name) => !offered.includes(name));
  if (unknown) throw new UserError(`no vocabulary "${unknown}": choose from ${offered.join(", ")}`);
  await ensurePackages();
  process.env.WORKERS_AI_LOCAL_MODEL = await ensureModel();
  await mkdir(inProject("tests", "models", "answers"), { recursive: true });
  const llamaCpp = await openLlamaCpp();
  const ask = (what, work) => withProgress(`llama.cpp ${llamaCpp.release}: ${what}`, work);
  try {
    for (const vocabulary of VOCABULARIES.filter((name) => chosen.includes(name))) {
      await ask(vocabulary, async () => writeAnswers(vocabulary, await askFor(llamaCpp, vocabulary)));
    }
    if (chosen.includes(FAMILIES)) {
      await ask(FAMILIES, async () => writeFamilies(await askForFamilies(llamaCpp)));
      await ask("log-probabilities", async () => writeLogProbabilities("short", await askForLogProbabilities(llamaCpp, "short")));
      await ask("log-probabilities of long texts", async () => writeLogProbabilities("long", await askForLogProbabilities(llamaCpp, "long")));
    }
  } finally {
    await llamaCpp.close();
  }
});
