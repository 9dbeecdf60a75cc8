// A model larger than 4 GiB, more than a WebAssembly memory can ever hold, computed on the GPU. Chromium plays that GPU on the CPU, so
// the one token takes about a minute.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { largeModel, startLargeModelServer } from "../large-model.mjs";
import { logitsOf } from "../large-model-twin.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { SOFTWARE_GPU, launch } from "./chromium.mjs";

/** Where the first connection breaks: the rest is asked for by a range that no 32 bits can name. */
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

/** Bytes that all of the browser's processes hold in memory, on Linux. */
async function residentBytes(session) {
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  const statuses = await Promise.all(processInfo.map(({ id }) => readFile(`/proc/${id}/status`, "utf8").catch(() => "")));
  return statuses.reduce((sum, status) => sum + 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0), 0);
}

describe("a model of Llama 3 8B's shape", () => {
  it("loads by ranges, through little memory", async (test) => {
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
    assert.ok(memoryBytes < 64 << 20, `${memoryBytes} bytes of memory, the tokenizer's among them`);
    assert.ok(bytesAllocated > 4.5e9);
    // The GPU's memory is this machine's too, so the weights are in it once; beside them the browser itself, and what is on its way.
    assert.ok(most < bytesAllocated + 2 ** 31, `${most} bytes in all processes`);
  });

  it("answers what its numbers say", async () => {
    const prompt = ["Ġsky", "Ġblue"].map((text) => model.tokens.indexOf(text));
    const logits = logitsOf(model, prompt);
    const [first, second] = [...logits.keys()].sort((a, b) => logits[b] - logits[a]);
    assert.ok(logits[first] - logits[second] > 0.2, "rounding does not decide");
    const input = { prompt: " sky blue", raw: true, temperature: 0, max_tokens: 1 };
    const { response, usage, error } = await inPage(page, async (ai, input) => ai.run("@cf/meta/llama-3.1-8b-instruct", input), input);
    assert.equal(error, undefined);
    assert.equal(usage.prompt_tokens, prompt.length);
    assert.equal(response, model.tokens[first].replace("Ġ", " "));
    assert.deepEqual(problems, []);
  });
});
