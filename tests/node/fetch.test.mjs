// `ai.fetch` in Node: requests, responses, errors, limits on bodies, abort signals and cancelled streams.

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
/** Has more tokens than any test reads. */
const LONG = { ...STORY, max_tokens: 2000 };
/** Milliseconds: longer than a token takes, so that an ongoing computation becomes visible. */
const WHILE = 400;
const RUN = `/client/v4/accounts/local/ai/run/${MODEL}`;
const ORIGIN = "https://api.cloudflare.com";

const ai = new Ai({ onWarning() {} });
before(() => ai.load());

const post = (path, body, init) => ai.fetch(path, { method: "POST", body: JSON.stringify(body), ...init });
const run = (input, init) => post(RUN, input, init);

/** The number of requests in progress and of tokens computed so far. */
async function activity() {
  const { models } = await ai.stats();
  return { active: models[0].active, tokens: models[0].tokens };
}

/** Checks that no request is in progress and nothing is computed any more. */
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
    "a URL as a string": () => ai.fetch(`${ORIGIN}${RUN}`, init()),
    "a URL object": () => ai.fetch(new URL(RUN, ORIGIN), init()),
    "a Request": () => ai.fetch(new Request(`${ORIGIN}${RUN}`, init())),
    "a Request whose method and body init overrides": () => ai.fetch(new Request(`${ORIGIN}${RUN}`, { method: "PUT", body: "no" }), init()),
    "a request whose body is a stream": () => ai.fetch(RUN, { ...init(), body: new Blob([init().body]).stream(), duplex: "half" }),
    "a request whose body is bytes": () => ai.fetch(RUN, { ...init(), body: new TextEncoder().encode(init().body) }),
  })) {
    test(`may be ${what}`, async () => {
      const response = await asked();
      assert.ok(response instanceof Response);
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), "application/json");
      assert.equal((await response.json()).result.response, await expected());
    });
  }

  test("may begin with a byte order mark, on every surface", async () => {
    const bodies = {
      [RUN]: STORY,
      "/v1/chat/completions": { model: MODEL, messages: [{ role: "user", content: "Hi" }], max_tokens: 1 },
      "/run?version=3": { inputs: STORY, options: {} },
    };
    for (const [path, body] of Object.entries(bodies)) {
      const response = await ai.fetch(path, { method: "POST", headers: { "cf-consn-model-id": MODEL }, body: `\uFEFF${JSON.stringify(body)}` });
      assert.equal(response.status, 200, `${path}: ${await response.text()}`);
    }
  });

  test("may have no body", async () => {
    const ids = (await (await ai.fetch("/v1/models")).json()).data.map(({ id }) => id);
    const names = (await ai.models()).map(({ name }) => name);
    for (const name of names) assert.ok(ids.includes(name), name);
    const head = await ai.fetch("/v1/models", { method: "HEAD" });
    assert.equal(head.status, 200);
  });

  test("in the binding's protocol is answered without an envelope", async () => {
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
    "an invalid URL": () => ai.fetch("http://"),
    "a GET with a body": () => ai.fetch("/v1/models", { body: "{}" }),
    "an invalid method": () => ai.fetch("/v1/models", { method: "NO SUCH" }),
    "a Request whose body was already read": async () => {
      const request = new Request(`${ORIGIN}${RUN}`, init());
      await request.text();
      return ai.fetch(request);
    },
  })) {
    test(`cannot be ${what}: TypeError`, () => assert.rejects(asked(), TypeError));
  }
});

