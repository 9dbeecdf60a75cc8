// The package in a real Chromium: the same answers as in Node, with the engine in a Web Worker.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, it } from "node:test";
import { staticFiles } from "../../pkg/cli/static-files.js";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { Ai } from "../../pkg/node.js";
import { builds } from "../../pkg/wasm/builds.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { startPlayground } from "../../scripts/playground.mjs";
import { PARITY_INPUTS, parityTexts } from "../parity-inputs.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { launch, openPage } from "./chromium.mjs";

describe("the package in Chromium", () => {
  let server;
  let browser;
  let page;
  let problems;

  before(async () => {
    server = await startPlayground({ modelPath: MODEL_PATH });
    browser = await launch();
    ({ page, problems } = await openPage(browser));
    // A page of the same origin that does nothing by itself.
    await page.goto(`${server.url}/pkg/default-model.js`);
    await page.evaluate(async (file) => {
      const { Ai } = await import("/pkg/browser.js");
      const progress = [];
      globalThis.Ai = Ai;
      globalThis.progress = progress;
      globalThis.ai = new Ai({ default: `/models/${file}`, onProgress: (step) => progress.push(step), onWarning() {} });
    }, DEFAULT_MODEL.file);
  });

  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it("loads in a Web Worker and tells its progress", async () => {
    const loaded = await page.evaluate(() => ai.load());
    assert.equal(loaded.backend, "cpu");
    const last = await page.evaluate(() => progress.at(-1));
    assert.deepEqual([last.loaded, last.total], [DEFAULT_MODEL.size, DEFAULT_MODEL.size]);
    assert.equal(page.workers().filter((worker) => worker.url().endsWith("/browser-worker.js")).length, 1);
  });

  it("gives byte for byte the text that Node gives", async () => {
    const inNode = await parityTexts(((ai) => ai.run.bind(ai))(new Ai({ onWarning() {} })));
    const inChromium = {};
    for (const { what, model, input } of PARITY_INPUTS) {
      inChromium[what] = await page.evaluate(async ({ model, input }) => (await ai.run(model, input)).response, { model, input });
    }
    assert.deepEqual(inChromium, inNode);
  });

  it("computes with kernels that agree with their reference", async () => {
    const [different, compared] = await page.evaluate(async () => {
      const wasm = await import("/pkg/wasm/simd128/workers_ai_local.js");
      await wasm.default({ module_or_path: "/pkg/wasm/simd128/workers_ai_local_bg.wasm" });
      return [...wasm.compareKernels(5, 20)];
    });
    assert.ok(compared > 1000);
    assert.equal(different, 0);
  });

  it("streams bytes, only while they are read", async () => {
    const outcome = await page.evaluate(async () => {
      const tokens = async () => (await ai.stats()).models[0].tokens;
      const rest = () => new Promise((resolve) => setTimeout(resolve, 400));
      const stream = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Count.", raw: true, stream: true, max_tokens: 200, temperature: 1, seed: 1 });
      const before = await tokens();
      await rest();
      const unread = (await tokens()) - before;
      const reader = stream.getReader({ mode: "byob" });
      const { value } = await reader.read(new Uint8Array(4096));
      const read = (await tokens()) - before;
      await rest();
      const paused = (await tokens()) - before - read;
      await reader.cancel();
      await rest();
      return { unread, read, paused, first: new TextDecoder().decode(value), active: (await ai.stats()).models[0].active };
    });
    assert.equal(outcome.unread, 0);
    assert.ok(outcome.read > 0 && outcome.read < 20, `${outcome.read} tokens for the first piece`);
    assert.equal(outcome.paused, 0);
    assert.match(outcome.first, /^data: \{"response":".+"\}\n\n$/);
    assert.equal(outcome.active, 0);
  });

  it("ends with an AbortError before the start, in flight and in the middle of a stream", async () => {
    const { expected, ...outcome } = await page.evaluate(async () => {
      const nameOf = (promise) => promise.then(() => "none", (error) => `${error instanceof DOMException} ${error.name}`);
      const input = { prompt: "Go on.", raw: true, max_tokens: 400, temperature: 1, seed: 2 };
      const model = "@cf/meta/llama-3.1-8b-instruct";
      const capital = async () => (await ai.run(model, { prompt: "The capital of France is", raw: true, temperature: 0, max_tokens: 3 })).response;
      const expected = await capital();
      const before = await nameOf(ai.run(model, input, { signal: AbortSignal.abort() }));
      const abort = new AbortController();
      const running = nameOf(ai.run(model, input, { signal: abort.signal }));
      setTimeout(() => abort.abort(), 100);
      const inFlight = await running;
      const later = new AbortController();
      const stream = await ai.run(model, { ...input, stream: true }, { signal: later.signal });
      const reader = stream.getReader();
      await reader.read();
      later.abort();
      const midStream = await nameOf(reader.read());
      return { before, inFlight, midStream, active: (await ai.stats()).models[0].active, text: await capital(), expected };
    });
    const abort = "true AbortError";
    assert.match(expected, /^ Paris/);
    assert.deepEqual(outcome, { before: abort, inFlight: abort, midStream: abort, active: 0, text: expected });
  });

  it("throws the binding's errors across the Web Worker, and goes on", async () => {
    const errors = await page.evaluate(async () => {
      const message = (promise) => promise.then(() => "none", (error) => `${error.name} ${error.message}`);
      const model = "@cf/meta/llama-3.1-8b-instruct";
      const missing = new Ai({ default: "/models/nothing-here.gguf" });
      return [
        await message(ai.run("@cf/x/y", { prompt: "a" })),
        await message(ai.run(model, { prompt: "a", top_k: 0 })),
        await message(ai.run(model, { prompt: "\ud800" })),
        await message(ai.run(model, { prompt: 1n })),
        (await message(missing.run(model, { prompt: "a" }))).slice(0, 12),
        await message(ai.run(model, { prompt: "a", raw: true, max_tokens: 1 })),
        (await (await ai.run("@cf/x/y", { prompt: "a" }, { returnRawResponse: true })).json()).internalCode,
      ];
    });
    assert.equal(errors[0], "AiError 5007: No such model @cf/x/y or task");
    assert.equal(errors[1], "AiError 5006: oneOf at '/' not met, 0 matches: '/top_k' must be >= 1");
    assert.match(errors[2], /^AiError 5004: Invalid data/);
    assert.match(errors[3], /^AiError 5004: Invalid data/);
    assert.equal(errors[4], "AiError 3042");
    assert.equal(errors[5], "none");
    assert.equal(errors[6], 5007);
  });

  it("reads a Blob and bytes, and serves several requests at once", async () => {
    const texts = await page.evaluate(async (file) => {
      const input = { prompt: "The capital of France is", raw: true, temperature: 0, max_tokens: 8 };
      const blob = await (await fetch(`/models/${file}`)).blob();
      const model = "@cf/own/model";
      const fromBlob = new Ai({ models: { [model]: blob } });
      const all = await Promise.all([ai.run("@cf/meta/llama-3.1-8b-instruct", input), ai.run("@cf/meta/llama-3.1-8b-instruct", input), fromBlob.run(model, input)]);
      return all.map(({ response }) => response);
    }, DEFAULT_MODEL.file);
    assert.equal(new Set(texts).size, 1, JSON.stringify(texts));
  });

  it("says nothing on the console that it should not", () => {
    // The page asked for a model file that is not there.
    assert.deepEqual(problems.filter((problem) => !problem.includes("nothing-here.gguf")), []);
  });
});

