// LoRA adapters of the local AI Worker: its variable AI_LORAS names keys in R2, a folder there, or URLs.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { listening } from "../../scripts/lib/ports.mjs";
import { run } from "../../scripts/lib/process.mjs";
import { wranglerCommand } from "../../scripts/lib/wrangler.mjs";
import { ggufAdapter, peftAdapter, successorAdapter } from "../adapters.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const MODEL = "@cf/own/scripted";
const model = scriptedModel({ tokens: [{ text: "Bonjour", kind: 1 }], next: { Bonjour: " there" } });
const adapter = successorAdapter(model, { "\n": "Bonjour" });
const { config, weights } = peftAdapter(adapter);
/** The objects in R2, by key. */
const OBJECTS = {
  "model.gguf": model.bytes,
  "french.gguf": ggufAdapter(adapter),
  "french/adapter_config.json": config,
  "french/adapter_model.safetensors": weights,
};

let folder;
let server;
let worker;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-lora-"));
  const persistTo = path.join(folder, "state");
  for (const [key, bytes] of Object.entries(OBJECTS)) {
    const file = path.join(folder, "object");
    await writeFile(file, bytes);
    const { command, args, env } = wranglerCommand("r2", "object", "put", `models/${key}`, "--file", file, "--local", "--persist-to", persistTo);
    await run(command, args, { env, onLine: () => {} });
  }
  server = await listening(createServer((request, response) => response.end(OBJECTS["french.gguf"])));
  worker = await startDevWorker({
    quiet: true,
    configs: ["wrangler.toml"],
    persistTo,
    vars: {
      AI_MODELS: JSON.stringify({ [MODEL]: "model.gguf" }),
      AI_LORAS: JSON.stringify({
        key: "french.gguf",
        folder: { model: MODEL, source: "french/" },
        pair: { source: { config: "french/adapter_config.json", weights: "french/adapter_model.safetensors" } },
        url: `${server.url}/french.gguf`,
        other: { model: "@cf/own/other", source: "french.gguf" },
        missing: "none/",
      }),
    },
  });
});
after(async () => {
  await worker?.stop();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

async function ask(lora) {
  const body = JSON.stringify({ prompt: "Hi", temperature: 0, lora });
  const { result, errors } = await (await fetch(`${worker.url}/client/v4/accounts/local/ai/run/${MODEL}`, { method: "POST", body })).json();
  return result.response ?? `${errors[0].code} ${errors[0].message}`;
}

test("adapters are read from R2 and from URLs", async () => {
  for (const lora of ["key", "folder", "pair", "url"]) assert.equal(await ask(lora), "Bonjour there!", lora);
  assert.equal(await ask(undefined), "Hello there!");
});

test("an error says what is wrong", async () => {
  assert.match(await ask("none"), /^5005 AiError: LoRA adapter 'none' is not known here\. Known: folder, key, missing, other, pair, url\./);
  assert.match(await ask("other"), /^5005 AiError: LoRA adapter 'other' is for the model @cf\/own\/other/);
  assert.match(await ask("missing"), /^3042 AiError: The model file R2 object none\/adapter_config\.json was not found/);
});
