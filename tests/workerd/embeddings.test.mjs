// Embeddings in workerd: of the local AI Worker under `wrangler dev`, over HTTP, and through the genuine binding.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startEmbeddingServer } from "../embedding-server.mjs";
import { EMBEDDING_MODEL, HELP, assertFinds, cosine, expectedVectors } from "../real-embeddings.mjs";
import { MODEL, PARIS } from "../real-model.mjs";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { startGenuine } from "./genuine.mjs";

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

describe("through the genuine binding", () => {
  let binding;
  before(async () => {
    binding = await startGenuine({ DEFAULT_EMBEDDINGS: JSON.stringify(files.files) });
  });
  after(() => binding?.stop());

  for (const [whose, how] of [
    ["env.AI", {}],
    ["new Ai(service)", { own: true }],
  ]) {
    test(`${whose}: vectors are those of candle natively`, async () => {
      const [{ text, candle }] = await expectedVectors();
      const { shape, data, pooling } = await binding.run(EMBEDDING_MODEL, { text: [text] }, {}, how);
      assert.deepEqual([shape, pooling], [[1, 384], "mean"]);
      assert.ok(cosine(data[0], candle) >= 0.999999);
    });
  }

  test("contexts are compared with a query, or embedded", async () => {
    const contexts = HELP.documents.map((text) => ({ text }));
    const [query, nearest] = HELP.questions[3];
    const { response } = await binding.run("@cf/baai/bge-m3", { query, contexts });
    assert.deepEqual([response.length, response[0].id], [contexts.length, nearest]);
    const embedded = await binding.run("@cf/baai/bge-m3", { contexts });
    assert.deepEqual([embedded.shape, embedded.response.length], [[contexts.length, 384], contexts.length]);
  });

  test("queries and documents", async () => {
    const { shape, data } = await binding.run("@cf/qwen/qwen3-embedding-0.6b", { queries: HELP.questions[0][0], documents: HELP.documents });
    assert.deepEqual([shape, data.length], [[HELP.documents.length + 1, 384], HELP.documents.length + 1]);
  });

  test("a raw response, and an error", async () => {
    const raw = await binding.respond(EMBEDDING_MODEL, { text: "a" }, { returnRawResponse: true });
    assert.deepEqual([raw.status, raw.headers.get("content-type"), (await raw.json()).shape], [200, "application/json", [1, 384]]);
    await assert.rejects(binding.run(EMBEDDING_MODEL, { text: [] }), { name: "AiError", message: /^5006: .*Length of '\/text' must be >= 1/ });
  });
});
