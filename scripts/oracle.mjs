// `npm run oracle`: asks llama.cpp and Jinja2 for what the tests in `tests/models/` expect. `npm run oracle -- qwen-3 templates` asks only for the tokens of
// that vocabulary, and for the texts of chat templates; `families` stands for the texts that a model of each family begins, `adapters` for
// those with LoRA adapters, `embeddings` for the vectors of embedding models, `log-probabilities` for what every kind of model computes.

import { mkdir } from "node:fs/promises";
import { ggufAdapter } from "../tests/adapters.mjs";
import { askForAdapters, writeAdapters } from "../tests/models/adapters.mjs";
import { askFor, writeAnswers } from "../tests/models/answers.mjs";
import { CASES } from "../tests/models/cases.mjs";
import { askForEmbeddings, writeEmbeddings } from "../tests/models/embeddings.mjs";
import { askForFamilies, writeFamilies } from "../tests/models/families.mjs";
import { askJinja2, writeTemplates } from "../tests/models/jinja2.mjs";
import { openLlamaCpp } from "../tests/models/llama-cpp.mjs";
import { askForLogProbabilities, writeLogProbabilities } from "../tests/models/log-probabilities.mjs";
import { sourcesOf, templatesInTest } from "../tests/models/templates.mjs";
import { inProject } from "./lib/project.mjs";
import { UserError, main, withProgress } from "./lib/report.mjs";
import { withLlamaCppSources } from "./setup/llama-cpp.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";

const ADAPTERS = "adapters";
const EMBEDDINGS = "embeddings";
const FAMILIES = "families";
const LOG_PROBABILITIES = "log-probabilities";
const TEMPLATES = "templates";

await main(async () => {
  const all = [...Object.keys(CASES), ADAPTERS, EMBEDDINGS, FAMILIES, LOG_PROBABILITIES, TEMPLATES];
  const chosen = process.argv.slice(2);
  const unknown = chosen.find((name) => !all.includes(name));
  if (unknown) throw new UserError(`no answers "${unknown}": choose from ${all.join(", ")}`);
  const wanted = chosen.length > 0 ? chosen : all;
  await ensurePackages();
  process.env.WORKERS_AI_LOCAL_MODEL = await ensureModel();
  await mkdir(inProject("tests", "models", "answers"), { recursive: true });
  if (wanted.some((name) => name !== TEMPLATES)) await askLlamaCpp(wanted);
  if (wanted.includes(TEMPLATES)) await withProgress("Jinja2: templates", async () => writeTemplates(await askJinja2(await sources())));
});

async function askLlamaCpp(wanted) {
  const llamaCpp = await openLlamaCpp();
  const ask = (what, work) => withProgress(`llama.cpp ${llamaCpp.release}: ${what}`, work);
  try {
    for (const vocabulary of wanted.filter((name) => name in CASES)) {
      await ask(vocabulary, async () => writeAnswers(vocabulary, await askFor(llamaCpp, vocabulary)));
    }
    if (wanted.includes(ADAPTERS)) await ask(ADAPTERS, async () => writeAdapters(await askForAdapters(llamaCpp, ggufAdapter)));
    if (wanted.includes(EMBEDDINGS)) await ask(EMBEDDINGS, async () => writeEmbeddings(await askForEmbeddings(llamaCpp)));
    if (wanted.includes(FAMILIES)) await ask(FAMILIES, async () => writeFamilies(await askForFamilies(llamaCpp)));
    if (wanted.includes(LOG_PROBABILITIES)) {
      await ask(LOG_PROBABILITIES, async () => writeLogProbabilities("short", await askForLogProbabilities(llamaCpp, "short")));
      await ask("log-probabilities of long texts", async () => writeLogProbabilities("long", await askForLogProbabilities(llamaCpp, "long")));
    }
  } finally {
    await llamaCpp.close();
  }
}

/** The sources of the chat templates. */
function sources() {
  return withLlamaCppSources(async (read) => {
    const tested = templatesInTest(await read("tests/test-chat-template.cpp"));
    return sourcesOf(async (_, template) => (template.llamaCpp ? read(`models/templates/${template.llamaCpp}.jinja`) : tested[template.tested]));
  });
}
