// What `serve` answers about itself, under /local/.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { shownSource } from "../../pkg/cli/serve.js";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { MODEL_PATHNAME, servedFiles } from "../../pkg/cli/static-files.js";
import { partNames } from "../../pkg/source.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { splitFile } from "../gguf-fixtures.mjs";
import "../own-cache.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { startServe } from "../serve-process.mjs";

const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const CONTEXT = 640;
/** What answers for all other ids. */
const OTHER = process.env.WORKERS_AI_LOCAL_MODEL ?? "";

let folder;
let file;
let server;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-api-"));
  file = path.join(folder, "tiny.gguf");
  await writeFile(file, scriptedModel({ context: CONTEXT }).bytes);
  server = await startServe("--port", "0", "--gguf", file, "--model", MODEL, "--threads", "1", "--key", "secret");
});
after(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const ask = (path, body, headers = { authorization: "Bearer secret" }) => fetch(server.url + path, { headers, ...(body !== undefined && { method: "POST", body }) });

test("the status says which model runs, and how", async () => {
  const status = await (await ask("/local/status")).json();
  const { reason, build, memoryBytes, ...rest } = status;
  assert.deepEqual(rest, { status: "ok", model: "tiny.gguf", backend: "cpu", source: file, id: MODEL, models: { [MODEL]: { file: "tiny.gguf", source: file, context: CONTEXT }, "*": { file: path.basename(OTHER) || DEFAULT_MODEL.file, source: OTHER, context: null } }, weights: "/models/tiny.gguf", hub: {}, context: CONTEXT, threads: 1, progress: null });
  assert.match(reason, /WebGPU/);
  assert.match(build, /^(simd128|relaxed)$/);
  assert.ok(memoryBytes > 1e6);
});

test("the model that a browser is to compute itself is the one that the server runs", async () => {
  const { weights } = await (await ask("/local/status")).json();
  const response = await ask(weights);
  assert.deepEqual(new Uint8Array(await response.arrayBuffer()), new Uint8Array(scriptedModel({ context: CONTEXT }).bytes));
});

test("the tokens of a prompt", async () => {
  const response = await ask("/local/tokenize", JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "Hi" }] }));
  const { tokens, text } = await response.json();
  assert.equal(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  assert.ok(tokens.length > 3 && tokens.every(Number.isInteger));
});

for (const [body, status, message] of [
  ["{", 400, /the body must be JSON/],
  ["[]", 400, /the body must be JSON/],
  [JSON.stringify({ model: "@cf/no/such", prompt: "Hi" }), 400, /5007|No such model/],
  [JSON.stringify({ model: MODEL }), 400, /prompt/],
]) {
  test(`an error has a status and a text: ${body}`, async () => {
    const response = await ask("/local/tokenize", body);
    assert.equal(response.status, status);
    const { errors } = await response.json();
    assert.match(errors[0].message, message);
  });
}

test("the source of the model is shown without what may be secret, and its folders to this machine only", () => {
  for (const [source, here, elsewhere = here] of [
    ["https://user:word@s3.example/a/m.gguf?X-Amz-Signature=1#x", "https://s3.example/a/m.gguf"],
    ["https://models.example/m.gguf", "https://models.example/m.gguf"],
    ["hf:owner/repo:Q8_0", "hf:owner/repo:Q8_0"],
    ["", ""],
    ["/home/somebody/models/m.gguf", "/home/somebody/models/m.gguf", "./m.gguf"],
    ["file:///home/somebody/m.gguf", "file:///home/somebody/m.gguf", "./m.gguf"],
  ]) {
    assert.equal(shownSource(source, { loopback: true }), here);
    assert.equal(shownSource(source, { loopback: false }), elsewhere);
  }
});

test("the model of a file: URL, and of an address with a signature, is at the server's own address for a browser", async (t) => {
  const bytes = scriptedModel({ context: CONTEXT }).bytes;
  const bucket = await listening(createServer((request, response) => response.writeHead(request.url.endsWith("?signature=1") ? 200 : 403, { etag: '"1"' }).end(bytes)));
  t.after(() => bucket.close());
  for (const source of [pathToFileURL(file).href, `${bucket.url}/tiny.gguf?signature=1`]) {
    const other = await startServe("--port", "0", "--gguf", source, "--threads", "1");
    try {
      const text = await (await fetch(`${other.url}/local/status`)).text();
      assert.doesNotMatch(text, /signature/);
      const { weights } = JSON.parse(text);
      assert.equal(weights, "/models/tiny.gguf");
      assert.deepEqual(new Uint8Array(await (await fetch(other.url + weights)).arrayBuffer()), new Uint8Array(bytes));
    } finally {
      await other.stop();
    }
  }
});

test("the files of a split model are at names from which a browser finds all of them, however they are called", async (t) => {
  const parts = splitFile(Buffer.from(scriptedModel({ context: CONTEXT }).bytes), [4]);
  const paths = ["a.gguf", "b.gguf"].map((name) => path.join(folder, name));
  await Promise.all(paths.map((each, index) => writeFile(each, parts[index])));
  const other = await startServe("--port", "0", "--gguf", paths[0], "--gguf", paths[1], "--threads", "1");
  t.after(() => other.stop());
  const { weights } = await (await fetch(`${other.url}/local/status`)).json();
  assert.equal(weights, "/models/a-00001-of-00002.gguf");
  assert.equal((await fetch(`${other.url}${MODEL_PATHNAME}`, { method: "HEAD" })).headers.get("content-location"), weights);
  for (const [index, name] of partNames(weights).entries()) assert.deepEqual(new Uint8Array(await (await fetch(other.url + name)).arrayBuffer()), new Uint8Array(parts[index]));
});

test("files of a split model that are called as its parts keep their names", () => {
  const [one, two] = ["/x/m-00001-of-00002.gguf", "/y/m-00002-of-00002.gguf"];
  assert.deepEqual(servedFiles(one), [["m-00001-of-00002.gguf", one], ["m-00002-of-00002.gguf", "/x/m-00002-of-00002.gguf"]]);
  assert.deepEqual(servedFiles([two, one]), [["m-00002-of-00002.gguf", two], ["m-00001-of-00002.gguf", one]]);
  assert.deepEqual(servedFiles("./m.gguf"), [["m.gguf", "./m.gguf"]]);
});

test("without the key there is the page, and nothing else", async () => {
  for (const path of ["/", "/playground.js", "/vendor/markdown.js", "/pkg/browser.js", "/sandbox.html"]) assert.equal((await ask(path, undefined, {})).status, 200, path);
  for (const path of ["/local/status", "/models/tiny.gguf", "/v1/models"]) assert.equal((await ask(path, undefined, {})).status, 401, path);
  assert.equal((await ask("/local/tokenize", "{}", {})).status, 401);
  assert.equal((await ask("/", "{}", {})).status, 401);
});
