// Pages of a real Chromium that hold an `Ai`.

import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { openPage } from "./chromium.mjs";

/** A page with an `Ai` of this configuration, as `globalThis.ai`; over the default model of the playground at `url` unless it names another. */
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

/** What `work` does with the page's `ai`, or its error's text. */
export const inPage = (page, work, argument) =>
  page.evaluate(`(${work})(globalThis.ai, ${JSON.stringify(argument ?? null)}).catch((error) => ({ error: \`\${error.name}: \${error.message}\` }))`);