describe("an error response", () => {
  const wrong = {
    "an unknown model": [() => post("/client/v4/accounts/local/ai/run/@cf/no/such", STORY), 400, 5007],
    "a value out of range": [() => run({ ...STORY, temperature: 9 }), 400, 5006],
    "a body that is not JSON": [() => ai.fetch(RUN, { method: "POST", body: "prompt=Hi" }), 400, 5004],
    "a missing body": [() => ai.fetch(RUN, { method: "POST" }), 400, 5004],
    "a body that is not UTF-8": [() => ai.fetch(RUN, { method: "POST", body: new Uint8Array([0x22, 0xff, 0x22]) }), 400, 5004],
    "an unknown path": [() => ai.fetch("/nowhere"), 404, 3042],
  };
  for (const [what, [asked, status, code]] of Object.entries(wrong)) {
    test(`for ${what}: ${code}`, async () => {
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

  test("for a full queue: 3040, until a request ends", async () => {
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

  // An engine fails when memory runs out, which a test cannot cause at a chosen place: a fake engine throws the error instead.
  test("for a failed engine, in a body that contains the error in the form of every surface", async () => {
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
  /** An endless body, and a record of the bytes read from it and of its cancellation. */
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

  test("is 3006, and the rest is not read", async () => {
    const { body, seen } = endless();
    await isTooLarge(await ai.fetch(RUN, { method: "POST", body, duplex: "half" }));
    assert.ok(seen.cancelled);
    const { bytes } = seen;
    await sleep(50);
    assert.equal(seen.bytes, bytes);
  });

  test("is not read at all if content-length states its size", async () => {
    const { body, seen } = endless();
    await isTooLarge(await ai.fetch(RUN, { method: "POST", body, duplex: "half", headers: { "content-length": "1000000000" } }));
    assert.deepEqual(seen, { bytes: 0, cancelled: true });
  });

  test("together with the others waits until there is room: 64 MiB of large bodies at once, and small ones go on", async () => {
    const abort = new AbortController();
    const seen = { bytes: 0 };
    /** 7 MiB, and then nothing more until the request is aborted. */
    const stalled = () => {
      let left = 7;
      const pull = (controller) => {
        if (left === 0) return new Promise(() => {});
        left -= 1;
        seen.bytes += 1 << 20;
        controller.enqueue(new Uint8Array(1 << 20).fill(0x20));
      };
      return new ReadableStream({ pull }, { highWaterMark: 0 });
    };
    // Referred to until the end: a stream to which nothing refers is collected, with the request that reads it.
    const bodies = Array.from({ length: 12 }, stalled);
    const stuck = bodies.map((body) => ai.fetch(RUN, { method: "POST", body, duplex: "half", signal: abort.signal }));
    await sleep(200);
    // Eight are read; of each of the others the first piece has come.
    assert.equal(seen.bytes, (8 * 7 + 4) << 20);
    assert.equal((await run({ prompt: "a", max_tokens: 1 })).status, 200);
    const large = () => run({ prompt: "a", max_tokens: 1, filler: " ".repeat(7 << 20) });
    const waiting = large();
    abort.abort();
    for (const { status } of await Promise.allSettled(stuck)) assert.equal(status, "rejected");
    assert.equal(bodies.length, 12);
    for (const { status } of await Promise.all([waiting, ...Array.from({ length: 12 }, large)])) assert.equal(status, 200);
  });

  test("that never ends gives its room back when nothing refers to it any more", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc");
    const piece = new Uint8Array(1 << 20).fill(0x20);
    /** 7 MiB, and then nothing more, ever. */
    const endless = () => {
      let left = 7;
      return new ReadableStream({ pull: (controller) => (left-- > 0 ? controller.enqueue(piece) : new Promise(() => {})) }, { highWaterMark: 0 });
    };
    const bodies = Array.from({ length: 20 }, endless);
    for (const body of bodies) ai.fetch(RUN, { method: "POST", body, duplex: "half" });
    let answered = 0;
    const large = Array.from({ length: 3 }, () => run({ prompt: "a", max_tokens: 1, filler: " ".repeat(7 << 20) }).then(({ status }) => void (answered += status === 200)));
    await sleep(100);
    assert.equal(answered, 0, "precondition: there is no room");
    bodies.length = 0;
    for (let round = 0; round < 100 && answered < large.length; round += 1) {
      collect();
      await sleep(20);
    }
    assert.equal(answered, large.length);
  });

  test("is longer than any valid input: the longest allowed prompt is within the limit", async () => {
    // Four bytes per character; 5021 because these are more tokens than the context window holds.
    const response = await run({ prompt: "😀".repeat(131_072 / 2), raw: true });
    assert.equal((await response.json()).errors[0].code, 5021);
  });
});

describe("a signal", () => {
  const works = async () => assert.equal((await run({ ...PARIS, max_tokens: 1 })).status, 200);

  for (const stream of [false, true]) {
    test(`that is already aborted causes an AbortError (stream: ${stream})`, async () => {
      const before = await activity();
      await assert.rejects(run({ ...LONG, stream }, { signal: AbortSignal.abort() }), isAbort);
      assert.deepEqual(await activity(), before, "nothing was started");
      await works();
    });
  }

  for (const [what, ask] of Object.entries({
    "in the init of a path": (init) => ai.fetch(RUN, init),
    "of a Request": (init) => ai.fetch(new Request(`${ORIGIN}${RUN}`, init)),
    "in the init that overrides the Request's own": (init) => ai.fetch(new Request(`${ORIGIN}${RUN}`, { ...init, signal: new AbortController().signal }), init),
  })) {
    test(`${what} aborts an answer in progress`, async () => {
      const abort = new AbortController();
      const before = await activity();
      const running = ask({ method: "POST", body: JSON.stringify(LONG), signal: abort.signal });
      setTimeout(() => abort.abort(), WHILE);
      await assert.rejects(running, isAbort);
      assert.ok((await activity()).tokens > before.tokens, "the computation had started");
      await isOver();
      await works();
    });
  }

  test("with a reason of the caller's rejects with this error", async () => {
    const reason = new Error("mine");
    await assert.rejects(run(LONG, { signal: AbortSignal.abort(reason) }), (error) => error === reason);
    const abort = new AbortController();
    const running = run(LONG, { signal: abort.signal });
    setTimeout(() => abort.abort(reason), WHILE);
    await assert.rejects(running, (error) => error === reason);
    await isOver();
  });

  test("aborts a stream in progress: its reader receives the AbortError", async () => {
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

  test("aborts a stream whose Request was garbage-collected", async () => {
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

  test("aborts a request whose body never arrives", async () => {
    const abort = new AbortController();
    let cancelled = false;
    const body = new ReadableStream({ cancel: () => void (cancelled = true) });
    const asked = ai.fetch(RUN, { method: "POST", body, duplex: "half", signal: abort.signal });
    setTimeout(() => abort.abort(), 50);
    await assert.rejects(asked, isAbort);
    assert.ok(cancelled);
    await works();
  });

  test("that fires after the end has no effect", async () => {
    const abort = new AbortController();
    const response = await run({ ...PARIS, max_tokens: 1 }, { signal: abort.signal });
    abort.abort();
    assert.equal((await response.json()).result.response, " Paris");
    await works();
  });
});

describe("a stream", () => {
  test("computes nothing while it is not read, and continues when it is", async () => {
    const { body } = await run({ ...LONG, stream: true });
    const { tokens } = await activity();
    await sleep(WHILE);
    assert.deepEqual(await activity(), { active: 1, tokens });
    const reader = body.getReader();
    await reader.read();
    assert.ok((await activity()).tokens > tokens);
    await reader.cancel();
  });

  test("stops its computation when it is cancelled", async () => {
    const reader = (await run({ ...LONG, stream: true })).body.getReader();
    await reader.read();
    assert.equal((await activity()).active, 1);
    await reader.cancel();
    await isOver();
  });

  test("has the same text as the object answer", async () => {
    const answer = await readAnswer((await run({ ...STORY, stream: true })).body);
    assert.equal(answer.text, (await (await run(STORY)).json()).result.response);
  });
});
