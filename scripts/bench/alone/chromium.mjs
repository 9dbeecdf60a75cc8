// The package in headless Chromium, as a page gets it: the engine in a Web Worker, the model over HTTP from this
// machine. Each repetition is a browser of its own, with nothing in its caches.

import { DEFAULT_MODEL } from "../../../pkg/default-model.js";
import { inProject } from "../../lib/project.mjs";
import { startPlayground } from "../../playground.mjs";

export const id = "chromium";
export const name = "workers-ai-local, Chromium";
export const needs = ["browser"];

/** @param {{modelPath: string}} setting what bench.mjs has prepared */
export async function open({ modelPath }) {
  // Not before the npm packages are installed.
  const { launch, openPage } = await import("../../../tests/browser/chromium.mjs");
  const server = await startPlayground({ modelPath, wwwFolder: inProject("scripts", "bench", "page") });
  let version;
  return {
    get version() {
      return version;
    },
    async measure(repetition) {
      const browser = await launch();
      try {
        version = browser.version();
        const { page, problems } = await openPage(browser);
        await page.goto(server.url);
        const measured = await page.evaluate(measureInPage, { repetition, model: `/models/${DEFAULT_MODEL.file}` });
        if (problems.length > 0) throw new Error(problems.join("; "));
        return measured;
      } finally {
        await browser.close();
      }
    },
    close: () => server.close(),
  };
}

/** Runs in the page. */
async function measureInPage({ repetition, model }) {
  const { measure } = await import("/measure.js");
  const start = async () => {
    const { Ai } = await import("/pkg/browser.js");
    return new Ai({ default: model });
  };
  return measure(start, repetition);
}
