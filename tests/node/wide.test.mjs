// 64-bit memory: models that 32 bits do not hold move to a second engine, and everything else stays as it is.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { ensureNode24 } from "../../scripts/setup/node24.mjs";
import { builds } from "../../pkg/wasm/builds.js";
import { giantHeader, parseHeader, writeHeader } from "../gguf-fixtures.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { textsOfBuild } from "./build-texts.mjs";
import { inOneProcess } from "./one-process.mjs";

const node24 = await ensureNode24();
const NODES = { "Node 22": process.execPath, "Node 24": node24 };
/** The builds with 64-bit memory that there are: `npm test` makes the first, the long tests both. */
const WIDE = ["wasm64", "wasm64-threads"].filter((build) => builds[build]);

test("there is a build with 64-bit memory", () => assert.ok(builds.wasm64, '`npm run build` says why "wasm64" is missing'));

describe("a build with 64-bit memory gives the same text", () => {
  let expected;
  before(async () => {
    expected = (await textsOfBuild({ build: "simd128" })).texts;
  });
  for (const [name, node] of Object.entries(NODES)) {
    for (const build of WIDE) {
      test(`${build} in ${name}`, async () => {
        const { texts, ...facts } = await textsOfBuild({ build }, { node });
        assert.equal(facts.build, build);
        assert.deepEqual(texts, expected);
      });
    }
  }
});

test("its kernels compute what their reference computes", async () => {
  const compared = await inOneProcess(async (Ai) => {
    const ai = new Ai({ build: "wasm64" });
    await ai.models();
    const { wide } = await import(new URL("pkg/instance.js", `file://${process.cwd()}/`).href);
    return [...wide.glue().compareKernels(7, 2)];
  });
  assert.equal(compared[0], 0);
  assert.ok(compared[1] > 3000, `${compared[1]} results compared`);
});

/** Answers with these words, from a context that 32 bits do not hold. */
const WORDS = [" one", " two", " three"];
const LARGE = "@cf/own/large";
const SMALL = "@cf/own/small";
const ASKED = { messages: [{ role: "user", content: "Count!" }], max_tokens: 10_000_000 };
const [large, small] = [scriptedModel({ script: WORDS, context: 1 << 24, headWidth: 128 }).bytes, scriptedModel({ script: [" small"] }).bytes];

describe("a model for whose context 32 bits are too few", () => {
  const warnings = [];
  const ai = new Ai({ models: { [LARGE]: large, [SMALL]: small }, onWarning: (text) => warnings.push(text) });
  const wordsOf = async (model, input) => (await ai.run(model, input)).response;
  const buildsOfModels = async () => Object.fromEntries((await ai.stats()).models.map(({ name, build }) => [name, build]));
  const isWide = (build) => build.startsWith("wasm64");
  after(() => ai.close());

  test("stays in 32 bits while its requests fit", async () => {
    assert.equal(await wordsOf(LARGE, { ...ASKED, max_tokens: 10 }), WORDS.join(""));
    const { build, wide } = await ai.stats();
    assert.ok(!isWide(build));
    assert.equal(wide, undefined);
  });

  test("moves with the request that does not fit, and says so in stats(); a small model stays", async () => {
    const answers = await Promise.all([wordsOf(LARGE, ASKED), wordsOf(SMALL, { prompt: "Hi" }), wordsOf(LARGE, ASKED)]);
    assert.deepEqual(answers, [WORDS.join(""), " small", WORDS.join("")]);
    const stats = await ai.stats();
    assert.deepEqual(stats.models.map(({ build }) => isWide(build)).sort(), [false, true]);
    assert.ok(isWide(stats.wide.build));
    assert.ok(stats.memoryBytes > stats.wide.memoryBytes);
  });

  test("stays where it is, also for short requests", async () => {
    const before = Object.values(await buildsOfModels()).filter(isWide).length;
    assert.equal(await wordsOf(LARGE, { ...ASKED, max_tokens: 10 }), WORDS.join(""));
    assert.equal(Object.values(await buildsOfModels()).filter(isWide).length, before);
    const { models } = await ai.stats();
    assert.equal(models.length, 2, "it is in one place");
  });

  test("answers as a stream and over HTTP", async () => {
    const text = async (stream) => new Response(stream).text();
    const events = await text(await ai.run(LARGE, { ...ASKED, stream: true }));
    assert.match(events, /"response":" two"/);
    assert.match(events, /data: \[DONE\]\n\n$/);
    const post = (path, body) => ai.fetch(path, { method: "POST", body: JSON.stringify(body) });
    const rest = await (await post(`/client/v4/accounts/local/ai/run/${LARGE}`, ASKED)).json();
    assert.equal(rest.result.response, WORDS.join(""));
    const chat = await (await post("/v1/chat/completions", { ...ASKED, model: LARGE })).json();
    assert.equal(chat.choices[0].message.content, WORDS.join(""));
    assert.match(await (await post("/v1/chat/completions", { ...ASKED, model: LARGE, stream: true })).text(), /"content":" two"/);
  });

  test("moves for HTTP requests too, whatever their form", async () => {
    for (const stream of [false, true]) {
      const fresh = new Ai({ models: { [LARGE]: large } });
      const response = await fresh.fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ ...ASKED, model: LARGE, stream }) });
      assert.match(await response.text(), stream ? /"content":" two"/ : /"content":" one two three"/);
      assert.ok((await fresh.stats()).wide);
      await fresh.close();
    }
  });

  test("an abort ends its request, and the next one is answered", async () => {
    const abort = new AbortController();
    const reader = (await ai.run(LARGE, { ...ASKED, stream: true }, { signal: abort.signal })).getReader();
    await reader.read();
    abort.abort();
    await assert.rejects(reader.read(), { name: "AbortError" });
    assert.ok((await ai.stats()).models.every(({ active }) => active === 0));
    assert.equal(await wordsOf(LARGE, ASKED), WORDS.join(""));
  });

  test("warns once about what both engines notice", async () => {
    const both = new Ai({ default: large, onWarning: (text) => warnings.push(text) });
    assert.equal((await both.run("@cf/meta/llama-3.1-8b-instruct", ASKED)).response, WORDS.join(""));
    assert.equal(warnings.length, 1, warnings.join("\n"));
    assert.match(warnings[0], /has no local weights/);
    await both.close();
  });

  test("a closed Ai says that it is closed", async () => {
    const closed = new Ai({ models: { [LARGE]: large } });
    await closed.run(LARGE, ASKED);
    await closed.close();
    await assert.rejects(closed.run(LARGE, ASKED), /closed/);
  });
});

