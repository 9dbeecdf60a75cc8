// A model larger than 4 GiB, the maximum of a WebAssembly memory, computed by the GPU backend. Chromium uses a software adapter, so
// the only token takes about a minute.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { largeModel, startLargeModelServer } from "../large-model.mjs";
import { likeliestAfter } from "../large-model-reference.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { SOFTWARE_GPU, launch } from "./chromium.mjs";

/** Where the server cuts the first connection, in bytes: the range request for the rest starts above 2^32. */
const CUT = 4_400_000_000;

let files;
let model;
let server;
let browser;
let page;
let problems;

before(async () => {
  files = await startPlayground();
  model = await largeModel();
  server = await startLargeModelServer(model, { cut: CUT });
  browser = await launch({ args: SOFTWARE_GPU });
  ({ page, problems } = await openAi(browser, files.url, { backend: "webgpu", default: `${server.url}/llama-3-8b-shape.gguf` }));
});
after(async () => {
  await browser?.close();
  await server?.close();
  await files?.close();
});

/** The resident memory of all processes of the browser in bytes, on Linux. */
async function residentBytes(session) {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const statuses = await Promise.all(processInfo.map(({ id }) => readFile(`/proc/${id}/status`, "utf8").catch(() => "")));
  return statuses.reduce((sum, status) => sum + 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0), 0);
}

describe("a model of Llama 3 8B's shape", () => {
  it("loads with range requests, and needs little memory", async (test) => {
    assert.ok(model.size > 4.5e9);
    const session = await browser.newBrowserCDPSession();
    let most = 0;
    const watch = setInterval(() => void residentBytes(session).then((bytes) => (most = Math.max(most, bytes)), () => {}), 1000);
    const started = Date.now();
    const loaded = await inPage(page, async (ai) => ai.load());
    clearInterval(watch);
    const seconds = (Date.now() - started) / 1000;
    assert.equal(loaded.error, undefined);
    assert.equal(loaded.backend, "webgpu");
    const { loaded: bytes, total } = await page.evaluate(() => globalThis.progress.at(-1));
    assert.deepEqual([bytes, total], [model.size, model.size]);
    assert.equal(server.ranges.length, 2);
    assert.ok(server.ranges[1] > 2 ** 32 && server.ranges[1] <= CUT, `from ${server.ranges[1]} on`);

    const { memoryBytes, models } = await inPage(page, async (ai) => ai.stats());
    const { bytesAllocated } = models[0].gpu;
    test.diagnostic(
      `${(model.size / 1e6 / seconds).toFixed(0)} MB/s, ${(memoryBytes / 1e6).toFixed(1)} MB of WebAssembly memory, ` +
        `${(bytesAllocated / 1e9).toFixed(2)} GB on the GPU, at most ${(most / 1e9).toFixed(2)} GB in all processes`,
    );
    assert.ok(memoryBytes < 64 << 20, `${memoryBytes} bytes of WebAssembly memory, including the tokenizer`);
    assert.ok(bytesAllocated > 4.5e9);
    // The software adapter uses main memory, so the weights are there once, besides the browser itself and data in transit.
    assert.ok(most < bytesAllocated + 2 ** 31, `${most} bytes in all processes`);
  });

  it("answers with the likeliest token of the reference implementation", async () => {
    const prompt = ["Ġsky", "Ġblue"];
    const input = { prompt: " sky blue", raw: true, temperature: 0, max_tokens: 1 };
    const { response, usage, error } = await inPage(page, async (ai, input) => ai.run("@cf/meta/llama-3.1-8b-instruct", input), input);
    assert.equal(error, undefined);
    assert.equal(usage.prompt_tokens, prompt.length);
    assert.equal(response, likeliestAfter(model, prompt));
    assert.deepEqual(problems, []);
  });
});
