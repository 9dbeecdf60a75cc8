// Names of models, and what the hub says that they stand for: against a server that behaves like the hub.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CURATED_MODELS } from "../../pkg/curated-models.js";
import { streamed } from "../../pkg/hub-source.js";
import { endpointOf, quantOf, resolveHub } from "../../pkg/hub.js";
import { parseName } from "../../pkg/names.js";
import { POOR_TOKEN, TOKEN, sha256Of, startHub } from "../hub-server.mjs";

const bytes = (text) => Buffer.from(text.repeat(10));

describe("a name", () => {
  for (const [text, expected] of [
    ["hf:owner/repo", { owner: "owner", repo: "repo", revision: "main" }],
    ["hf:owner/repo:q4_k_m", { owner: "owner", repo: "repo", revision: "main", quant: "q4_k_m" }],
    ["hf:owner/repo@v1.0:Q8_0", { owner: "owner", repo: "repo", revision: "v1.0", quant: "Q8_0" }],
    ["hf:owner/repo/folder/a file.gguf", { owner: "owner", repo: "repo", revision: "main", file: "folder/a file.gguf" }],
    ["hf:owner/repo@refs%2Fpr%2F1/a.gguf", { owner: "owner", repo: "repo", revision: "refs/pr/1", file: "a.gguf" }],
    ["https://huggingface.co/owner/repo", { owner: "owner", repo: "repo", revision: "main" }],
    ["https://huggingface.co/owner/repo/tree/v2", { owner: "owner", repo: "repo", revision: "v2" }],
    ["https://huggingface.co/owner/repo/blob/main/a%20b.gguf", { owner: "owner", repo: "repo", revision: "main", file: "a b.gguf" }],
  ]) {
    test(`on the hub: ${text}`, () => {
      const { kind, name, ...parts } = parseName(text);
      assert.deepEqual({ kind, ...parts }, { kind: "hub", ...expected });
      // Written in full, it means the same.
      assert.deepEqual(parseName(name), { kind, name, ...parts });
    });
  }

  for (const text of ["./model.gguf", "model.gguf", "C:\\model.gguf", "/tmp/m.gguf", "llama-9-1b", "file:///m.gguf"]) {
    test(`is none: ${text}`, () => assert.equal(parseName(text), undefined));
  }

  for (const text of ["https://models.example/a.gguf?x=1", "https://huggingface.co/owner/repo/resolve/main/a.gguf", "https://huggingface.co/datasets/owner", "http://127.0.0.1:8080/m"]) {
    test(`is an address: ${text}`, () => assert.deepEqual(parseName(text), { kind: "url", name: text, url: text }));
  }

  for (const text of ["hf:", "hf:owner", "hf:owner/", "hf:owner/repo:", "hf:owner/repo/", "hf:../repo", "hf:owner/repo/../x.gguf", "hf:owner/repo@", "hf:owner/re po"]) {
    test(`says how to write it: ${text}`, () => assert.throws(() => parseName(text), { name: "AiInternalError", message: /is not the name of a model\. Write hf:owner\/repo, / }));
  }

  test("of a curated model is a name on the hub, in small letters, once", () => {
    const names = CURATED_MODELS.map(({ name }) => name);
    assert.equal(new Set(names).size, names.length);
    for (const model of CURATED_MODELS) {
      const { kind, hub } = parseName(model.name.toUpperCase());
      assert.deepEqual([kind, hub.name, model.name], ["curated", model.source, model.name.toLowerCase()]);
      assert.ok(model.about.endsWith(".") && model.size > 1e7 && model.context >= 1024, model.name);
    }
  });
});

test("the quantisation is in the name of a file or of its folder", () => {
  for (const [path, quant] of [
    ["Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"],
    ["qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"],
    ["model.i1-IQ3_XXS.gguf", "IQ3_XXS"],
    ["UD-Q4_K_XL/a-00001-of-00002.gguf", "UD-Q4_K_XL"],
    ["model-fp16.gguf", "F16"],
    ["gpt-oss-20b-mxfp4.gguf", "MXFP4"],
    ["Q8-cat.gguf", "Q8"],
    ["model.gguf", undefined],
    ["tinyllama-1.1b.gguf", undefined],
  ]) {
    assert.equal(quantOf(path), quant, path);
  }
});

