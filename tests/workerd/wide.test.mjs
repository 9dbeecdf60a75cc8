// 64-bit memory in workerd: its build gives Node's texts, and a model moves there with the request that 32 bits do not hold.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { listening } from "../../scripts/lib/ports.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { checkParity } from "./worker.mjs";

test("workerd with 64-bit memory and Node return the same texts", (t) => checkParity(t, "wasm64"));

test("the local Worker moves a model by itself", async (t) => {
  const { bytes } = scriptedModel({ script: [" one", " two"], context: 1 << 24, headWidth: 128 });
  const files = await listening(createServer((_, response) => response.end(bytes)));
  t.after(() => files.close());
  const model = "@cf/own/large";
  const worker = await startDevWorker({ configs: ["wrangler.toml"], vars: { AI_MODELS: JSON.stringify({ [model]: `${files.url}/large.gguf` }) }, quiet: true });
  t.after(() => worker.stop());
  const ask = async (max_tokens, stream = false) => {
    const body = JSON.stringify({ messages: [{ role: "user", content: "Count!" }], max_tokens, stream });
    return (await fetch(`${worker.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body })).text();
  };
  for (const most of [10, 10_000_000, 10]) assert.equal(JSON.parse(await ask(most)).result?.response, " one two", `at most ${most} tokens`);
  assert.match(await ask(10_000_000, true), /"response":" two"/);
});