describe("the build that a page gets", () => {
  let browser;
  let isolated;
  let plain;

  before(async () => {
    browser = await launch();
    isolated = await startPlayground({ modelPath: MODEL_PATH });
    const answer = staticFiles({ modelPath: MODEL_PATH });
    const server = createServer(async (request, response) => {
      const { writeHead } = response;
      response.writeHead = (status, headers) => {
        const kept = Object.entries(headers).filter(([name]) => !name.startsWith("cross-origin-"));
        return writeHead.call(response, status, Object.fromEntries(kept));
      };
      if (!(await answer(request, response))) response.writeHead(404, {}).end();
    });
    plain = await listening(server);
  });

  after(async () => {
    await browser?.close();
    await isolated?.close();
    await plain?.close();
  });

  /** What computes in a page of a server, once all its threads are there. */
  async function computedAt(url, config = {}) {
    const { page, problems } = await openPage(browser);
    await page.goto(`${url}/pkg/default-model.js`);
    const outcome = await page.evaluate(
      async ({ file, config }) => {
        const { Ai } = await import("/pkg/browser.js");
        const { DOT_PRODUCT, multipliesSignedBytes } = await import("/pkg/dot-products.js");
        const { builds } = await import("/pkg/wasm/builds.js");
        const relaxedIsFaster = builds["relaxed-threads"] && multipliesSignedBytes(new WebAssembly.Module(DOT_PRODUCT));
        const best = relaxedIsFaster ? ["relaxed", "relaxed-threads"] : ["simd128", "threads"];
        const ai = new Ai({ default: `/models/${file}`, onWarning() {}, ...config });
        const input = { prompt: "The capital of France is", raw: true, temperature: 0, max_tokens: 8 };
        const { response } = await ai.run("@cf/meta/llama-3.1-8b-instruct", input);
        const cores = navigator.hardwareConcurrency;
        const expected = cores <= 4 ? cores : Math.min(8, Math.ceil(cores / 2));
        for (let tries = 0; tries < 500 && (await ai.stats()).build.endsWith("threads") && (await ai.stats()).threads < expected; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
        const { build, threads } = await ai.stats();
        return { crossOriginIsolated, build, threads, best, expected, response };
      },
      { file: DEFAULT_MODEL.file, config },
    );
    await page.close();
    return { ...outcome, problems };
  }

  it("has threads where the page is cross-origin isolated", { skip: !builds.threads && 'the build "threads" is not there: `npm run build` says why' }, async () => {
    const { expected, best, ...page } = await computedAt(isolated.url);
    const single = await computedAt(isolated.url, { threads: 1 });
    assert.equal(single.build, best[0]);
    assert.deepEqual(page, { crossOriginIsolated: true, build: best[expected > 1 ? 1 : 0], threads: expected, response: single.response, problems: [] });
  });

  it("has one thread elsewhere", async () => {
    const { build, threads, best, crossOriginIsolated, problems } = await computedAt(plain.url);
    assert.deepEqual({ build, threads, crossOriginIsolated, problems }, { build: best[0], threads: 1, crossOriginIsolated: false, problems: [] });
  });
});
