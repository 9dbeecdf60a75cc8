// 64-bit memory in a real Chromium: its build gives the texts of the others, and models that 32 bits do not hold move to a second Web Worker.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { inPage, openAi, textsInPage } from "./ai-page.mjs";
import { launch } from "./chromium.mjs";

const LARGE = "@cf/own/large";
const SMALL = "@cf/own/small";
const WORDS = [" one", " two", " three"];

let files;
let browser;
before(async () => {
  files = await startPlayground({ modelPath: MODEL_PATH });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await files?.close();
});

test("it gives the same texts as the build with 32 bits", async () => {
  assert.deepEqual(await textsInPage(browser, files.url, { build: "wasm64" }), await textsInPage(browser, files.url, { build: "simd128" }));
});

test("a model moves with the request that 32 bits do not hold; until then nothing of the second engine is fetched", async (t) => {
  const { page, problems } = await openAi(browser, files.url, {});
  t.after(() => page.close());
  const requested = [];
  page.context().on("request", (request) => requested.push(new URL(request.url()).pathname));
  const isWide = (path) => /wide-|wasm64/.test(path.replace("widening-engine", ""));
  const [large, small] = [{ script: WORDS, context: 1 << 24, headWidth: 128 }, { script: [" small"] }].map((options) => Buffer.from(scriptedModel(options).bytes).toString("base64"));
  const outcome = await page.evaluate(
    async ({ large, small, LARGE, SMALL }) => {
      const { Ai } = await import("/pkg/browser.js");
      const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
      const ai = new Ai({ models: { [LARGE]: bytes(large), [SMALL]: bytes(small) }, threads: 1 });
      globalThis.moving = ai;
      const response = async (model, max_tokens) => (await ai.run(model, { messages: [{ role: "user", content: "Count!" }], max_tokens })).response;
      return { short: await response(LARGE, 10), small: await response(SMALL, 10), before: await ai.stats() };
    },
    { large, small, LARGE, SMALL },
  );
  assert.deepEqual([outcome.short, outcome.small, outcome.before.wide], [WORDS.join(""), " small", undefined]);
  assert.deepEqual(requested.filter(isWide), []);

  const moved = await page.evaluate(
    async ({ LARGE, SMALL }) => {
      const ai = globalThis.moving;
      const ask = (model, more) => ai.run(model, { messages: [{ role: "user", content: "Count!" }], max_tokens: 10_000_000, ...more });
      const [large, small] = await Promise.all([ask(LARGE), ask(SMALL, { max_tokens: 10 })]);
      const events = await new Response(await ask(LARGE, { stream: true })).text();
      const http = await ai.fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ model: LARGE, messages: [{ role: "user", content: "Count!" }] }) });
      return { texts: [large.response, small.response], events, http: await http.json(), stats: await ai.stats() };
    },
    { LARGE, SMALL },
  );
  assert.deepEqual(moved.texts, [WORDS.join(""), " small"]);
  assert.match(moved.events, /"response":" two"/);
  assert.equal(moved.http.choices[0].message.content, WORDS.join(""));
  assert.equal(moved.stats.wide.build, "wasm64");
  assert.deepEqual(moved.stats.models.map(({ build }) => build === "wasm64").sort(), [false, true]);
  assert.ok(requested.some(isWide));
  assert.deepEqual(problems, []);
});
