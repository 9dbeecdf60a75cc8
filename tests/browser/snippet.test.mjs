// The documentation's browser snippet, unmodified, against the example Worker with the documentation's sample.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { launch, openPage } from "./chromium.mjs";

let worker;
let browser;

before(async () => {
  worker = await startDevWorker({ quiet: true });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await worker?.stop();
});

it("appends the answer as it arrives, and closes on [DONE]", async () => {
  const { page, problems } = await openPage(browser);
  await page.addInitScript(() => {
    // Records the snippet's events and whether it closes, without changing the snippet.
    globalThis.seen = { events: [], closed: 0, texts: [] };
    globalThis.EventSource = class extends EventSource {
      constructor(url) {
        super(url);
        this.addEventListener("message", ({ data }) => {
          seen.events.push(data);
          seen.texts.push(document.body.innerText);
        });
      }
      close() {
        seen.closed += 1;
        super.close();
      }
    };
  });
  await page.goto(`${worker.url}/snippet`);
  await page.waitForFunction(() => seen.closed > 0, undefined, { timeout: 300_000, polling: 200 });
  const { events, closed, texts } = await page.evaluate(() => seen);
  assert.equal(closed, 1);
  assert.equal(events.at(-1), "[DONE]");
  const answer = events.slice(0, -1).map((data) => JSON.parse(data).response).join("");
  assert.ok(answer.length > 20, answer);
  assert.ok(!answer.includes("undefined"));
  // The page grew while the answer arrived.
  assert.ok(new Set(texts.map((text) => text.length)).size > 5);
  assert.deepEqual(problems, []);
});
