// `ai.fetch` in Node: what goes in as a request, what comes out as a response, and every way in which one is given up.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Ai } from "workers-ai-local";
import { Ai as BaseAi } from "../../pkg/ai.js";
import { aiError } from "../../pkg/errors.js";
import { MODEL, PARIS } from "../real-model.mjs";
import { readAnswer } from "../sse.mjs";

const STORY = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 5, max_tokens: 10 };
/** More tokens than any test reads. */
const LONG = { ...STORY, max_tokens: 2000 };
/** Long enough for a token, if one were being computed. */
const WHILE = 400;
const RUN = `/client/v4/accounts/local/ai/run/${MODEL}`;
const ORIGIN = "https://api.cloudflare.com";

const ai = new Ai({ onWarning() {} });
before(() => ai.load());

const post = (path, body, init) => ai.fetch(path, { method: "POST", body: JSON.stringify(body), ...init });
const run = (input, init) => post(RUN, input, init);

/** Requests in progress, and tokens computed so far. */
async function activity() {
  const { models } = await ai.stats();
  return { active: models[0].active, tokens: models[0].tokens };
}

/** Nothing is in progress, and nothing is computed any more. */
async function isOver() {
  const first = await activity();
  assert.equal(first.active, 0);
  await sleep(WHILE);
  assert.deepEqual(await activity(), first);
}

const isAbort = (error) => {
  assert.ok(error instanceof DOMException, `a DOMException, not ${error}`);
  assert.equal(error.name, "AbortError");
  return true;
};

describe("a request", () => {
  const expected = async () => (await ai.run(MODEL, STORY)).response;
  const init = () => ({ method: "POST", body: JSON.stringify(STORY) });

  for (const [what, asked] of Object.entries({
    "a path": () => ai.fetch(RUN, init()),
    "an address": () => ai.fetch(`${ORIGIN}${RUN}`, init()),
    "a URL": () => ai.fetch(new URL(RUN, ORIGIN), init()),
    "a Request": () => ai.fetch(new Request(`${ORIGIN}${RUN}`, init())),
    "a Request with something else in its place": () => ai.fetch(new Request(`${ORIGIN}${RUN}`, { method: "PUT", body: "no" }), init()),
    "a body that is a stream": () => ai.fetch(RUN, { ...init(), body: new Blob([init().body]).stream(), duplex: "half" }),
    "a body of bytes": () => ai.fetch(RUN, { ...init(), body: new TextEncoder().encode(init().body) }),
  })) {
    test(`may be ${what}`, async () => {
      const response = await asked();
      assert.ok(response instanceof Response);
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), "application/json");
      assert.equal((await response.json()).result.response, await expected());
    });
  }

  test("without a body is one too", async () => {
    const ids = (await (await ai.fetch("/v1/models")).json()).data.map(({ id }) => id);
    const names = (await ai.models()).map(({ name }) => name);
    for (const name of names) assert.ok(ids.includes(name), name);
    const head = await ai.fetch("/v1/models", { method: "HEAD" });
    assert.equal(head.status, 200);
  });

  test("of the binding's own wire is answered without an envelope", async () => {
    const headers = { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": MODEL };
    const wire = (inputs) => post("https://workers-binding.ai/run?version=3", { inputs, options: {} }, { headers });
    const object = await wire(STORY);
    assert.equal(object.headers.get("content-type"), "application/json");
    assert.match(object.headers.get("cf-ai-req-id"), /^[\w-]{8,}$/);
    assert.equal((await object.json()).response, await expected());
    const stream = await wire({ ...STORY, stream: true });
    assert.equal(stream.headers.get("content-type"), "text/event-stream");
    assert.equal((await readAnswer(stream.body)).text, await expected());
  });

  for (const [what, asked] of Object.entries({
    "an address that is none": () => ai.fetch("http://"),
    "a GET with a body": () => ai.fetch("/v1/models", { body: "{}" }),
    "a method that is none": () => ai.fetch("/v1/models", { method: "NO SUCH" }),
    "a Request whose body was read": async () => {
      const request = new Request(`${ORIGIN}${RUN}`, init());
      await request.text();
      return ai.fetch(request);
    },
  })) {
    test(`cannot be ${what}: a TypeError`, () => assert.rejects(asked(), TypeError));
  }
});

