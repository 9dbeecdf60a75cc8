// Downloads that break off: what continues is the file that was begun, or an error says that it changed.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { listening } from "../../scripts/lib/ports.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const MODEL = "@cf/own/downloaded";
const HI = { messages: [{ role: "user", content: "Hi" }] };
const first = Buffer.from(scriptedModel({ script: ["The first."] }).bytes);
const other = Buffer.from(scriptedModel({ script: ["The other."] }).bytes);
const HALF = first.length >> 1;

/** The first request gets half of the first file; `answer` answers the later ones. */
let answer;
let headers;
let requests;
let server;
before(async () => {
  server = await listening(
    createServer((request, response) => {
      requests.push({ at: performance.now(), ...request.headers });
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
      if (requests.length > 1) return answer({ request, response, from });
      response.writeHead(200, { "content-length": first.length, ...headers });
      response.write(first.subarray(0, HALF), () => response.destroy());
    }),
  );
});
after(() => server.close());

async function load({ with: begun = {}, then, sha256 }) {
  requests = [];
  headers = begun;
  answer = then;
  const ai = new Ai({ models: { [MODEL]: { url: `${server.url}/model.gguf?${Math.random()}`, sha256 } }, onWarning() {} });
  return (await ai.run(MODEL, HI)).response;
}

/** A source that reads bytes. */
const inMemory = (bytes) => ({
  async open(offset) {
    const rest = [new Uint8Array(bytes.subarray(offset))];
    return { size: bytes.length, read: async () => rest.pop(), cancel() {} };
  },
});

const range = (file, from, more = {}) => ({ "content-range": `bytes ${from}-${file.length - 1}/${file.length}`, "content-length": file.length - from, ...more });
const partial = (file, more) => ({ response, from }) => response.writeHead(206, range(file, from, more)).end(file.subarray(from));
const changed = (error) => {
  assert.ok(error instanceof InferenceUpstreamError, error.stack);
  assert.match(error.message, /^3008: .* changed while it was read/);
  return true;
};

describe("a download that breaks off", () => {
  test("continues where it broke off, and asks for the same version", async () => {
    assert.equal(await load({ with: { etag: '"1"' }, then: partial(first, { etag: '"1"' }) }), "The first.");
    assert.deepEqual([requests[1].range, requests[1]["if-range"]], [`bytes=${HALF}-`, '"1"']);
    assert.ok(requests[1].at - requests[0].at > 400, "it waits before it tries again");
  });

  test("continues without a validator, too", async () => assert.equal(await load({ then: partial(first) }), "The first."));

  test("reads the rest of a whole file that the server sends again", async () => {
    assert.equal(await load({ with: { etag: '"1"' }, then: ({ response }) => response.writeHead(200, { "content-length": first.length, etag: '"1"' }).end(first) }), "The first.");
  });

  for (const [what, begun, then] of [
    ["another ETag", { etag: '"1"' }, partial(other, { etag: '"2"' })],
    ["another Last-Modified", { "last-modified": "Mon, 02 Nov 2026 10:00:00 GMT" }, partial(other, { "last-modified": "Tue, 03 Nov 2026 10:00:00 GMT" })],
    ["another length", {}, partial(Buffer.concat([other, Buffer.alloc(32)]))],
    ["a whole new file", { etag: '"1"' }, ({ response }) => response.writeHead(200, { "content-length": other.length, etag: '"2"' }).end(other)],
    ["no longer so many bytes", {}, ({ response }) => response.writeHead(416).end()],
  ]) {
    test(`is 3008 where the server then has ${what}`, () => assert.rejects(load({ with: begun, then }), changed));
  }

  for (const [what, then] of [
    ["a range that starts elsewhere", ({ response }) => response.writeHead(206, range(first, 10)).end(first.subarray(10))],
    ["several ranges", ({ response }) => response.writeHead(206, { "content-type": "multipart/byteranges; boundary=x" }).end("--x")],
  ]) {
    test(`is an error where the server sends ${what}`, () => assert.rejects(load({ then }), InferenceUpstreamError));
  }

  test("waits as long as Retry-After says", async () => {
    const then = (exchange) => (requests.length === 2 ? exchange.response.writeHead(503, { "retry-after": "1" }).end() : partial(first)(exchange));
    assert.equal(await load({ then }), "The first.");
    assert.ok(requests[2].at - requests[1].at > 990, `${requests[2].at - requests[1].at} ms`);
  });
});

describe("a file whose SHA-256 is known", () => {
  const sha256 = createHash("sha256").update(first).digest("hex");

  test("is read if it is that file, also where the download broke off, and also with bytes behind the last tensor", async () => {
    assert.equal(await load({ then: partial(first), sha256 }), "The first.");
    assert.equal(await load({ then: partial(first), sha256: sha256.toUpperCase() }), "The first.");
    const longer = Buffer.concat([first, Buffer.from("more")]);
    const ai = new Ai({ models: { [MODEL]: { name: "longer", sha256: createHash("sha256").update(longer).digest("hex"), ...inMemory(longer) } } });
    assert.equal((await ai.run(MODEL, HI)).response, "The first.");
  });

  test("is 5004 if one bit is another, even where no validator tells", async () => {
    const damaged = Buffer.from(first);
    damaged[damaged.length - 5] ^= 1;
    await assert.rejects(load({ then: partial(damaged), sha256 }), {
      name: "AiError",
      message: new RegExp(`^5004: .* is not the expected file: its SHA-256 is [0-9a-f]{64} instead of ${sha256}\\.`),
    });
  });
});
