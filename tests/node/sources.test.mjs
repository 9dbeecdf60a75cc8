// The kinds of model sources in Node: the model's answer is the same with each of them.

import assert from "node:assert/strict";
import { openAsBlob } from "node:fs";
import { open, readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { Ai } from "workers-ai-local";
import "../own-cache.mjs";
import { startModelServer } from "../model-server.mjs";
import { MODEL, MODEL_PATH } from "../real-model.mjs";

const INPUT = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 11, max_tokens: 6 };
const SIZE = 98_362_432;

/** A custom source as a user would write it: `open` returns a read in progress, from an offset in bytes. */
const own = {
  name: "my own reader",
  async open(offset) {
    const handle = await open(MODEL_PATH);
    let position = offset;
    return {
      size: SIZE,
      async read() {
        const { bytesRead, buffer } = await handle.read(new Uint8Array(300_001), 0, 300_001, position);
        position += bytesRead;
        return bytesRead > 0 ? buffer.subarray(0, bytesRead) : undefined;
      },
      cancel: () => void handle.close(),
    };
  },
};

/** Kind → its value in a configuration, given the URL of the model server. */
const KINDS = {
  "a path": () => MODEL_PATH,
  "a relative path": () => path.relative("", MODEL_PATH),
  "a file URL": () => pathToFileURL(MODEL_PATH),
  "a file URL as text": () => pathToFileURL(MODEL_PATH).href,
  "an http URL": (url) => new URL("/model.gguf", url),
  "an http URL as text": (url) => `${url}/model.gguf`,
  "an http URL with headers": (url) => ({ url: `${url}/locked.gguf`, headers: { authorization: "Bearer key" } }),
  "a Blob": () => openAsBlob(MODEL_PATH),
  "bytes": async () => new Uint8Array(await readFile(MODEL_PATH)),
  "a custom source": () => own,
};

let server;
let ai;
let expected;
before(async () => {
  server = await startModelServer();
  const models = {};
  for (const [kind, make] of Object.entries(KINDS)) models[kind] = await make(server.url);
  ai = new Ai({ models });
  expected = (await new Ai().run(MODEL, INPUT)).response;
});
after(() => server.close());

describe("a model file may be", () => {
  for (const kind of Object.keys(KINDS)) {
    test(kind, async () => assert.equal((await ai.run(kind, INPUT)).response, expected));
  }

  test("bytes that would be too long as a string", () => {
    assert.ok(new Ai({ models: { "@cf/own/large": new Uint8Array(200e6).fill(200) } }));
  });

  test("shared by several ids: it is loaded once", async () => {
    // "an http URL" and "an http URL as text" refer to the same file.
    const names = (await ai.stats()).models.map(({ name }) => name);
    assert.equal(names.filter((name) => name === `${server.url}/model.gguf`).length, 1);
    assert.equal(server.requests.filter(({ path }) => path === "/model.gguf").length, 1);
  });

  test("the default, instead of the built-in default model", async () => {
    const other = new Ai({ default: MODEL_PATH });
    assert.equal((await other.run(MODEL, INPUT)).response, expected);
    assert.deepEqual((await other.stats()).models.map(({ name }) => name), [MODEL_PATH]);
  });
});

describe("the same file", () => {
  test("serves two Ai instances at once", async () => {
    const two = [new Ai({ default: MODEL_PATH }), new Ai({ default: MODEL_PATH })];
    const answers = await Promise.all(two.map((each) => each.run(MODEL, INPUT)));
    assert.deepEqual(answers.map(({ response }) => response), [expected, expected]);
  });

  test("is loaded once for requests that arrive while it loads", async () => {
    const opened = [];
    const counted = { ...own, name: "counted", open: (offset) => (opened.push(offset), own.open(offset)) };
    const fresh = new Ai({ default: counted });
    const answers = await Promise.all([1, 2, 3].map(() => fresh.run(MODEL, INPUT)));
    assert.deepEqual(answers.map(({ response }) => response), [expected, expected, expected]);
    assert.deepEqual(opened, [0]);
  });
});

describe("loading", () => {
  test("reports progress up to the size of the file, and the backend", async () => {
    const told = [];
    const fresh = new Ai({ default: MODEL_PATH, onProgress: (progress) => told.push(progress) });
    const loaded = await fresh.load();
    assert.equal(loaded.model, MODEL_PATH);
    assert.equal(loaded.backend, "cpu");
    assert.equal(fresh.backend, "cpu");
    assert.ok(told.length > 10);
    for (const { model, phase, total, kernels } of told) assert.deepEqual([model, phase, total, kernels], [MODEL, "weights", SIZE, undefined]);
    const amounts = told.map(({ loaded }) => loaded);
    assert.deepEqual(amounts, amounts.toSorted((a, b) => a - b), "progress never decreases");
    assert.equal(amounts.at(-1), SIZE);
  });

  test("continues when onProgress throws", async () => {
    const fresh = new Ai({ onProgress: () => { throw new Error("not my day"); } });
    assert.equal((await fresh.run(MODEL, INPUT)).response, expected);
  });

  test("an unknown id is 5007", async () => {
    await assert.rejects(ai.load("@cf/x/y"), { name: "AiError", message: "5007: No such model @cf/x/y or task" });
  });
});
