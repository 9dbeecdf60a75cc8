// Downloads that break off: what continues is the file that was begun, or an error says that it changed. And downloads that are redirected.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Ai, DEFAULT_MODEL, InferenceUpstreamError } from "workers-ai-local";
import { listening } from "../../scripts/lib/ports.mjs";
import { FILE as first, SAYS, startDownloadServer } from "../download-server.mjs";
import "../own-cache.mjs";
import { MODEL_PATH, PARIS } from "../real-model.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { inOneProcess } from "./one-process.mjs";

const MODEL = "@cf/own/downloaded";
const HI = { messages: [{ role: "user", content: "Hi" }] };
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

/** Milliseconds: the package's waits before it tries again, and how long a connection may stand still. */
const WAITS = [500, 2_000, 5_000, 30_000];
/** Makes these waits twenty times as short, and no others: `fetch` has limits of its own. */
function hasten(t) {
  const { setTimeout } = globalThis;
  t.mock.method(globalThis, "setTimeout", (work, ms, ...rest) => setTimeout(work, WAITS.includes(ms) ? ms / 20 : ms, ...rest));
}

describe("a download that breaks off", () => {
  test("continues where it broke off, and asks for the same version", async () => {
    assert.equal(await load({ with: { etag: '"1"' }, then: partial(first, { etag: '"1"' }) }), SAYS);
    assert.deepEqual([requests[1].range, requests[1]["if-range"]], [`bytes=${HALF}-`, '"1"']);
    assert.ok(requests[1].at - requests[0].at > 400, "it waits before it tries again");
  });

  test("continues without a validator, too", async () => assert.equal(await load({ then: partial(first) }), SAYS));

  test("reads the rest of a whole file that the server sends again", async () => {
    assert.equal(await load({ with: { etag: '"1"' }, then: ({ response }) => response.writeHead(200, { "content-length": first.length, etag: '"1"' }).end(first) }), SAYS);
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

  const elsewhere = ({ response }) => response.writeHead(206, range(first, 10)).end(first.subarray(10));
  const multipart = ({ response }) => response.writeHead(206, { "content-type": "multipart/byteranges; boundary=x" }).end("--x");

  test("asks again where the server sends another range or several, and is 3008 if it goes on so", async (t) => {
    const once = (exchange) => [elsewhere, multipart, partial(first)][requests.length - 2](exchange);
    const always = (exchange) => [elsewhere, multipart][requests.length % 2](exchange);
    hasten(t);
    assert.equal(await load({ then: once }), SAYS);
    await assert.rejects(load({ then: always }), {
      name: "AiError",
      message: /^3008: .*: the server answered (with bytes from 10, not from \d+|a range request with several ranges or none)\./,
    });
    assert.equal(requests.length, 4);
    const waits = requests.slice(1).map(({ at }, index) => at - requests[index].at);
    for (const [index, wait] of WAITS.slice(0, 3).entries()) assert.ok(waits[index] > wait / 20 - 2, `${waits}`);
  });

  for (const status of [503, 429]) {
    test(`waits as long as Retry-After says, with ${status}`, async () => {
      const then = (exchange) => (requests.length === 2 ? exchange.response.writeHead(status, { "retry-after": "1" }).end() : partial(first)(exchange));
      assert.equal(await load({ then }), SAYS);
      assert.ok(requests[2].at - requests[1].at > 990, `${requests[2].at - requests[1].at} ms`);
    });
  }

  for (const [what, stands] of [
    ["after its headers", ({ response }) => response.writeHead(206, range(first, HALF)).flushHeaders()],
    ["before its headers", () => {}],
  ]) {
    test(`goes on where a connection has stood still for 30 s ${what}`, { timeout: 20_000 }, async (t) => {
      hasten(t);
      const then = (exchange) => (requests.length === 2 ? stands(exchange) : partial(first)(exchange));
      assert.equal(await load({ then }), SAYS);
      const [, { at: silent }, { at: next }, ...more] = requests;
      assert.ok(next - silent > 30_000 / 20, `${next - silent} ms`);
      assert.deepEqual(more, []);
    });
  }
});

describe("a download that is redirected", () => {
  async function redirecting(t, routes) {
    const server = await startDownloadServer(routes);
    t.after(server.close);
    return server;
  }
  const run = async (source) => (await new Ai({ models: { [MODEL]: source }, onWarning() {} }).run(MODEL, HI)).response;

  test("follows five redirects, and no sixth: 3003, which nobody tries again", async (t) => {
    const { url, asked } = await redirecting(t);
    assert.equal(await run(`${url}/5/m.gguf`), SAYS);
    assert.deepEqual(asked.map(({ path }) => path), ["/5/m.gguf", "/4/m.gguf", "/3/m.gguf", "/2/m.gguf", "/1/m.gguf", "/0/m.gguf"]);
    asked.length = 0;
    await assert.rejects(run(`${url}/6/m.gguf`), { name: "AiError", message: /^3003: .*\/6\/m\.gguf cannot be read: there are more than 5 redirects/ });
    assert.equal(asked.length, 6);
  });

  test("ends where it goes in a circle, or to something that is not HTTP", async (t) => {
    const { url, asked } = await redirecting(t, { "/a": "/b", "/b": "/a", "/file": "file:///etc/passwd", "/nothing": "http://" });
    await assert.rejects(run(`${url}/a`), { message: /^3003: .*more than 5 redirects/ });
    assert.equal(asked.length, 6);
    for (const path of ["/file", "/nothing"]) await assert.rejects(run(url + path), { message: /^3003: .*redirects to .*, which is no HTTP address/ });
  });

  test("shows its headers to the server that they are for, not to others", async (t) => {
    const other = await redirecting(t);
    const own = await redirecting(t, { "/moved": "/away", "/away": `${other.url}/1/m.gguf` });
    assert.equal(await run({ url: `${own.url}/moved`, headers: { authorization: "Bearer key", "x-key": "secret" } }), SAYS);
    assert.deepEqual(own.asked.map(({ authorization, "x-key": key }) => [authorization, key]), [["Bearer key", "secret"], ["Bearer key", "secret"]]);
    assert.deepEqual(other.asked.map(({ authorization, "x-key": key }) => [authorization, key]), [[undefined, undefined], [undefined, undefined]]);
  });

  test("does not show them again to the first server when another one redirects back", async (t) => {
    const routes = {};
    const other = await redirecting(t, routes);
    const own = await redirecting(t, { "/away": `${other.url}/back` });
    routes["/back"] = `${own.url}/0/m.gguf`;
    assert.equal(await run({ url: `${own.url}/away`, headers: { authorization: "Bearer key" } }), SAYS);
    assert.deepEqual(own.asked.map(({ authorization }) => authorization), ["Bearer key", undefined]);
  });

  test("goes on from the first address after it broke off, with its range", async (t) => {
    answer = partial(first);
    [requests, headers] = [[], {}];
    const { url, asked } = await redirecting(t, { "/m.gguf": `${server.url}/signed` });
    assert.equal(await run({ url: `${url}/m.gguf` }), SAYS);
    assert.deepEqual(asked.map(({ range }) => range), [undefined, `bytes=${HALF}-`]);
  });
});

describe("a file whose SHA-256 is known", () => {
  const sha256 = createHash("sha256").update(first).digest("hex");

  test("is read if it is that file, also where the download broke off, and also with bytes behind the last tensor", async () => {
    assert.equal(await load({ then: partial(first), sha256 }), SAYS);
    assert.equal(await load({ then: partial(first), sha256: sha256.toUpperCase() }), SAYS);
    const longer = Buffer.concat([first, Buffer.from("more")]);
    const ai = new Ai({ models: { [MODEL]: { name: "longer", sha256: createHash("sha256").update(longer).digest("hex"), ...inMemory(longer) } } });
    assert.equal((await ai.run(MODEL, HI)).response, SAYS);
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

describe("the default model", () => {
  /** Loads it twice in a process whose `fetch` sends `file`, with one bit changed or not, and whose cache is `folder`. */
  async function downloaded(t, { damaged }) {
    const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-cache-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const outcome = await inOneProcess(
      async (Ai, { input }) => {
        const ask = () => new Ai({ onWarning() {} }).run("@cf/huggingface/smollm2-135m-instruct", input).then(({ response }) => response, ({ message }) => message);
        return { said: [await ask(), await ask()], asked: globalThis.asked };
      },
      {
        argument: { input: { ...PARIS, max_tokens: 1 } },
        before: () => {
          const { openAsBlob, readFileSync } = process.getBuiltinModule("node:fs");
          const { SENT_FILE: file, DAMAGED: damaged } = process.env;
          globalThis.asked = [];
          globalThis.fetch = async (url) => {
            globalThis.asked.push(url);
            const whole = await openAsBlob(file);
            const middle = whole.size >> 1;
            const byte = readFileSync(file)[middle] ^ (damaged ? 1 : 0);
            const sent = new Blob([whole.slice(0, middle), Uint8Array.of(byte), whole.slice(middle + 1)]);
            return new Response(sent, { headers: { "content-length": String(sent.size) } });
          };
          const { setTimeout } = globalThis;
          globalThis.setTimeout = (work, ms, ...rest) => setTimeout(work, ms / 20, ...rest);
        },
        env: { WORKERS_AI_LOCAL_MODEL: "", WORKERS_AI_LOCAL_CACHE: folder, SENT_FILE: MODEL_PATH, DAMAGED: damaged ? "yes" : "" },
      },
    );
    const kept = await readdir(folder, { recursive: true, withFileTypes: true });
    return { ...outcome, kept: kept.filter((entry) => entry.isFile() && path.basename(entry.parentPath) !== "names").map(({ name }) => name).sort() };
  }

  test("is downloaded once, and kept", async (t) => {
    assert.deepEqual(await downloaded(t, { damaged: false }), { said: [" Paris", " Paris"], asked: [DEFAULT_MODEL.url], kept: [DEFAULT_MODEL.file, `${DEFAULT_MODEL.file}.record.json`] });
  });

  test("is 3008 if its SHA-256 is another, and not kept", async (t) => {
    const { said, kept } = await downloaded(t, { damaged: true });
    for (const message of said) assert.match(message, /^3008: .*the download has another SHA-256 than the model/);
    assert.deepEqual(kept, []);
  });
});
