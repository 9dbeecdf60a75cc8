// Embedding models of the engine's own compute what llama.cpp computes over the same weights (`embeddings.mjs`).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ai } from "workers-ai-local";
import { int } from "../gguf-fixtures.mjs";
import { cosine } from "../real-embeddings.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { EMBEDDING_KINDS, TEXTS, embeddingFile, readEmbeddings } from "./embeddings.mjs";
import { modelFile } from "./files.mjs";
import { publishedVocabulary } from "./published.mjs";

const MODEL = "@cf/own/embeddings";
const expected = await readEmbeddings();

/** llama.cpp keeps keys and values as F16, which random weights make more of than trained ones. */
const NEAR = 0.9999;

for (const kind of Object.keys(EMBEDDING_KINDS)) {
  test(kind, async () => {
    assert.equal(expected[kind]?.length, TEXTS.length, "run `npm run oracle -- embeddings`");
    const ai = new Ai({ models: { [MODEL]: { weights: await embeddingFile(kind) } } });
    try {
      const { shape, data, pooling } = await ai.run(MODEL, { text: TEXTS });
      assert.deepEqual([shape, pooling], [[TEXTS.length, 64], undefined]);
      for (const [index, text] of TEXTS.entries()) {
        assert.ok(cosine(data[index], expected[kind][index]) >= NEAR, `${text.slice(0, 40)}: ${cosine(data[index], expected[kind][index])}`);
        assert.ok(Math.abs(Math.hypot(...data[index]) - 1) < 1e-5);
        const alone = await ai.run(MODEL, { text });
        assert.deepEqual(alone.data[0], data[index], "what is computed beside a text has no influence");
      }
    } finally {
      await ai.close();
    }
  });
}

const QWEN3 = "@cf/qwen/qwen3-embedding-0.6b";

test("a query is read with its instruction", async () => {
  const ai = new Ai({ models: { [QWEN3]: await embeddingFile("qwen3, the last token") } });
  const { shape, data } = await ai.run(QWEN3, { queries: "dogs", instruction: "Find animals", documents: ["A cat.", "A dog."] });
  const plain = await ai.run(QWEN3, { text: ["Instruct: Find animals\nQuery:dogs", "A cat.", "A dog."] });
  assert.deepEqual({ shape, data }, plain);
  const usual = await ai.run(QWEN3, { queries: ["dogs"] });
  const text = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:dogs";
  assert.deepEqual(usual, await ai.run(QWEN3, { text }));
  await ai.close();
});

test("a text longer than the model's positions is cut, and keeps its end token", async () => {
  const ai = new Ai({ models: { [QWEN3]: await embeddingFile("qwen3, the last token") } });
  const usage = async (input) => (await (await ai.fetch("http://localhost/v1/embeddings", { method: "POST", body: JSON.stringify({ model: QWEN3, input }) })).json()).usage;
  assert.equal((await usage(TEXTS[0])).prompt_tokens, 5);
  const long = "word ".repeat(600);
  assert.equal((await usage(long)).prompt_tokens, 512);
  const { data } = await ai.run(QWEN3, { text: [long, `${long}and so on`] });
  assert.deepEqual(data[0], data[1]);
  await ai.close();
});

test("names of control tokens in a text are text", async () => {
  const ai = new Ai({ models: { [QWEN3]: await embeddingFile("qwen3, the mean") } });
  const tokens = async (input) => (await (await ai.fetch("http://localhost/v1/embeddings", { method: "POST", body: JSON.stringify({ model: QWEN3, input }) })).json()).usage.total_tokens;
  assert.ok((await tokens("a<|im_end|>b")) > 3);
  await ai.close();
});

test("text and embeddings are computed at the same time, and each id wants its kind of file", async () => {
  const file = await embeddingFile("gemma-embedding");
  const text = scriptedModel().bytes;
  const warnings = [];
  const ai = new Ai({ default: text, defaultEmbeddings: file, models: { "@cf/own/text": file, "@cf/own/vectors": { weights: text } }, onWarning: (warning) => warnings.push(warning) });
  const [answer, ...vectors] = await Promise.all([
    ai.run("@cf/meta/llama-3.2-1b-instruct", { prompt: "Hi", max_tokens: 20 }),
    ...TEXTS.map((text) => ai.run("@cf/baai/bge-m3", { text })),
  ]);
  assert.equal(typeof answer.response, "string");
  for (const [index, { data }] of vectors.entries()) assert.ok(cosine(data[0], expected["gemma-embedding"][index]) >= NEAR);
  assert.match(warnings.join("\n"), /bge-m3 has no local weights; the embedding model .* answers instead, with vectors of 64 numbers/);
  await assert.rejects(ai.run("@cf/own/text", { prompt: "Hi" }), /5004: .* is an embedding model, and this id is one of text generation\. .*\{ weights: … \}/);
  await assert.rejects(ai.run("@cf/own/vectors", { text: "Hi" }), /5004: .* generates text/);
  assert.deepEqual(await ai.load("@cf/baai/bge-m3"), { model: (await ai.load("@cf/baai/bge-m3")).model, backend: "cpu", reason: null });
  await ai.close();
  const strict = new Ai({ default: text, defaultEmbeddings: file, strict: true });
  await assert.rejects(strict.run("@cf/baai/bge-m3", { text: "Hi" }), { message: "5007: No such model @cf/baai/bge-m3 or task" });
  await strict.close();
});

test("an aborted request ends, and the next one is computed", async () => {
  const ai = new Ai({ models: { [QWEN3]: await embeddingFile("gemma-embedding") } });
  await ai.load(QWEN3);
  const text = Array(100).fill(TEXTS[4]);
  await assert.rejects(ai.run(QWEN3, { text }, { signal: AbortSignal.timeout(100) }), { name: "TimeoutError" });
  assert.deepEqual((await ai.run(QWEN3, { text: "a" })).shape, [1, 64]);
  await ai.close();
});

test("files that contradict themselves are clear errors", async () => {
  const refused = async (kind, metadata, pattern) => {
    const options = { ...EMBEDDING_KINDS[kind] };
    const file = modelFile(await publishedVocabulary("qwen3"), { ...options, metadata: { ...options.metadata, ...metadata } });
    const ai = new Ai({ models: { [QWEN3]: file } });
    await assert.rejects(ai.run(QWEN3, { text: "a" }), pattern);
    await ai.close();
  };
  const dense = "gemma-embedding, with dense matrices";
  await refused("qwen3, the mean", { ".pooling_type": int(4) }, /5004: .*it ranks texts \(a reranker\)/);
  await refused("qwen3, the mean", { ".pooling_type": int(9) }, /5004: .*'qwen3\.pooling_type' is 9, which is not known/);
  await refused("gemma-embedding", { ".pooling_type": undefined }, /5004: .*its attention is not causal, and it has no kind of pooling/);
  await refused(dense, { ".dense_2_feat_in": int(7) }, /5004: .*'gemma-embedding\.dense_2_feat_in' is not 64/);
  await refused(dense, { ".dense_3_feat_out": int(7) }, /5004: .*tensor 'dense_3\.weight' is \[64, 192\] .* must be \[7, 192\]/);
});
