// `wrangler ai finetune create` and `list` against `serve`: the published wrangler uploads an adapter, and requests name it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Ai } from "workers-ai-local";
import { withUploads } from "../../pkg/cli/finetunes.js";
import { createServer } from "../../pkg/cli/serve.js";
import { npmBin, withNode22 } from "../../scripts/lib/project.mjs";
import { peftAdapter, successorAdapter } from "../adapters.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const MODEL = "@cf/meta-llama/llama-2-7b-chat-hf-lora";
const model = scriptedModel({ tokens: [{ text: "Bonjour", kind: 1 }], next: { Bonjour: " there" } });
const INPUT = { prompt: "Hi", temperature: 0 };

let ai;
let server;
let url;
let folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-finetune-"));
  const { config, weights } = peftAdapter(successorAdapter(model, { "\n": "Bonjour" }));
  await writeFile(path.join(folder, "adapter_config.json"), config);
  await writeFile(path.join(folder, "adapter_model.safetensors"), weights);
  ai = new Ai({ models: { [MODEL]: model.bytes }, backend: "cpu" });
  server = createServer(withUploads(ai, ai));
  await once(server.listen(0, "127.0.0.1"), "listening");
  url = `http://127.0.0.1:${server.address().port}/client/v4`;
});
after(async () => {
  server.close();
  server.closeAllConnections();
  await ai.close();
  await rm(folder, { recursive: true, force: true });
});

const api = async (pathname, init) => (await fetch(`${url}/accounts/local/ai/${pathname}`, init)).json();
const run = (input) => api(`run/${MODEL}`, { method: "POST", body: JSON.stringify(input) });

/** What wrangler prints. */
async function wrangler(...args) {
  const env = { ...withNode22(), CLOUDFLARE_API_BASE_URL: url, CLOUDFLARE_API_TOKEN: "any", CLOUDFLARE_ACCOUNT_ID: "local", WRANGLER_SEND_METRICS: "false", CI: "1" };
  const { stdout, stderr } = await promisify(execFile)(npmBin("wrangler"), ["ai", "finetune", ...args], { env, cwd: folder, timeout: 120_000 });
  return stdout + stderr;
}

test("wrangler creates an adapter, lists it, and requests name it by its name or id", async () => {
  assert.match(await wrangler("list"), /No finetune assets found/);
  assert.match(await wrangler("create", MODEL, "french", folder), /Assets uploaded, finetune "french" is ready to use/);
  const [listed, ...others] = JSON.parse(await wrangler("list", "--json"));
  assert.deepEqual(others, []);
  assert.deepEqual([listed.name, listed.model], ["french", MODEL]);
  for (const lora of ["french", listed.id]) assert.equal((await run({ ...INPUT, lora })).result.response, "Bonjour there!");
  assert.equal((await run(INPUT)).result.response, "Hello there!");
  assert.match(await wrangler("create", MODEL, "french", folder), /There is a LoRA adapter 'french' already/);
});

test("uploads that make no sense are errors", async () => {
  const post = (pathname, body) => api(pathname, { method: "POST", body });
  const form = (entries) => {
    const data = new FormData();
    for (const [name, value] of Object.entries(entries)) data.set(name, value);
    return data;
  };
  const code = ({ success, errors }) => (assert.equal(success, false), errors[0].code);
  assert.equal(code(await post("finetunes", "{}")), 5006);
  assert.equal(code(await post("finetunes", "no JSON")), 5006);
  assert.equal(code(await post("finetunes/none/finetune-assets", form({ file_name: "adapter_config.json", file: new Blob(["{}"]) }))), 3042);
  const { result } = await post("finetunes", JSON.stringify({ model: MODEL, name: "half" }));
  assert.equal(code(await post(`finetunes/${result.id}/finetune-assets`, form({ file_name: "other.bin", file: new Blob(["{}"]) }))), 5006);
  assert.equal((await post(`finetunes/${result.id}/finetune-assets`, form({ file_name: "adapter_config.json", file: new Blob(["{}"]) }))).success, true);
  assert.equal(code(await run({ ...INPUT, lora: "half" })), 5005, "one of its files is missing");
  assert.equal((await post(`finetunes/${result.id}/finetune-assets`, form({ file_name: "adapter_model.safetensors", file: new Blob(["{}"]) }))).success, true);
  const failed = await run({ ...INPUT, lora: "half" });
  assert.equal(code(failed), 5005);
  assert.match(failed.errors[0].message, /LoRA adapter 'half' does not fit/);
});
