// Measures the package in headless Chromium, as a page uses it: the engine in a Web Worker, the model over HTTP from this machine. Each
// repetition starts a new browser with empty caches.

import { DEFAULT_MODEL } from "../../../pkg/default-model.js";
import { inProject } from "../../lib/project.mjs";
import { startPlayground } from "../../playground.mjs";

export const id = "chromium";
export const name = "workers-ai-local, Chromium";
export const needs = ["browser"];

/** @param {{modelPath: string}} setting prepared by bench.mjs */
export async function open({ modelPath }) {
  // Imported here, because it requires the npm packages, which bench.mjs installs first.
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

/** Runs in the page, so it can use only its argument. */
async function measureInPage({ repetition, model }) {
  const { measure } = await import("/measure.js");
  const start = async () => {
    const { Ai } = await import("/pkg/browser.js");
    return new Ai({ default: model });
  };
  return measure(start, repetition);
}
