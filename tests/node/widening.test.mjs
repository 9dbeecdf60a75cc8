// Two engines as one, with engines that only say who was asked: what a real one does seldom, such as losing its GPU in the middle of an answer.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { engineBySize } from "../../pkg/widening-engine.js";

const moves = () => Object.assign(new Error("0: big.gguf needs more memory"), { name: "NeedsMoreMemory" });

/** An engine whose answers read with `read(number of the read)`; what it is asked goes to `log`. */
function engine(name, log, read) {
  const answer = (what) => async () => {
    log.push(`${name}.${what}`);
    let reads = 0;
    const next = async () => {
      log.push(`${name}.read`);
      return read((reads += 1));
    };
    return { stream: true, chunk: next, object: next, free: () => log.push(`${name}.free`) };
  };
  return { generate: answer("generate"), fetch: answer("fetch"), stats: async () => ({ models: [], memoryBytes: 1 }), close: async () => log.push(`${name}.close`) };
}

/** The pair, of which the first engine reads with `first` and the second says its name. */
function pair(first, second = () => "wide") {
  const log = [];
  return { log, both: engineBySize({}, () => engine("narrow", log, first), () => engine("wide", log, second)) };
}

describe("a model that has to move while its answer is read", () => {
  for (const [how, read] of [["an object", (answer) => answer.object()], ["a stream", (answer) => answer.chunk()]]) {
    test(`is asked again on the second engine, for ${how}, and stays there`, async () => {
      const { log, both } = pair(() => Promise.reject(moves()));
      assert.equal(await read(await both.generate("id", "{}")), "wide");
      assert.deepEqual(log, ["narrow.generate", "narrow.read", "narrow.free", "wide.generate", "wide.read"]);
      log.length = 0;
      assert.equal(await read(await both.generate("id", "{}")), "wide");
      assert.deepEqual(log, ["wide.generate", "wide.read"]);
    });
  }

  test("over HTTP too", async () => {
    const { both } = pair(() => Promise.reject(moves()));
    assert.equal(await (await both.fetch({})).chunk(), "wide");
  });

  test("ends in 3040 once something was delivered; the next request is answered", async () => {
    const { both } = pair((reads) => (reads === 1 ? "first" : Promise.reject(moves())));
    const answer = await both.generate("id", "{}");
    assert.equal(await answer.chunk(), "first");
    await assert.rejects(answer.chunk(), { name: "AiError", internalCode: 3040 });
  });

  test("is not kept for a reader who has gone meanwhile", async () => {
    const { log, both } = pair(
      async () => {
        answer.free();
        throw moves();
      },
      () => undefined,
    );
    const answer = await both.generate("id", "{}");
    await assert.rejects(answer.chunk(), { internalCode: 3040 });
    assert.ok(!log.includes("wide.generate"), log.join());
  });

  test("does not leave an answer behind if its reader goes while the second engine starts", async () => {
    const log = [];
    const wide = engine("wide", log, () => undefined);
    const { generate } = wide;
    wide.generate = async () => {
      answer.free();
      return generate();
    };
    const both = engineBySize({}, () => engine("narrow", log, () => Promise.reject(moves())), () => wide);
    const answer = await both.generate("id", "{}");
    await answer.chunk();
    assert.ok(log.includes("wide.free"), log.join());
  });
});

test("another error of the first engine is the request's", async () => {
  const { log, both } = pair(() => Promise.reject(new Error("other")));
  await assert.rejects((await both.generate("id", "{}")).object(), /^Error: other$/);
  assert.ok(!log.includes("wide.generate"));
});

test("stats() works where the second engine cannot start", async () => {
  const broken = () => ({ generate: () => Promise.reject(new Error("no worker")), stats: () => Promise.reject(new Error("no worker")), close: async () => {} });
  const narrow = { generate: () => Promise.reject(moves()), stats: async () => ({ models: [], memoryBytes: 1 }), close: async () => {} };
  const both = engineBySize({}, () => narrow, broken);
  await assert.rejects(both.generate("id", "{}"), /no worker/);
  assert.deepEqual(await both.stats(), { models: [], memoryBytes: 1 });
});

test("after close() neither is asked", async () => {
  const { log, both } = pair(() => Promise.reject(moves()));
  const answer = await both.generate("id", "{}");
  await both.close();
  await assert.rejects(answer.object(), /closed/);
  assert.ok(!log.includes("wide.generate"));
});
