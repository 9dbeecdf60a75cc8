// Opens pages with an `Ai` in a real Chromium, and runs functions in them.

import assert from "node:assert/strict";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { PARITY_INPUTS } from "../parity-inputs.mjs";
import { openPage } from "./chromium.mjs";

/**
 * Opens a page whose `globalThis.ai` is an `Ai` with this configuration. Its model is the default model of the playground at `url`,
 * unless `config.default` is another. `globalThis.progress` and `globalThis.warnings` collect what the `Ai` reports.
 */
export async function openAi(browser, url, config) {
  const { page, problems } = await openPage(browser);
  await page.goto(`${url}/pkg/default-model.js`);
  await page.evaluate(
    async ({ file, config }) => {
      const { Ai } = await import("/pkg/browser.js");
      globalThis.warnings = [];
      globalThis.progress = [];
      const observers = { onProgress: (step) => globalThis.progress.push(step), onWarning: (text) => globalThis.warnings.push(text) };
      globalThis.ai = new Ai({ default: `/models/${file}`, threads: 1, ...observers, ...config });
    },
    { file: DEFAULT_MODEL.file, config },
  );
  return { page, problems };
}

/** Runs `work(ai, argument)` in the page, and returns its result, or `{ error }` with the error's name and message. */
export const inPage = (page, work, argument) =>
  page.evaluate(`(${work})(globalThis.ai, ${JSON.stringify(argument ?? null)}).catch((error) => ({ error: \`\${error.name}: \${error.message}\` }))`);

/** The texts of `PARITY_INPUTS` that a build computes on the CPU in a page of its own. `config`: of the `Ai`, with its `build`. */
export async function textsInPage(browser, url, config) {
  const { page, problems } = await openAi(browser, url, { backend: "cpu", ...config });
  const texts = {};
  for (const { what, model, input } of PARITY_INPUTS) {
    texts[what] = (await inPage(page, async (ai, [model, input]) => ai.run(model, input), [model, input])).response;
  }
  assert.equal((await inPage(page, async (ai) => ai.stats())).build, config.build);
  assert.deepEqual(problems, []);
  assert.equal(Object.keys(texts).length, PARITY_INPUTS.length);
  await page.close();
  return texts;
}
