// The builds of the crate: which one starts, which can be requested, and that they give the same text. `builds.long.mjs` has those with relaxed SIMD.

import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { describe, test } from "node:test";
import { Ai, AiInternalError } from "workers-ai-local";
import { candidates } from "../../pkg/builds.js";
import { DOT_PRODUCT, multipliesSignedBytes } from "../../pkg/dot-products.js";
import { startThreads } from "../../pkg/threads.js";
import { builds } from "../../pkg/wasm/builds.js";
import { textsOfBuild } from "./build-texts.mjs";
import { inOneProcess } from "./one-process.mjs";

const STORY = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 5, max_tokens: 8 };
const needsThreads = { skip: !builds.threads && 'the build "threads" is not there: `npm run build` says why' };

/** What computes with a configuration, or the error that it gives. */
async function chosenOf(Ai, config) {
  try {
    const ai = new Ai(config);
    await ai.load();
    // Worker threads come when they are ready.
    const enough = Date.now() + 10_000;
    let stats = await ai.stats();
    while (stats.build.endsWith("threads") && stats.threads < config.expected && Date.now() < enough) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      stats = await ai.stats();
    }
    return { build: stats.build, threads: stats.threads };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}
/** The builds that start here, for one thread and for several. `npm test` makes none with relaxed SIMD. */
const relaxedIsFaster = builds["relaxed-threads"] && multipliesSignedBytes(new WebAssembly.Module(DOT_PRODUCT));
const [ONE, SEVERAL] = relaxedIsFaster ? ["relaxed", "relaxed-threads"] : ["simd128", "threads"];
/** All four, whether they were built or not. */
const ALL = { ...builds, relaxed: builds.relaxed ?? {}, "relaxed-threads": builds["relaxed-threads"] ?? {} };
const chosen = (config, before) => inOneProcess(chosenOf, { argument: config, before });

describe("every build gives the same text, and its process ends", () => {
  let expected;
  for (const build of ["simd128", "threads"]) {
    test(build, build.endsWith("threads") ? needsThreads : {}, async () => {
      const { texts, ...facts } = await textsOfBuild({ build });
      assert.equal(facts.build, build);
      expected ??= texts;
      assert.deepEqual(texts, expected);
    });
  }

  test("threads, of which there are more than cores", needsThreads, async () => {
    const { texts } = await textsOfBuild({ threads: availableParallelism() + 3 });
    assert.deepEqual(texts, expected);
  });
});

describe("by itself an Ai takes", () => {
  test("threads where there are cores for them", needsThreads, async () => {
    const cores = availableParallelism();
    const expected = cores <= 4 ? cores : Math.min(8, Math.ceil(cores / 2));
    assert.deepEqual(await chosen({ expected }), expected > 1 ? { build: SEVERAL, threads: expected } : { build: ONE, threads: 1 });
  });

  test("the configured number of threads", needsThreads, async () => {
    assert.deepEqual(await chosen({ threads: 3, expected: 3 }), { build: SEVERAL, threads: 3 });
  });

  test("one thread where that is wanted, and where memory cannot be shared or not be reserved", async () => {
    const single = { build: ONE, threads: 1 };
    assert.deepEqual(await chosen({ threads: 1 }), single);
    const unshared = () => delete globalThis.SharedArrayBuffer;
    assert.deepEqual(await chosen({ threads: 2 }, unshared), single);
    const small = () => {
      const { Memory } = WebAssembly;
      WebAssembly.Memory = function (options) {
        if (options.maximum > 100) throw new RangeError("could not allocate memory");
        return new Memory(options);
      };
    };
    assert.deepEqual(await chosen({ threads: 2 }, small), single);
  });

  test("one thread where no worker starts", needsThreads, async () => {
    const forbid = async () => {
      const threads = process.getBuiltinModule("node:worker_threads");
      threads.Worker = function () {
        throw new Error("no workers here");
      };
      process.getBuiltinModule("node:module").syncBuiltinESMExports();
    };
    assert.deepEqual(await chosen({ threads: 2 }, forbid), { build: SEVERAL, threads: 1 });
  });

  test("relaxed SIMD where its dot product takes signed bytes", () => {
    const host = { builds: ALL, cores: 2, mayShare: true };
    const taken = (sum, config = {}) => candidates(config, { ...host, dotProduct: giving(sum) }, false).map(({ build, threads }) => `${build} ${threads}`);
    const all = ["relaxed-threads 2", "threads 2", "relaxed 1", "simd128 1"].filter((name) => ALL[name.split(" ")[0]]);
    const plain = all.filter((name) => !name.startsWith("relaxed"));
    // ARM, x64 with VNNI, x64 without.
    assert.deepEqual([-508, 129_540, 65_534].map((sum) => taken(sum)), [all, plain, plain]);
    assert.deepEqual(taken(-508, { threads: 1 }), ["relaxed 1", "simd128 1"]);
    assert.deepEqual(taken(65_534, { build: "relaxed" }), ["relaxed 1"]);
  });
});