describe("the hub", () => {
  let hub;
  const repositories = {
    "owner/one": { files: { "README.md": bytes("#"), "One-Q8_0.gguf": bytes("8"), "One-Q4_0.gguf": bytes("40"), "One-Q4_K_M.gguf": bytes("4"), "mmproj-One-Q4_K_M.gguf": bytes("m"), "One-imatrix.gguf": bytes("i") }, revisions: ["main", "refs/pr/1"] },
    "owner/split": { files: { "Q4_K_M/s-Q4_K_M-00002-of-00002.gguf": bytes("2"), "Q4_K_M/s-Q4_K_M-00001-of-00002.gguf": bytes("1"), "s-Q8_0-00001-of-00002.gguf": bytes("1") } },
    "owner/several": { files: { "a-Q4_K_M.gguf": bytes("a"), "b-Q4_K_M.gguf": bytes("b") } },
    "owner/plain": { files: { "model.gguf": bytes("p") } },
    "owner/none": { files: { "model.safetensors": bytes("s") } },
    "owner/gated": { gated: true, files: { "g-Q4_K_M.gguf": bytes("g") } },
    "owner/private": { private: true, files: { "p-Q4_K_M.gguf": bytes("p") } },
  };
  before(async () => void (hub = await startHub(repositories)));
  after(() => hub.close());
  const ask = (name, options = {}) => resolveHub(name, { endpoint: hub.url, ...options });
  const files = async (name, options) => (await ask(name, options)).files.map(({ file }) => file);

  test("tells address, size and SHA-256 of the file", async () => {
    const file = bytes("4");
    const url = `${hub.url}/owner/one/resolve/main/One-Q4_K_M.gguf`;
    assert.deepEqual(await ask("hf:owner/one"), { name: "hf:owner/one", quant: "Q4_K_M", files: [{ url, file: "One-Q4_K_M.gguf", size: file.length, sha256: sha256Of(file) }] });
  });

  test("has the file at that address", async () => {
    const [{ url, size }] = (await ask("hf:owner/one")).files;
    assert.equal((await (await fetch(url)).arrayBuffer()).byteLength, size);
  });

  for (const [name, expected] of [
    ["hf:owner/one:q8_0", ["One-Q8_0.gguf"]],
    ["hf:owner/one@refs%2Fpr%2F1:Q4_0", ["One-Q4_0.gguf"]],
    ["hf:owner/one/One-Q8_0.gguf", ["One-Q8_0.gguf"]],
    ["hf:owner/one/README.md", ["README.md"]],
    ["hf:owner/plain", ["model.gguf"]],
    ["hf:owner/split", ["Q4_K_M/s-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/s-Q4_K_M-00002-of-00002.gguf"]],
    ["hf:owner/split/Q4_K_M/s-Q4_K_M-00002-of-00002.gguf", ["Q4_K_M/s-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/s-Q4_K_M-00002-of-00002.gguf"]],
  ]) {
    test(`${name} is ${expected}`, async () => assert.deepEqual(await files(name), expected));
  }

  test("may list its files on several pages", async () => {
    hub.faults.pageSize = 2;
    assert.deepEqual(await files("hf:owner/one:Q4_K_M"), ["One-Q4_K_M.gguf"]);
    hub.faults.pageSize = undefined;
  });

  for (const [name, kind, message, options] of [
    ["hf:owner/one:Q4_K_S", "not-found", /^owner\/one has no Q4_K_S: did you mean hf:owner\/one:Q4_K_M\?$/],
    ["hf:owner/one:F32", "not-found", /^owner\/one has no F32: it has Q8_0, Q4_0, Q4_K_M$/],
    ["hf:owner/one/One-Q4_KM.gguf", "not-found", /^owner\/one has no file One-Q4_KM\.gguf: did you mean One-Q4_K_M\.gguf\?$/],
    ["hf:owner/one@v9", "not-found", /^owner\/one has no revision v9: see http.*\/owner\/one\/tree\/main$/],
    ["hf:owner/split:Q8_0", "not-found", /^owner\/split has 1 of the 2 files of s-Q8_0$/],
    ["hf:owner/several", "refused", /^owner\/several has several models in Q4_K_M: name one of hf:owner\/several\/a-Q4_K_M\.gguf, hf:/],
    ["hf:owner/none", "not-found", /^owner\/none has no GGUF file: look for a repository such as none-GGUF$/],
    ["hf:owner/missing", "refused", /^owner\/missing does not exist, or is private or gated \(HTTP 401\)\. Check the name; .*HF_TOKEN/],
    ["hf:owner/missing", "not-found", /^there is no repository owner\/missing on http/, { token: TOKEN }],
    ["hf:owner/private", "refused", /^owner\/private does not exist, or is private/],
    ["hf:owner/one", "refused", /^owner\/one: the hub does not accept the token \(HTTP 401\)\. Create another one at http.*\/settings\/tokens/, { token: "wrong" }],
  ]) {
    test(`says of ${name}${options ? ` with the token ${options.token}` : ""}: ${message.source}`, () => assert.rejects(ask(name, options), (error) => (assert.match(error.message, message), assert.equal(error.kind, kind), true)));
  }

  test("shows a private repository to its owner", async () => assert.deepEqual(await files("hf:owner/private", { token: TOKEN }), ["p-Q4_K_M.gguf"]));

  test("lists a gated repository to everybody", async () => assert.deepEqual(await files("hf:owner/gated", { token: POOR_TOKEN }), ["g-Q4_K_M.gguf"]));

  test("may be overloaded, or be no hub, or not be there", async () => {
    hub.faults.hub = () => ({ status: 429, headers: { "retry-after": "7" } });
    await assert.rejects(ask("hf:owner/one"), { kind: "busy", waitMs: 7000, message: /^the files of owner\/one cannot be listed: HTTP 429/ });
    hub.faults.hub = () => ({ status: 200 });
    await assert.rejects(ask("hf:owner/one"), { kind: "refused", message: /does not answer as the hub does: check the endpoint/ });
    hub.faults.hub = undefined;
    await assert.rejects(resolveHub("hf:owner/one", { endpoint: "http://127.0.0.1:9" }), { kind: "interrupted", message: /^http:\/\/127\.0\.0\.1:9 cannot be reached: / });
    assert.throws(() => endpointOf("huggingface.co"), { message: /is not a URL/ });
  });

  test("says what to do about a refusal of its own, with a token and without, and nothing of another server's", async () => {
    const source = (options) => streamed({ endpoint: hub.url, ...options })("hf:owner/one", "default").open(0);
    hub.faults.hub = ({ path }) => (path.startsWith("/api/") ? undefined : { status: 403 });
    await assert.rejects(source({ token: TOKEN }), { message: /^owner\/one: the hub's token has no access \(HTTP 403\)/ });
    await assert.rejects(source(), { message: /^owner\/one: the hub gives no access \(HTTP 403\)\. With access to .*, create a token/ });
    hub.faults.hub = undefined;
    hub.faults.cdn = () => ({ status: 403 });
    await assert.rejects(source({ token: TOKEN }), { message: "HTTP 403 Forbidden" });
    hub.faults.cdn = undefined;
  });

  test("gets the token, and where it redirects gets none", async () => {
    const elsewhere = await startHub(repositories);
    hub.faults.hub = ({ path }) => ({ status: 307, headers: { location: elsewhere.url + path } });
    assert.deepEqual(await files("hf:owner/one", { token: TOKEN }), ["One-Q4_K_M.gguf"]);
    hub.faults.hub = undefined;
    assert.equal(hub.asked.at(-1).headers.authorization, `Bearer ${TOKEN}`);
    assert.equal(elsewhere.asked.at(-1).headers.authorization, undefined);
    await elsewhere.close();
  });
});