describe("a model whose weights are too large", () => {
  /** A source with the header of a small model, but with matrices of so many rows; all of its data are zeros. */
  const giant = (rows) => {
    const header = writeHeader(giantHeader(parseHeader(small), rows));
    const zeros = new Uint8Array(1 << 20);
    return {
      name: "giant.gguf",
      async open(offset) {
        const rest = [header.subarray(offset)];
        return { size: 1e12, read: async () => rest.pop() ?? zeros, cancel() {} };
      },
    };
  };

  test("for any memory of WebAssembly is 3040 with the numbers, and other models go on", async () => {
    const ai = new Ai({ models: { [LARGE]: giant(1n << 24n), [SMALL]: small } });
    await assert.rejects(ai.run(LARGE, { prompt: "Hi" }), {
      name: "AiError",
      message: /^3040: Out of memory: giant\.gguf needs \d+\.\d GB, and there can be \d+\.\d GB here\. A smaller type of its weights/,
    });
    assert.equal((await ai.run(SMALL, { prompt: "Hi" })).response, " small");
    await ai.close();
  });

  for (const [what, config, says] of [
    ["for the build that was asked for says so", { build: "simd128" }, /there can be 4\.3 GB here\. Leave out build: "simd128", so that 64-bit memory can be used\. A smaller type/],
    ["for an engine without 64-bit memory names one that has it", {}, /there can be 4\.3 GB here\. Use Node 22 or newer, which has 64-bit memory\. A smaller type/],
  ]) {
    test(what, async () => {
      const without = () => {
        const { validate } = WebAssembly;
        // The module that asks for it is the shortest of those that are tried.
        WebAssembly.validate = (bytes) => bytes.length > 13 && validate(bytes);
      };
      const outcome = await inOneProcess(
        async (Ai, { config, head, LARGE }) => {
          const bytes = Buffer.from(head, "base64");
          const rest = { name: "giant.gguf", open: async (offset) => ({ size: 1e12, read: async () => bytes.subarray(offset), cancel() {} }) };
          return new Ai({ ...config, models: { [LARGE]: rest } }).run(LARGE, { prompt: "Hi" }).catch(({ message }) => message);
        },
        {
          before: config.build ? undefined : without,
          argument: { config, LARGE, head: Buffer.from(writeHeader(giantHeader(parseHeader(small), 1n << 23n))).toString("base64") },
        },
      );
      assert.match(outcome, says);
    });
  }
});