/** A module like `DOT_PRODUCT`, with this result. */
function giving(sum) {
  const number = [];
  for (let rest = sum; ; rest >>= 7) {
    // Signed LEB128.
    const last = rest >= -64 && rest < 64;
    number.push((rest & 0x7f) | (last ? 0 : 0x80));
    if (last) break;
  }
  const body = [0x00, 0x41, ...number, 0x0b];
  const code = [0x0a, body.length + 2, 0x01, body.length, ...body];
  return new WebAssembly.Module(new Uint8Array([...DOT_PRODUCT.slice(0, 28), ...code]));
}

describe("an AiInternalError is", () => {
  for (const [what, config, says] of [
    ["an unknown build", { build: "simd256" }, /^build must be "auto", .*, not "simd256"/],
    ["an unknown backend", { backend: "gpu" }, /^backend must be "auto", "webgpu" or "cpu", not "gpu"/],
    ["no number of threads", { threads: 0 }, /^threads must be an integer from 1 to 64, not 0/],
    ["half a thread", { threads: 1.5 }, /^threads must be an integer/],
    ["too many threads", { threads: 65 }, /^threads must be an integer/],
    ["several threads of a build that has one, with relaxed SIMD", { build: "relaxed", threads: 2 }, /set build: "relaxed-threads"\.$/],
    ["several threads of a build that has one", { build: "simd128", threads: 2 }, /^The build "simd128" computes in one thread/],
  ]) {
    test(what, () => {
      assert.throws(() => new Ai(config), (error) => error instanceof AiInternalError && says.test(error.message));
    });
  }

  test("a build that does not run here", async () => {
    const noSimd = () => (WebAssembly.validate = () => false);
    const { error } = await chosen({ build: "simd128" }, noSimd);
    assert.equal(error, 'AiInternalError: The build "simd128" cannot run here: this engine has no WebAssembly SIMD.');
    assert.match((await chosen({}, noSimd)).error, /^AiInternalError: No build of this package can run here: this engine has no WebAssembly SIMD/);
    const noRelaxed = () => {
      const { validate } = WebAssembly;
      // That of the instruction in question is the longest of the modules that are tried.
      WebAssembly.validate = (bytes) => bytes.length < 60 && validate(bytes);
    };
    const missing = builds.relaxed ? "this engine has no relaxed SIMD" : "it was not built";
    assert.equal((await chosen({ build: "relaxed" }, noRelaxed)).error, `AiInternalError: The build "relaxed" cannot run here: ${missing}.`);
    assert.deepEqual(await chosen({ threads: 1 }, noRelaxed), { build: "simd128", threads: 1 });
    const shared = await chosen({ build: "threads" }, () => delete globalThis.SharedArrayBuffer);
    assert.match(shared.error, /^AiInternalError: The build "threads" cannot run here: /);
  });

  test("another build than the one that the first Ai of the thread started", async () => {
    const outcomes = await inOneProcess(async (Ai) => {
      const says = (config) => new Ai(config).models().then(() => "fine", (error) => `${error.name}: ${error.message}`);
      return Promise.all([{ build: "simd128" }, { build: "threads" }, {}, { build: "simd128" }, { threads: 2 }, { threads: 1 }].map(says));
    });
    const refused = (setting) =>
      `AiInternalError: ${setting} is not possible: another Ai in this thread has already started the build "simd128" (threads: 1), and all Ais in a thread share it.`;
    assert.deepEqual(outcomes, ["fine", refused('build: "threads"'), "fine", "fine", refused("threads: 2"), "fine"]);
  });
});

