// Opens pages with an `Ai` in a real Chromium, and runs functions in them.

import { DEFAULT_MODEL } from "../../pkg/default-model.js";
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
