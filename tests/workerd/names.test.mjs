// The local Worker with names in its variables: it reads them from the hub, with the hub's token, and stores nothing.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { peftAdapter, successorAdapter } from "../adapters.mjs";
import { splitFile } from "../gguf-fixtures.mjs";
import { TOKEN, startHub } from "../hub-server.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const file = (says) => Buffer.from(scriptedModel({ script: [says] }).bytes);
const [first, second] = splitFile(file("In parts."), [4]).map((bytes) => Buffer.from(bytes));
const MODELS = { "@cf/own/gated": "hf:owner/gated:Q4_K_M", "@cf/own/split": "hf:owner/split", "@cf/own/missing": "hf:owner/gated:Q8_0" };
/** A model, and an adapter with which it says another word. */
const scripted = scriptedModel({ tokens: [{ text: "Bonjour", kind: 1 }], next: { Bonjour: " there" } });
const adapter = peftAdapter(successorAdapter(scripted, { "\n": "Bonjour" }));

let hub;
let worker;
before(async () => {
  hub = await startHub({
    "owner/gated": { gated: true, files: { "model-Q4_K_M.gguf": file("From the hub.") } },
    "owner/scripted": { files: { "model-Q4_0.gguf": Buffer.from(scripted.bytes) } },
    "owner/adapter": { files: { "adapter_config.json": Buffer.from(adapter.config), "adapter_model.safetensors": Buffer.from(adapter.weights) } },
    "owner/split": { files: { "model-Q4_0-00001-of-00002.gguf": first, "model-Q4_0-00002-of-00002.gguf": second } },
  });
});
after(() => hub?.close());

async function start(t, vars) {
  worker = await startDevWorker({ configs: ["wrangler.toml"], vars: { AI_MODELS: JSON.stringify(MODELS), HF_ENDPOINT: hub.url, ...vars }, quiet: true });
  const { stop } = worker;
  t.after(stop);
}

/** What a model says, or the error. */
async function says(model, input = {}) {
  const response = await fetch(`${worker.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body: JSON.stringify({ messages: [{ role: "user", content: "Hi" }], ...input }) });
  const { result, errors } = await response.json();
  return errors?.[0]?.message ?? result.response;
}

test("a name answers, also that of a gated model and of a split one, and says what is missing", async (t) => {
  await start(t, { HF_TOKEN: TOKEN });
  assert.equal(await says("@cf/own/gated"), "From the hub.");
  assert.equal(await says("@cf/own/split"), "In parts.");
  assert.match(await says("@cf/own/missing"), /hf:owner\/gated:Q8_0 was not found: owner\/gated has no Q8_0: it has Q4_K_M/);
  const toCdn = hub.asked.filter(({ to }) => to === "cdn");
  assert.ok(toCdn.length > 0 && toCdn.every(({ headers }) => headers.authorization === undefined));
});

test("without a token, a gated model says where to accept its licence", async (t) => {
  await start(t, {});
  assert.match(await says("@cf/own/gated"), /owner\/gated is gated \(HTTP 401\)\. Accept its licence at http\S+\/owner\/gated, create a token/);
});

test("a repository of the hub with PEFT's two files is an adapter, by its name and as a folder", async (t) => {
  const loras = { repository: "hf:owner/adapter", folder: { source: "hf:owner/adapter/" } };
  await start(t, { AI_MODELS: JSON.stringify({ "@cf/own/scripted": "hf:owner/scripted" }), AI_LORAS: JSON.stringify(loras) });
  assert.equal(await says("@cf/own/scripted"), "Hello there!");
  for (const lora of Object.keys(loras)) assert.equal(await says("@cf/own/scripted", { lora, temperature: 0 }), "Bonjour there!", lora);
});
