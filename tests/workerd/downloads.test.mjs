// Downloads in workerd: redirects, the file's SHA-256, and a file that changes on the server. Node's tests have the details.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { DEFAULT_EMBEDDINGS } from "../../pkg/default-embeddings.js";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { FILE, SAYS, startDownloadServer } from "../download-server.mjs";
import { startHub } from "../hub-server.mjs";
import { EMBEDDING_MODEL } from "../real-embeddings.mjs";
import { MODEL, MODEL_PATH } from "../real-model.mjs";

const routes = {};
let server;
let other;
let worker;
before(async () => {
  [server, other] = [await startDownloadServer(routes), await startDownloadServer()];
  routes["/away"] = `${other.url}/0/m.gguf`;
  worker = await startDevWorker({ quiet: true, configs: ["tests/workerd/fixtures/downloads/wrangler.toml"] });
});
after(async () => {
  await worker?.stop();
  await server?.close();
  await other?.close();
});

/** What the model of a source says, or the error. */
async function says(source, { model = MODEL, input = { messages: [{ role: "user", content: "Hi" }] }, hub } = {}) {
  const body = JSON.stringify({ source, hub, model, input });
  return (await fetch(worker.url, { method: "POST", body })).text();
}

test("five redirects are followed, a sixth is 3003", async () => {
  assert.equal(await says(`${server.url}/5/m.gguf`), SAYS);
  assert.match(await says(`${server.url}/6/m.gguf`), /^3003: .* there are more than 5 redirects/);
  assert.equal(server.asked.length, 6 + 6);
});

test("another origin does not get the headers", async () => {
  assert.equal(await says({ url: `${server.url}/away`, headers: { authorization: "Bearer key" } }), SAYS);
  assert.deepEqual([server.asked.at(-1).authorization, other.asked.map(({ authorization }) => authorization)], ["Bearer key", [undefined]]);
});

test("the SHA-256 is compared", async () => {
  const sha256 = createHash("sha256").update(FILE).digest("hex");
  assert.equal(await says({ url: `${server.url}/0/m.gguf`, sha256 }), SAYS);
  assert.match(await says({ url: `${server.url}/0/m.gguf`, sha256: sha256.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) }), /^5004: .* is not the expected file/);
});

test("a file that changes before its second half is 3008", async () => {
  assert.match(await says(`${server.url}/changes.gguf`), /^3008: .* changed while it was read/);
  assert.equal(await says(`${server.url}/changes.gguf`), "The other.");
});

test("the default models come from the mirror that is configured", async (t) => {
  const { pathname } = new URL(DEFAULT_MODEL.url);
  const hub = await startHub({ [pathname.split("/").slice(1, 3).join("/")]: { files: { [DEFAULT_MODEL.file]: await readFile(MODEL_PATH) } } });
  t.after(() => hub.close());
  const configured = { hub: { endpoint: hub.url } };
  assert.doesNotMatch(await says(undefined, { ...configured, input: { prompt: "Hi", max_tokens: 3 } }), /^\d{4}: /);
  assert.equal(hub.asked[0].path, pathname);
  hub.asked.length = 0;
  // It has no files of these.
  assert.match(await says(undefined, { ...configured, model: EMBEDDING_MODEL, input: { text: "Hi" } }), /all-MiniLM-L6-v2/);
  assert.ok(hub.asked.some(({ path }) => path === new URL(DEFAULT_EMBEDDINGS.config.url).pathname), JSON.stringify(hub.asked));
});
