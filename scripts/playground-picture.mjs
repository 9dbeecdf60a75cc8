// docs/playground.png, the playground in README.md: asks the real default model on a built package, as `serve` shows it. Run it by hand after a change
// of the page: the figures in the picture are those of this machine.

import { launch } from "../tests/browser/chromium.mjs";
import { startServe } from "../tests/serve-process.mjs";
import { inProject } from "./lib/project.mjs";
import { main, say } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";

const PICTURE = "docs/playground.png";
const PROMPT = "Write a Python function that checks whether a word is a palindrome, and explain it in three points.";
/** With these the small model says something that is right. */
const SETTINGS = { temperature: "0.3", max_tokens: "220", seed: "6", stop_strings: "Example usage" };

await main(async () => {
  const server = await startServe("--port", "0", "--gguf", await ensureModel());
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
    await page.goto(server.url);
    await page.waitForSelector("#engine[data-state=ready]", { state: "attached" });
    for (const [id, value] of Object.entries(SETTINGS)) await page.fill(`#${id}`, value);
    await page.fill("#prompt", PROMPT);
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#send:enabled", { timeout: 120_000 });
    // The last frame of the answer, and no cursor that blinks.
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 200))));
    await page.screenshot({ path: inProject(PICTURE), caret: "hide" });
    say(`${PICTURE} is written.`);
  } finally {
    await browser.close();
    await server.stop();
  }
});