describe("an error is a response", () => {
  const wrong = {
    "no such model": [() => post("/client/v4/accounts/local/ai/run/@cf/no/such", STORY), 400, 5007],
    "input out of range": [() => run({ ...STORY, temperature: 9 }), 400, 5006],
    "a body that is no JSON": [() => ai.fetch(RUN, { method: "POST", body: "prompt=Hi" }), 400, 5004],
    "a body that is missing": [() => ai.fetch(RUN, { method: "POST" }), 400, 5004],
    "a body that is no UTF-8": [() => ai.fetch(RUN, { method: "POST", body: new Uint8Array([0x22, 0xff, 0x22]) }), 400, 5004],
    "no such path": [() => ai.fetch("/nowhere"), 404, 3042],
  };
  for (const [what, [asked, status, code]] of Object.entries(wrong)) {
    test(`of ${what}: ${code}`, async () => {
      const response = await asked();
      assert.equal(response.status, status);
      assert.equal(response.headers.get("content-type"), "application/json");
      const { success, errors } = await response.json();
      assert.equal(success, false);
      assert.equal(errors.length, 1);
      assert.equal(errors[0].code, code);
      assert.notEqual(errors[0].message, "");
    });
  }

  test("of a full queue: 3040, until a request ends", async () => {
    const small = new Ai({ queue: 1, onWarning() {} });
    const ask = (input) => small.fetch(RUN, { method: "POST", body: JSON.stringify(input) });
    const first = await ask({ ...LONG, stream: true });
    assert.equal(first.status, 200);
    const refused = await ask(STORY);
    assert.equal(refused.status, 429);
    assert.equal((await refused.json()).errors[0].code, 3040);
    await first.body.cancel();
    assert.equal((await ask(STORY)).status, 200);
  });

  // An engine that fails does so when memory runs out, which no test can bring about at a certain place.
  test("of an engine that fails, in which every surface's clients find it", async () => {
    const failing = new BaseAi({
      fetch: async () => {
        throw aiError(3040, 429, "out of memory");
      },
    });
    const response = await failing.fetch("/v1/models");
    assert.equal(response.status, 429);
    const body = await response.json();
    assert.equal(body.internalCode, 3040);
    assert.deepEqual(body.errors, [{ code: 3040, message: "AiError: out of memory" }]);
    assert.equal(body.error.code, 3040);
  });
});

describe("a body that is too long", () => {
  /** A body that never ends, and how much of it was read. */
  function endless() {
    const seen = { bytes: 0, cancelled: false };
    const body = new ReadableStream(
      {
        pull(controller) {
          seen.bytes += 1 << 16;
          controller.enqueue(new Uint8Array(1 << 16).fill(0x20));
        },
        cancel: () => void (seen.cancelled = true),
      },
      { highWaterMark: 0 },
    );
    return { body, seen };
  }

  const isTooLarge = async (response) => {
    assert.equal(response.status, 413);
    const { errors } = await response.json();
    assert.equal(errors[0].code, 3006);
  };

  test("is 3006, and its rest is not read", async () => {
    const { body, seen } = endless();
    await isTooLarge(await ai.fetch(RUN, { method: "POST", body, duplex: "half" }));
    assert.ok(seen.cancelled);
    const { bytes } = seen;
    await sleep(50);
    assert.equal(seen.bytes, bytes);
  });

  test("is not read at all where it says its length", async () => {
    const { body, seen } = endless();
    await isTooLarge(await ai.fetch(RUN, { method: "POST", body, duplex: "half", headers: { "content-length": "1000000000" } }));
    assert.deepEqual(seen, { bytes: 0, cancelled: true });
  });

  test("is none that the schema allows: the longest prompt goes through", async () => {
    // Four bytes a character; more tokens than the model reads.
    const response = await run({ prompt: "😀".repeat(131_072 / 2), raw: true });
    assert.equal((await response.json()).errors[0].code, 5021);
  });
});

