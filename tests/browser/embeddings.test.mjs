// Embeddings in Chromium: in a Web Worker of their own, of which nothing is requested before an embedding is.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { startEmbeddingServer } from "../embedding-server.mjs";
import { EMBEDDING_MODEL, assertFinds, cosine, expectedVectors } from "../real-embeddings.mjs";
import { MODEL, MODEL_PATH, PARIS } from "../real-model.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { launch } from "./chromium.mjs";

describe("embeddings in Chromium", () => {
  let files;
  let server;
  let browser;
  let page;
  let problems;
  /** The addresses of all requests of the page and its Web Workers. */
  const requested = [];
  const ofEmbeddings = () => requested.filter((url) => /embedding/.test(new URL(url).pathname) && !/\/(default-|remote-)?embeddings\.js$/.test(url));

  before(async () => {
    files = await startEmbeddingServer();
    server = await startPlayground({ modelPath: MODEL_PATH });
    browser = await launch();
    ({ page, problems } = await openAi(browser, server.url, { defaultEmbeddings: files.files }));
    page.context().on("request", (request) => requested.push(request.url()));
  });

  after(async () => {
    await browser?.close();
    await server?.close();
    await files?.close();
  });

  const run = (model, input) => inPage(page, (ai, [model, input]) => ai.run(model, input), [model, input]);

  it("text needs nothing of it", async () => {
    assert.equal((await run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
    assert.ok(requested.some((url) => url.endsWith("/simd128/workers_ai_local_bg.wasm")), "the requests of Web Workers are seen");
    assert.deepEqual([ofEmbeddings(), files.asked], [[], []]);
    assert.equal(page.workers().length, 1);
  });

  it("vectors are those of candle natively", async () => {
    for (const { text, pooling, candle } of await expectedVectors()) {
      const { shape, data, error } = await run(EMBEDDING_MODEL, { text, pooling });
      assert.deepEqual([shape, error], [[1, 384], undefined]);
      assert.ok(cosine(data[0], candle) >= 0.999999, `${text}: ${cosine(data[0], candle)}`);
    }
    assert.deepEqual(files.asked.toSorted(), ["config", "tokenizer", "weights"]);
    assert.ok(ofEmbeddings().some((url) => url.endsWith("/embeddings/workers_ai_local_embeddings_bg.wasm")), String(ofEmbeddings()));
    assert.equal(page.workers().filter((worker) => worker.url().endsWith("/browser-embeddings.js")).length, 1);
    assert.ok((await page.evaluate(() => progress)).some(({ model, phase, loaded, total }) => model.includes("minilm") && phase === "weights" && loaded === total));
  });

  it("find what they should", async () => {
    await assertFinds(async (text) => (await run("@cf/baai/bge-small-en-v1.5", { text })).data);
  });

  it("are errors where they should be, and end when they are aborted", async () => {
    assert.deepEqual(await run(EMBEDDING_MODEL, { text: [] }), { error: "AiError: 5006: Length of '/text' must be >= 1" });
    const aborted = await inPage(
      page,
      async (ai, model) => {
        const text = Array.from({ length: 100 }, (_, number) => `Sentence ${number}. `.repeat(40));
        return ai.run(model, { text }, { signal: AbortSignal.timeout(200) });
      },
      EMBEDDING_MODEL,
    );
    assert.match(aborted.error, /^TimeoutError/);
    assert.deepEqual((await run(EMBEDDING_MODEL, { text: "a" })).shape, [1, 384]);
  });

  it("has its files stored, and answers without their server", async () => {
    await files.close();
    const shape = await page.evaluate(
      async ({ model, defaultEmbeddings }) => {
        const { Ai } = await import("/pkg/browser.js");
        const other = new Ai({ defaultEmbeddings, threads: 1 });
        const { shape } = await other.run(model, { text: "a" });
        await other.close();
        return shape;
      },
      { model: EMBEDDING_MODEL, defaultEmbeddings: files.files },
    );
    assert.deepEqual(shape, [1, 384]);
    assert.deepEqual(files.asked.toSorted(), ["config", "tokenizer", "weights"]);
    // The browser reports requests that failed.
    assert.ok(problems.every((text) => text.includes("ERR_CONNECTION_REFUSED")), String(problems));
    problems.length = 0;
  });

  it("close() ends its Web Worker too", async () => {
    await page.evaluate(() => ai.close());
    for (const end = Date.now() + 5_000; page.workers().length > 0 && Date.now() < end; ) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual(page.workers().map((worker) => worker.url()), []);
    assert.deepEqual(problems, []);
  });
});
