// The GPU backend in a real Chromium with a software adapter (SwiftShader), which is slow, so answers are short.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { startPlayground } from "../../scripts/playground.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { SOFTWARE_GPU, launch } from "./chromium.mjs";

const COUNTING = { prompt: "1, 2, 3, 4, 5, 6, 7,", raw: true, temperature: 0, max_tokens: 6 };

let files;
before(async () => {
  files = await startPlayground({ modelPath: MODEL_PATH });
});
after(() => files?.close());

describe("without a real GPU", () => {
  const cases = [
    { what: "no adapter", args: [], reason: /no .*adapter/i },
    { what: "only a software adapter", args: SOFTWARE_GPU, reason: /computes on the CPU/ },
  ];
  for (const { what, args, reason } of cases) {
    it(`${what}: the CPU computes, and the reason is reported`, async () => {
      const browser = await launch({ args });
      try {
        const { page, problems } = await openAi(browser, files.url, {});
        const { response } = await inPage(page, async (ai, input) => ai.run("@cf/meta/llama-3.1-8b-instruct", input), COUNTING);
        assert.equal(response, " 8, 9,");
        const [backend, why] = await page.evaluate(() => [ai.backend, ai.backendReason]);
        assert.equal(backend, "cpu");
        assert.match(why, reason);
        const { models } = await inPage(page, async (ai) => ai.stats());
        assert.deepEqual([models[0].backend, models[0].reason, models[0].gpu], ["cpu", why, undefined]);
        assert.deepEqual(problems, []);
      } finally {
        await browser.close();
      }
    });
  }

  it("backend: \"cpu\" requests no adapter and reports no reason", async () => {
    const browser = await launch();
    try {
      const { page } = await openAi(browser, files.url, { backend: "cpu" });
      assert.deepEqual(await inPage(page, async (ai) => ai.load()), { model: `${files.url}/models/${DEFAULT_MODEL.file}`, backend: "cpu", reason: null });
    } finally {
      await browser.close();
    }
  });

  it("backend: \"webgpu\" without an adapter is error 5004 with a clear message", async () => {
    const browser = await launch();
    try {
      const { page } = await openAi(browser, files.url, { backend: "webgpu" });
      const { error } = await inPage(page, async (ai) => ai.load());
      assert.match(error, /^AiError: 5004: There is no WebGPU adapter here\. Set backend: "cpu" to compute on the CPU\.$/);
    } finally {
      await browser.close();
    }
  });
});

describe("on a software adapter, with backend: \"webgpu\"", () => {
  let browser;
  let page;
  let problems;

  before(async () => {
    browser = await launch({ args: SOFTWARE_GPU });
    ({ page, problems } = await openAi(browser, files.url, { backend: "webgpu" }));
  });
  after(() => browser?.close());

  it("loads, and every kernel passes its check", async () => {
    const loaded = await inPage(page, async (ai) => ai.load());
    assert.equal(loaded.error, undefined);
    assert.deepEqual([loaded.backend, loaded.reason], ["webgpu", null]);
    const { memoryBytes, models } = await inPage(page, async (ai) => ai.stats());
    assert.ok(memoryBytes < 64 << 20, `${memoryBytes} bytes of WebAssembly memory, although the weights are on the GPU`);
    assert.ok(models[0].gpu.bytesAllocated > 95_000_000);
  });

  it("reports the compiled and checked kernels, after the file", async () => {
    const progress = await page.evaluate(() => globalThis.progress);
    const phases = progress.map(({ phase }) => phase).filter((phase, index, all) => phase !== all[index - 1]);
    assert.deepEqual(phases, ["weights", "compile", "check"]);
    for (const phase of ["compile", "check"]) {
      const steps = progress.filter((step) => step.phase === phase);
      const { total } = steps[0].kernels;
      assert.deepEqual(steps.map(({ kernels }) => kernels), Array.from({ length: total }, (_, index) => ({ ready: index + 1, total })));
      for (const { loaded } of steps) assert.equal(loaded, DEFAULT_MODEL.size);
    }
  });

  it("writes the CPU's greedy text, in one submission per token", async () => {
    const gpu = async () => (await inPage(page, async (ai) => ai.stats())).models[0].gpu;
    const first = await inPage(page, async (ai, input) => ai.run("@cf/meta/llama-3.1-8b-instruct", input), COUNTING);
    assert.equal(first.response, " 8, 9,");
    const before = await gpu();
    const { usage } = await inPage(page, async (ai, input) => ai.run("@cf/meta/llama-3.1-8b-instruct", input), { ...COUNTING, prompt: `${COUNTING.prompt} 8, 9,` });
    assert.ok(usage.prompt_tokens_details.cached_tokens > 10, "the prefix is cached");
    const after = await gpu();
    const passes = after.submissions - before.submissions;
    assert.ok(passes <= usage.completion_tokens + 1, `${passes} submissions`);
    assert.ok(after.dispatches - before.dispatches <= passes * (30 * 12 + 20));
    assert.equal(after.buffersCreated, before.buffersCreated);
    assert.equal(await page.evaluate(() => ai.backend), "webgpu");
  });

  it("honours seed, penalties and a schema", async () => {
    const answers = await inPage(page, async (ai) => {
      const run = (input) => ai.run("@cf/meta/llama-3.1-8b-instruct", { raw: true, max_tokens: 6, ...input });
      const seeded = { prompt: "Once upon a time", temperature: 1, seed: 5, repetition_penalty: 1.2, frequency_penalty: 0.5 };
      const [a, b] = [await run(seeded), await run(seeded)];
      const json = await run({ prompt: "A number:", temperature: 0, max_tokens: 12, response_format: { type: "json_schema", json_schema: { type: "integer" } } });
      return { a: a.response, b: b.response, json: json.response };
    });
    assert.equal(answers.error, undefined);
    assert.equal(answers.a, answers.b);
    assert.ok(Number.isInteger(answers.json), JSON.stringify(answers));
  });

  it("serves concurrent requests, one of which is aborted", async () => {
    const outcome = await inPage(page, async (ai, input) => {
      const controller = new AbortController();
      const aborted = ai.run("@cf/meta/llama-3.1-8b-instruct", { ...input, max_tokens: 200 }, { signal: controller.signal }).catch(({ name }) => name);
      setTimeout(() => controller.abort(), 1500);
      const other = ai.run("@cf/meta/llama-3.1-8b-instruct", input);
      return [await aborted, (await other).response];
    }, COUNTING);
    assert.deepEqual(outcome, ["AbortError", " 8, 9,"]);
  });

  it("logs no errors on the console", () => assert.deepEqual(problems, []));
});
