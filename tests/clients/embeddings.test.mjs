// Embeddings as applications ask for them: LangChain's and the AI SDK's classes, and OpenAI's client.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CloudflareWorkersAIEmbeddings } from "@langchain/cloudflare";
import { cosineSimilarity, embed, embedMany } from "ai";
import OpenAI from "openai";
import { Ai } from "workers-ai-local";
import { createWorkersAI } from "workers-ai-provider";
import { EMBEDDING_MODEL, HELP, assertFinds, cosine, expectedVectors } from "../real-embeddings.mjs";
import { scriptedFile, scriptedModel } from "../scripted-model.mjs";
import { startServer } from "./server.mjs";

const API = "https://api.cloudflare.com";
const [EXPECTED] = await expectedVectors();

const ai = new Ai({ default: scriptedModel().bytes, onWarning() {} });
let file;
let server;
before(async () => {
  file = await scriptedFile();
  server = await startServer("--gguf", file.path);
});
after(async () => {
  await server?.stop();
  await file?.remove();
});

function assertExpected(vector) {
  assert.ok(cosine(vector, EXPECTED.candle) > 0.999999);
}

test("LangChain's CloudflareWorkersAIEmbeddings", async () => {
  const embeddings = new CloudflareWorkersAIEmbeddings({ binding: ai, model: EMBEDDING_MODEL });
  assertExpected(await embeddings.embedQuery(EXPECTED.text));
  await assertFinds((texts) => embeddings.embedDocuments(texts));
  // It sends 50 texts at a time.
  const many = await embeddings.embedDocuments(Array.from({ length: 120 }, (_, number) => `Text ${number}`));
  assert.deepEqual([many.length, many[119].length], [120, 384]);
});

const PROVIDERS = {
  "env.AI": () => createWorkersAI({ binding: ai }),
  "the REST API": () => createWorkersAI({ accountId: "account", apiKey: "key", fetch: (url, init) => fetch(url.replace(API, server.url), init) }),
};

for (const [mode, provider] of Object.entries(PROVIDERS)) {
  describe(`the AI SDK over ${mode}`, () => {
    test("embeds one text and many", async () => {
      const model = provider().textEmbedding(EMBEDDING_MODEL);
      assertExpected((await embed({ model, value: EXPECTED.text })).embedding);
      const { embeddings } = await embedMany({ model, values: HELP.documents });
      const { embedding } = await embed({ model, value: HELP.questions[1][0] });
      const scores = embeddings.map((document) => cosineSimilarity(document, embedding));
      assert.equal(scores.indexOf(Math.max(...scores)), HELP.questions[1][1]);
    });
  });
}

describe("OpenAI's client", () => {
  const client = () => new OpenAI({ baseURL: `${server.url}/client/v4/accounts/account/ai/v1`, apiKey: "key" });

  test("embeds texts: without an encoding_format it asks for base64", async () => {
    await assertFinds(async (input) => (await client().embeddings.create({ model: EMBEDDING_MODEL, input })).data.map(({ embedding }) => embedding));
    for (const encoding_format of [undefined, "float"]) {
      const { data, model, usage } = await client().embeddings.create({ model: EMBEDDING_MODEL, input: EXPECTED.text, ...(encoding_format && { encoding_format }) });
      assertExpected(data[0].embedding);
      assert.equal(model, EMBEDDING_MODEL);
      assert.ok(usage.prompt_tokens > 5 && usage.total_tokens === usage.prompt_tokens);
    }
  });

  test("reports errors", async () => {
    const refused = (body, message) => assert.rejects(client().embeddings.create({ model: EMBEDDING_MODEL, ...body }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError, String(error));
      assert.match(error.message, message);
      return true;
    });
    await refused({ input: Array(101).fill("a") }, /5006: Length of '\/text' must be <= 100/);
    await refused({ input: [1, 2, 3] }, /5006: '\/input' has tokens/);
    await refused({ input: "a", dimensions: 256 }, /5006: '\/dimensions' is 256/);
    await refused({ input: "a", model: "@cf/x/y" }, /5007: No such model/);
  });
});

test("the server's log says how its user gives the model that is missing", async () => {
  const body = JSON.stringify({ model: "@cf/baai/bge-large-en-v1.5", input: "Hi" });
  const response = await fetch(`${server.url}/v1/embeddings`, { method: "POST", body });
  assert.equal(response.status, 200);
  const line = await server.logged(/bge-large-en-v1\.5 has no local weights/);
  assert.match(line, / Give it files in workers-ai-local\.json: \{ "models": \{ "@cf\/baai\/bge-large-en-v1\.5": \{ "weights": .*, or one GGUF with --gguf NAME --model ID\.$/);
});

test("a server of an embedding model says what can be asked of it", async () => {
  const embedding = await startServer("--model", EMBEDDING_MODEL);
  try {
    const line = await embedding.logged(/^ +Try /);
    const [, address, body] = /curl (\S+) .* -d '(.*)'$/.exec(line);
    const { data } = await (await fetch(address, { method: "POST", body })).json();
    assert.equal(data[0].embedding.length, 384);
  } finally {
    await embedding.stop();
  }
});
