// The build with relaxed SIMD in a real Chromium.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { openAi, textsInPage } from "./ai-page.mjs";
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

test("its kernels agree with their reference", async () => {
  const { page } = await openAi(browser, files.url, { build: "relaxed" });
  const [different, compared] = await page.evaluate(async () => {
    const wasm = await import("/pkg/wasm/relaxed/workers_ai_local.js");
    await wasm.default({ module_or_path: "/pkg/wasm/relaxed/workers_ai_local_bg.wasm" });
    return [...wasm.compareKernels(5, 20)];
  });
  assert.ok(compared > 1000);
  assert.equal(different, 0);
  await page.close();
});

test("it gives the same texts as the build without", async () => {
  assert.deepEqual(await textsInPage(browser, files.url, { build: "relaxed" }), await textsInPage(browser, files.url, { build: "simd128" }));
});