describe("without the package `webgpu`, which this project does not have under its name", () => {
  const NO_WEBGPU = 'Node has no WebGPU without the package "webgpu". Install it: npm install webgpu.';

  test("the CPU computes, and says why; asked for it, it has nothing to explain", async () => {
    const outcome = async (Ai, backend) => {
      const ai = new Ai({ backend, onWarning() {} });
      const before = [ai.backend, ai.backendReason];
      await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "a", max_tokens: 1 });
      return [before, [ai.backend, ai.backendReason]];
    };
    assert.deepEqual(await inOneProcess(outcome, { argument: "auto" }), [[null, null], ["cpu", NO_WEBGPU]]);
    assert.deepEqual(await inOneProcess(outcome, { argument: "cpu" }), [[null, null], ["cpu", null]]);
  });

  test("the GPU and nothing else is an error, which says what helps", async () => {
    const outcome = await inOneProcess((Ai) => new Ai({ backend: "webgpu" }).load().catch(({ name, message }) => `${name}: ${message}`));
    assert.equal(outcome, `AiError: 5004: ${NO_WEBGPU} Set backend: "cpu" to compute on the CPU.`);
  });
});

test("a trap in the build with threads is survived: a fresh instance, fresh memory and fresh threads", needsThreads, async () => {
  const outcome = await inOneProcess(
    async (Ai, { STORY, instance }) => {
      const { narrow } = await import(instance);
      const ai = new Ai({ build: "threads", threads: 2, onWarning() {} });
      const full = async () => {
        for (let tries = 0; tries < 500 && (await ai.stats()).threads < 2; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
        return (await ai.stats()).threads;
      };
      const run = () => ai.run("@cf/meta/llama-3.1-8b-instruct", STORY).then(({ response }) => response, ({ message }) => message);
      const before = await run();
      const threads = [await full()];
      const { memory } = narrow.glue().initSync();
      const { poll } = narrow.glue().Task.prototype;
      narrow.glue().Task.prototype.poll = function () {
        narrow.glue().Task.prototype.poll = poll;
        throw new WebAssembly.RuntimeError("unreachable");
      };
      const trapped = await run();
      const after = await run();
      threads.push(await full());
      return { before, trapped, after, threads, epoch: narrow.epoch(), sameMemory: memory === narrow.glue().initSync().memory, again: await run() };
    },
    { argument: { STORY, instance: new URL("../../pkg/instance.js", import.meta.url).href } },
  );
  assert.match(outcome.trapped, /^5004: This request broke the engine \(unreachable\)/);
  assert.deepEqual([outcome.after, outcome.again], [outcome.before, outcome.before]);
  assert.deepEqual(outcome.threads, [2, 2]);
  assert.deepEqual([outcome.epoch, outcome.sameMemory], [1, false]);
});

describe("worker threads", () => {
  /** Threads of which nothing but the events is there. */
  function fake(count) {
    const events = [];
    const stopped = [];
    const lost = [];
    const pool = startThreads(count, {}, (_, event) => (events.push(event), () => stopped.push(event)), (reason) => lost.push(reason));
    return { pool, events, stopped, lost };
  }

  test("count once they are ready; one that never comes is no fault", () => {
    const { pool, events, lost } = fake(3);
    assert.equal(pool.size, 0);
    events[0].ready();
    events[1].ended("no script");
    assert.deepEqual([pool.size, lost], [1, []]);
  });

  test("that end unexpectedly are reported, once; stopped ones are not", () => {
    const { pool, events, stopped, lost } = fake(2);
    events.forEach(({ ready }) => ready());
    events[0].ended("unreachable");
    events[0].ended("it ended");
    assert.deepEqual([pool.size, lost], [1, ["unreachable"]]);
    pool.stop();
    events[1].ended("it ended");
    assert.deepEqual([stopped.length, lost.length], [2, 1]);
  });
});
