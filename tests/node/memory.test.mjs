// Running out of memory is an error of the request that needed the memory; requests that fit are served, and the next one works.
//
// V8 has a flag that limits the size of a WebAssembly memory, so the tests reach a real limit early.

import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { afterEach, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { Ai } from "workers-ai-local";
import { giantHeader, headOf, parseHeader, writeHeader } from "../gguf-fixtures.mjs";
import { MODEL, MODEL_PATH, PARIS } from "../real-model.mjs";

const PAGE = 1 << 16;
const MOST = 1 << 16;
const allowMore = (bytes) => ai.stats().then(({ memoryBytes }) => setFlagsFromString(`--wasm-max-mem-pages=${Math.ceil((memoryBytes + bytes) / PAGE)}`));
/** Bytes: more than the KV cache of one short request needs, less than those of two. */
const ONE_CONTEXT = 18e6;

const header = parseHeader(await headOf(MODEL_PATH));
const zeros = new Uint8Array(1 << 20);
/** A model whose matrices have 300 MB each; all of its data are zeros. */
const large = {
  name: "large",
  async open(offset) {
    const rest = [writeHeader(giantHeader(header, 1n << 17n)).subarray(offset)];
    return { size: 1e12, read: async () => rest.pop() ?? zeros, cancel() {} };
  },
};

// The build that is asked for, so that no model goes to 64-bit memory, which has another limit.
const ai = new Ai({ build: "simd128", caches: 8, models: { "@cf/own/large": large } });
const works = async (prompt = PARIS.prompt) => assert.equal((await ai.run(MODEL, { ...PARIS, prompt, max_tokens: 2 })).usage.completion_tokens, 2);

before(() => ai.load());
afterEach(() => setFlagsFromString(`--wasm-max-mem-pages=${MOST}`));

test("loading needs at most 1.3 times the size of the file", async () => {
  const { memoryBytes } = await ai.stats();
  const file = (await stat(MODEL_PATH)).size;
  assert.ok(memoryBytes > file && memoryBytes <= 1.3 * file, `${memoryBytes} bytes for a file of ${file}`);
});

test("with memory for one context, sequential requests are served: the same prompt again, and others", async () => {
  await allowMore(ONE_CONTEXT);
  for (const prompt of [PARIS.prompt, PARIS.prompt, "Once upon a time", PARIS.prompt]) await works(prompt);
});

test("of concurrent requests, those that fit are served, and the others are 3040", async () => {
  await allowMore(ONE_CONTEXT);
  const prompts = ["The sun is", "A moon is", "One sea is", "Some sky is"];
  const settled = await Promise.allSettled(prompts.map((prompt) => ai.run(MODEL, { ...PARIS, prompt, max_tokens: 2 })));
  for (const { reason } of settled) {
    if (!reason) continue;
    assert.equal(reason.name, "AiError");
    assert.match(reason.message, /^3040: Out of memory: the context/);
  }
  assert.ok(settled.some(({ status }) => status === "fulfilled"), "at least one of them fits");
  await works();
});

test("a model that does not fit is 3040, and the loaded model keeps working", async () => {
  await allowMore(200e6);
  await assert.rejects(ai.run("@cf/own/large", PARIS), { name: "AiError", message: /^3040: Out of memory: loading the model's weights needs 302\.0 MB more/ });
  await works();
});
