// Pictures of the playground. Without an argument docs/playground.png, the one in README.md: asks the real default model on a built package, as `serve`
// shows it; run it by hand after a change of the page: the figures in the picture are those of this machine. With a folder: each state of the page that
// the tests know, in four sizes and both themes, to be looked at.

import { mkdir } from "node:fs/promises";
import path from "node:path";
import { launch } from "../tests/browser/chromium.mjs";
import { STATES, isReady, reset, startHost, startScripted } from "../tests/browser/scripted-playground.mjs";
import { startServe } from "../tests/serve-process.mjs";
import { inProject } from "./lib/project.mjs";
import { main, say } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";

const PICTURE = "docs/playground.png";
const PROMPT = "Write a Python function that checks whether a word is a palindrome, and explain it in three points.";
/** With these the small model says something that is right. */
const SETTINGS = { temperature: "0.3", max_tokens: "220", seed: "6", stop_strings: "Example usage" };
const SIZES = [[1280, 800], [390, 844], [768, 1024], [1920, 1080]];
const THEMES = ["light", "dark"];

/** The last frame of an answer, and the end of transitions. */
const settle = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 200))));

async function takeForReadme() {
  const server = await startServe("--port", "0", "--gguf", await ensureModel());
  const browser = await launch();
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
    await page.goto(server.url);
    await isReady(page);
    for (const [id, value] of Object.entries(SETTINGS)) await page.fill(`#${id}`, value);
    await page.fill("#prompt", PROMPT);
    await page.press("#prompt", "Enter");
    await page.waitForSelector("#send:enabled", { timeout: 120_000 });
    await settle(page);
    await page.screenshot({ path: inProject(PICTURE), caret: "hide" });
    say(`${PICTURE} is written.`);
  } finally {
    await browser.close();
    await server.stop();
  }
}

/** @param {string} folder */
async function takeAll(folder) {
  await mkdir(folder, { recursive: true });
  const [server, host, browser] = await Promise.all([startScripted(), startHost(), launch()]);
  try {
    for (const [width, height] of SIZES) {
      const page = await browser.newPage({ viewport: { width, height } });
      await page.goto(server.url);
      await isReady(page);
      for (const [state, reach] of Object.entries(STATES)) {
        await reset(page);
        await reach(page, host.url);
        for (const colorScheme of THEMES) {
          await page.emulateMedia({ colorScheme });
          await settle(page);
          const name = `${state.replaceAll(/\W+/g, "-")}-${width}x${height}-${colorScheme}.png`;
          await page.screenshot({ path: path.join(folder, name), caret: "hide" });
        }
      }
      await page.close();
    }
    say(`The pictures are in ${folder}.`);
  } finally {
    await browser.close();
    await server.close();
    await host.close();
  }
}

const [folder] = process.argv.slice(2);
await main(() => (folder ? takeAll(folder) : takeForReadme()));
