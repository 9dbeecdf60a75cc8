// One Chromium for the whole comparison, and a fresh page in it for each run.

import { MODEL_PATHNAME } from "../../../pkg/cli/static-files.js";
import { startServer } from "./server.mjs";

/**
 * @param {{modelPath: string}} setting
 * @param {Record<string, string>} folders of the peers, by the path they are served under
 */
export async function startChromium({ modelPath }, folders) {
  // Not before the npm packages are installed.
  const { launch, openPage } = await import("../../../tests/browser/chromium.mjs");
  const server = await startServer(modelPath, folders);
  let browser = await launch().catch(async (error) => {
    await server.close();
    throw error;
  });
  return {
    version: browser.version(),
    async measure({ page: { module, options } }, { deep }) {
      // Each page has a profile of its own: nothing is in its caches, and no compiled code.
      const { page, problems } = await openPage(browser).catch(async () => {
        // The one before may have taken the browser down with it.
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

/** Runs in the page. */
async function measureInPage({ module, options, deep }) {
  const { measureContender } = await import("/compare.js");
  return measureContender(async () => (await import(`/contenders/${module}`)).open(options), { deep });
}
