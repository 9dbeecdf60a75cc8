// `npm run oracle`: asks llama.cpp for what the tests in `tests/models/` expect. `npm run oracle -- qwen-3` asks for the tokens of that vocabulary only, and for
// every family.

import { mkdir } from "node:fs/promises";
import { askFor, writeAnswers } from "../tests/models/answers.mjs";
import { CASES } from "../tests/models/cases.mjs";
import { askForFamilies, writeFamilies } from "../tests/models/families.mjs";
import { openLlamaCpp } from "../tests/models/llama-cpp.mjs";
import { inProject } from "./lib/project.mjs";
import { UserError, main, withProgress } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";

await main(async () => {
  const chosen = process.argv.slice(2);
  const unknown = chosen.find((name) => !(name in CASES));
  if (unknown) throw new UserError(`no vocabulary "${unknown}": choose from ${Object.keys(CASES).join(", ")}`);
  await ensurePackages();
  process.env.WORKERS_AI_LOCAL_MODEL = await ensureModel();
  await mkdir(inProject("tests", "models", "answers"), { recursive: true });
  const llamaCpp = await openLlamaCpp();
  try {
    for (const vocabulary of chosen.length > 0 ? chosen : Object.keys(CASES)) {
      await withProgress(`llama.cpp ${llamaCpp.release}: ${vocabulary}`, async () => writeAnswers(vocabulary, await askFor(llamaCpp, vocabulary)));
    }
    await withProgress(`llama.cpp ${llamaCpp.release}: families`, async () => writeFamilies(await askForFamilies(llamaCpp)));
  } finally {
    await llamaCpp.close();
  }
});
