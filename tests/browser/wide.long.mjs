// 64-bit memory in a real Chromium: the build with threads gives the texts of the others, and a model of Llama 2 7B's shape, 7.3 GB, answers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { LLAMA_7B, largeModel, startLargeModelServer } from "../large-model.mjs";
import { likeliestAfter } from "../large-model-reference.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { inPage, openAi, textsInPage } from "./ai-page.mjs";
import { launch } from "./chromium.mjs";

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

test("with threads it gives the same texts as the build with 32 bits", async () => {
  const texts = await textsInPage(browser, files.url, { build: "wasm64-threads", threads: 2 });
  assert.deepEqual(texts, await textsInPage(browser, files.url, { build: "simd128" }));
});

test("a model of 7.3 GB answers", async (t) => {
  const model = await largeModel(LLAMA_7B);
  assert.ok(model.size > 7.2e9);
  const server = await startLargeModelServer(model, { cut: Infinity });
  t.after(() => server.close());
  const { page, problems } = await openAi(browser, files.url, { default: `${server.url}/large.gguf`, threads: 2 });
  t.after(() => page.close());
  const started = Date.now();
  const loaded = await inPage(page, async (ai) => ai.load());
  assert.equal(loaded.error, undefined);
  t.diagnostic(`${(model.size / 1e3 / (Date.now() - started)).toFixed(0)} MB/s`);
  assert.deepEqual(
    await page.evaluate(() => [globalThis.progress.at(-1).loaded, globalThis.progress.at(-1).total]),
    [model.size, model.size],
  );

  const prompt = ["Ġsky", "Ġmoon"];
  const input = { prompt: " sky moon", raw: true, temperature: 0, max_tokens: 1 };
  const { response, usage, error } = await inPage(page, async (ai, input) => ai.run("@cf/meta/llama-3.1-8b-instruct", input), input);
  assert.equal(error, undefined);
  assert.equal(usage.prompt_tokens, prompt.length);
  assert.equal(response, likeliestAfter(model, prompt));
  const { models, wide } = await inPage(page, async (ai) => ai.stats());
  assert.deepEqual([models.length, models[0].build, wide.build], [1, "wasm64-threads", "wasm64-threads"]);
  assert.ok(wide.memoryBytes > model.size && wide.memoryBytes < 1.1 * model.size, `${wide.memoryBytes} bytes`);
  assert.deepEqual(problems, []);
});