describe("a signal", () => {
  const works = async () => assert.equal((await run({ ...PARIS, max_tokens: 1 })).status, 200);

  for (const stream of [false, true]) {
    test(`that fired before the start is an AbortError (stream: ${stream})`, async () => {
      const before = await activity();
      await assert.rejects(run({ ...LONG, stream }, { signal: AbortSignal.abort() }), isAbort);
      assert.deepEqual(await activity(), before, "nothing was begun");
      await works();
    });
  }

  for (const [what, ask] of Object.entries({
    "beside the address": (init) => ai.fetch(RUN, init),
    "of a Request": (init) => ai.fetch(new Request(`${ORIGIN}${RUN}`, init)),
    "in the place of a Request's own": (init) => ai.fetch(new Request(`${ORIGIN}${RUN}`, { ...init, signal: new AbortController().signal }), init),
  })) {
    test(`${what} ends an answer in flight`, async () => {
      const abort = new AbortController();
      const before = await activity();
      const running = ask({ method: "POST", body: JSON.stringify(LONG), signal: abort.signal });
      setTimeout(() => abort.abort(), WHILE);
      await assert.rejects(running, isAbort);
      assert.ok((await activity()).tokens > before.tokens, "it had begun");
      await isOver();
      await works();
    });
  }

  test("ends a stream midway: its reader gets the AbortError", async () => {
    const abort = new AbortController();
    const reader = (await run({ ...LONG, stream: true }, { signal: abort.signal })).body.getReader();
    await reader.read();
    const reading = reader.read();
    abort.abort();
    await assert.rejects(reading, isAbort);
    await assert.rejects(reader.closed, isAbort);
    await isOver();
    await works();
  });

  test("ends a stream whose request is forgotten and collected", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc");
    const abort = new AbortController();
    const begin = async () => {
      const request = new Request(`${ORIGIN}${RUN}`, { method: "POST", body: JSON.stringify({ ...LONG, stream: true }), signal: abort.signal });
      return (await ai.fetch(request)).body.getReader();
    };
    const reader = await begin();
    await reader.read();
    for (let round = 0; round < 5; round += 1) {
      collect();
      await sleep(10);
    }
    abort.abort();
    await assert.rejects(reader.read(), isAbort);
    await isOver();
  });

  test("ends the wait for a body that does not come", async () => {
    const abort = new AbortController();
    let cancelled = false;
    const body = new ReadableStream({ cancel: () => void (cancelled = true) });
    const asked = ai.fetch(RUN, { method: "POST", body, duplex: "half", signal: abort.signal });
    setTimeout(() => abort.abort(), 50);
    await assert.rejects(asked, isAbort);
    assert.ok(cancelled);
    await works();
  });

  test("that fires after the end changes nothing", async () => {
    const abort = new AbortController();
    const response = await run({ ...PARIS, max_tokens: 1 }, { signal: abort.signal });
    abort.abort();
    assert.equal((await response.json()).result.response, " Paris");
    await works();
  });
});

describe("a stream", () => {
  test("computes nothing while nobody reads it, and goes on when somebody does", async () => {
    const { body } = await run({ ...LONG, stream: true });
    const { tokens } = await activity();
    await sleep(WHILE);
    assert.deepEqual(await activity(), { active: 1, tokens });
    const reader = body.getReader();
    await reader.read();
    assert.ok((await activity()).tokens > tokens);
    await reader.cancel();
  });

  test("that is cancelled ends its computation", async () => {
    const reader = (await run({ ...LONG, stream: true })).body.getReader();
    await reader.read();
    assert.equal((await activity()).active, 1);
    await reader.cancel();
    await isOver();
  });

  test("gives the text of the object", async () => {
    const answer = await readAnswer((await run({ ...STORY, stream: true })).body);
    assert.equal(answer.text, (await (await run(STORY)).json()).result.response);
  });
});
