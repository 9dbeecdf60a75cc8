// Embeddings in workerd, under `wrangler dev`: of the local AI Worker, through its binding and over HTTP.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startEmbeddingServer } from "../embedding-server.mjs";
import { EMBEDDING_MODEL, assertFinds, cosine, expectedVectors } from "../real-embeddings.mjs";
import { MODEL, PARIS } from "../real-model.mjs";
import { startDevWorker } from "../../scripts/dev-worker.mjs";

let files;
let worker;
before(async () => {
  files = await startEmbeddingServer();
  worker = await startDevWorker({ configs: ["wrangler.toml"], vars: { DEFAULT_EMBEDDINGS: JSON.stringify(files.files) }, quiet: true });
});
after(async () => {
  await worker?.stop();
  await files?.close();
});

const ask = (path, body) => fetch(`${worker.url}${path}`, { method: "POST", body: JSON.stringify(body) });
const run = async (model, input) => {
  const { result, errors } = await (await ask(`/client/v4/accounts/local/ai/run/${model}`, input)).json();
  assert.deepEqual(errors, []);
  return result;
};

test("text needs nothing of it", async () => {
  assert.equal((await run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
  assert.deepEqual(files.asked, []);
});

test("vectors are those of candle natively", async () => {
  for (const { text, pooling, candle } of await expectedVectors()) {
    const { shape, data } = await run(EMBEDDING_MODEL, { text, pooling });
    assert.deepEqual(shape, [1, 384]);
    assert.ok(cosine(data[0], candle) >= 0.999999, `${text}: ${cosine(data[0], candle)}`);
  }
  // Once each, for all requests.
  assert.deepEqual(files.asked.toSorted(), ["config", "tokenizer", "weights"]);
});

test("they find what they should", async () => {
  await assertFinds(async (text) => (await run("@cf/baai/bge-small-en-v1.5", { text })).data);
});

test("a batch of 100 texts beside a text", async () => {
  const [{ shape, data }, { response }] = await Promise.all([
    run(EMBEDDING_MODEL, { text: Array.from({ length: 100 }, (_, number) => `This is text number ${number}.`) }),
    run(MODEL, { ...PARIS, max_tokens: 1 }),
  ]);
  assert.deepEqual([shape, data.length, response], [[100, 384], 100, " Paris"]);
});

test("OpenAI's form and errors", async () => {
  const { data, usage } = await (await ask("/v1/embeddings", { model: EMBEDDING_MODEL, input: ["a", "b"] })).json();
  assert.deepEqual([data.length, data[1].embedding.length, usage.prompt_tokens], [2, 384, 6]);
  const refused = await ask(`/client/v4/accounts/local/ai/run/${EMBEDDING_MODEL}`, { text: [] });
  assert.deepEqual([refused.status, (await refused.json()).errors], [400, [{ code: 5006, message: "AiError: Length of '/text' must be >= 1" }]]);
});

test("the warning names the Worker's variables", () => {
  const warnings = worker.logs.filter((line) => line.includes("bge-base-en-v1.5 has no local weights"));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0], /Give it files with the variable AI_MODELS = \{ "@cf\/baai\/bge-base-en-v1\.5" = \{ weights = /);
});
