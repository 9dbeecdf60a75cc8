// One Chromium for the whole comparison, with a new page for each run.

import { MODEL_PATHNAME } from "../../../pkg/cli/static-files.js";
import { startServer } from "./server.mjs";

/**
 * Starts the browser and the server of its pages.
 *
 * @param {{modelPath: string}} setting
 * @param {Record<string, string>} folders the folders of the other packages, by the URL path under which they are served
 */
export async function startChromium({ modelPath }, folders) {
  // Imported here, because it requires the npm packages, which bench.mjs installs first.
  const { launch, openPage } = await import("../../../tests/browser/chromium.mjs");
  const server = await startServer(modelPath, folders);
  let browser = await launch().catch(async (error) => {
    await server.close();
    throw error;
  });
  return {
    version: browser.version(),
    async measure({ page: { module, options } }, { deep }) {
      // Each page has a separate profile, without cached files or compiled code.
      const { page, problems } = await openPage(browser).catch(async () => {
        // The previous page may have crashed the browser.
        browser = await launch();
        return openPage(browser);
      });
      try {
        await page.goto(server.url);
        const measured = await page.evaluate(measureInPage, { module, options: { ...options, model: MODEL_PATHNAME }, deep });
        if (problems.length > 0) throw new Error(problems.join("; "));
        return measured;
      } finally {
        await page.close();
      }
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}

/** Runs in the page, so it can use only its argument. */
async function measureInPage({ module, options, deep }) {
  const { measureContender } = await import("/compare.js");
  return measureContender(async () => (await import(`/contenders/${module}`)).open(options), { deep });
}
