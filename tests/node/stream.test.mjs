// Streams in Node: server-sent events computed on demand, cancelling, aborting, concurrent requests and cached prefixes.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Ai } from "workers-ai-local";
import { MODEL, MODEL_PATH, PARIS } from "../real-model.mjs";
import { answerIn, chunksOf, eventsIn, readAnswer } from "../sse.mjs";

const STORY = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 5, max_tokens: 10 };
/** Has more tokens than any test reads. */
const LONG = { ...STORY, max_tokens: 2000, stream: true };
/** Milliseconds: longer than a token takes, so that an ongoing computation becomes visible. */
const WHILE = 400;

const ai = new Ai({ onWarning() {} });
const run = (input, options) => ai.run(MODEL, input, options);
const stream = (input, options) => run({ ...input, stream: true }, options);

/** The number of requests in progress and of tokens computed so far. */
async function activity(of = ai) {
  const { models } = await of.stats();
  return { active: models[0].active, tokens: models[0].tokens };
}

const isAbort = (error) => {
  assert.ok(error instanceof DOMException, `a DOMException, not ${error}`);
  assert.equal(error.name, "AbortError");
  return true;
};

before(() => ai.load());

describe("the event stream", () => {
  test("consists of pieces of text, then the usage, then [DONE]", async () => {
    const events = eventsIn(...(await chunksOf(await stream({ ...PARIS, max_tokens: 5 }))));
    assert.equal(events.at(-1), "[DONE]");
    const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
    const usage = parsed.pop();
    assert.ok(parsed.length > 1, "the text arrives in several pieces");
    for (const event of parsed) assert.ok(typeof event.response === "string" && event.response !== "" && !event.usage);
    assert.deepEqual(usage, {
      response: "",
      usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10, prompt_tokens_details: { cached_tokens: 0 } },
      finish_reason: "length",
    });
  });

  test("has whole events in every chunk", async () => {
    const chunks = await chunksOf(await stream({ ...STORY }));
    assert.ok(chunks.length > 2);
    for (const chunk of chunks) {
      assert.ok(chunk instanceof Uint8Array);
      assert.ok(eventsIn(chunk).length >= 1);
    }
  });

  test("has the same text as the object answer", async () => {
    const object = await run(STORY);
    const answer = await readAnswer(await stream(STORY));
    assert.equal(answer.text, object.response);
    assert.equal(answer.usage.completion_tokens, object.usage.completion_tokens);
    assert.equal(answer.finish_reason, object.finish_reason);
  });

  test("ends as documented even if the answer has no tokens", async () => {
    const answer = await readAnswer(await stream({ ...PARIS, max_tokens: 0 }));
    assert.deepEqual([answer.text, answer.usage.completion_tokens, answer.finish_reason], ["", 0, "length"]);
  });

  test("is a byte stream: readers may supply their own buffer", async () => {
    const reader = (await stream(STORY)).getReader({ mode: "byob" });
    const bytes = [];
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(16));
      if (done) break;
      assert.ok(value.length > 0 && value.length <= 16);
      bytes.push(...value);
    }
    assert.equal(answerIn(Uint8Array.from(bytes)).text, (await run(STORY)).response);
  });

  test("can be the body of a Response", async () => {
    const text = await new Response(await stream({ ...PARIS, max_tokens: 2 })).text();
    assert.equal(answerIn(new TextEncoder().encode(text)).usage.completion_tokens, 2);
  });
});

describe("a stream that is not read", () => {
  test("computes nothing, not even the prompt", async () => {
    const { tokens } = await activity();
    const unread = await stream({ ...LONG, prompt: "A prompt that no other test has" });
    await sleep(WHILE);
    assert.deepEqual(await activity(), { active: 1, tokens });
    await unread.cancel();
  });

  test("pauses when its reader stops reading, and continues when it reads again", async () => {
    const reader = (await stream(LONG)).getReader();
    await reader.read();
    const { tokens } = await activity();
    await sleep(WHILE);
    assert.equal((await activity()).tokens, tokens);
    await reader.read();
    assert.ok((await activity()).tokens > tokens);
    await reader.cancel();
  });
});

describe("cancelling", () => {
  test("stops the computation", async () => {
    const reader = (await stream(LONG)).getReader();
    await reader.read();
    assert.equal((await activity()).active, 1);
    await reader.cancel();
    const after = await activity();
    assert.equal(after.active, 0);
    await sleep(WHILE);
    assert.deepEqual(await activity(), after);
  });

  test("during a read stops the computation within one token", async () => {
    const reader = (await stream(LONG)).getReader();
    await reader.read();
    const { tokens } = await activity();
    const reading = reader.read();
    await reader.cancel();
    assert.deepEqual(await reading, { done: true, value: undefined });
    await sleep(WHILE);
    const after = await activity();
    assert.equal(after.active, 0);
    assert.ok(after.tokens - tokens <= 1, `${after.tokens - tokens} tokens were computed after the stream was cancelled`);
  });

  test("keeps the computed prefix for the next request with this prompt", async () => {
    const prompt = "A story that is told once, and then cancelled:";
    const reader = (await stream({ ...LONG, prompt })).getReader();
    await reader.read();
    await reader.cancel();
    const { usage } = await run({ ...STORY, prompt, max_tokens: 1 });
    assert.equal(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens - 1);
  });
});

describe("an AbortSignal", () => {
  const works = async () => assert.equal((await run({ ...PARIS, max_tokens: 1 })).usage.completion_tokens, 1);

  for (const streamed of [false, true]) {
    test(`that is already aborted causes an AbortError (stream: ${streamed})`, async () => {
      const before = await activity();
      await assert.rejects(run({ ...LONG, stream: streamed }, { signal: AbortSignal.abort() }), isAbort);
      assert.deepEqual(await activity(), before, "nothing was started");
      await works();
    });
  }

  test("aborts an object answer in progress", async () => {
    const abort = new AbortController();
    const running = run({ ...LONG, stream: false }, { signal: abort.signal });
    setTimeout(() => abort.abort(), WHILE);
    await assert.rejects(running, isAbort);
    const after = await activity();
    assert.equal(after.active, 0);
    await sleep(WHILE);
    assert.deepEqual(await activity(), after, "nothing is computed any more");
    await works();
  });

  test("aborts a stream in progress: its reader receives the AbortError", async () => {
    const abort = new AbortController();
    const reader = (await stream(LONG, { signal: abort.signal })).getReader();
    await reader.read();
    const reading = reader.read();
    abort.abort();
    await assert.rejects(reading, isAbort);
    await assert.rejects(reader.read(), isAbort);
    await assert.rejects(reader.closed, isAbort);
    assert.equal((await activity()).active, 0);
    await works();
  });

  test("aborts a stream that is not being read", async () => {
    const abort = new AbortController();
    const unread = await stream(LONG, { signal: abort.signal });
    abort.abort();
    assert.equal((await activity()).active, 0);
    await assert.rejects(unread.getReader().read(), isAbort);
    await works();
  });

  test("with a reason of the caller's causes this error, before the start and in the middle", async () => {
    const reason = new Error("no longer needed");
    await assert.rejects(run(STORY, { signal: AbortSignal.abort(reason) }), (error) => error === reason);
    const early = new AbortController();
    const running = run({ ...LONG, stream: false }, { signal: early.signal });
    setTimeout(() => early.abort(reason), WHILE);
    await assert.rejects(running, (error) => error === reason);
    const abort = new AbortController();
    const reader = (await stream(LONG, { signal: abort.signal })).getReader();
    await reader.read();
    abort.abort(reason);
    await assert.rejects(reader.read(), (error) => error === reason);
    await works();
  });

  test("that fires after the end has no effect", async () => {
    const abort = new AbortController();
    const { signal } = abort;
    assert.ok(await run({ ...PARIS, max_tokens: 1 }, { signal }));
    const reader = (await stream({ ...PARIS, max_tokens: 1 }, { signal })).getReader();
    while (!(await reader.read()).done);
    abort.abort();
    await reader.closed;
    await works();
  });

  test("while the model loads, aborts only its own request", async () => {
    const fresh = new Ai();
    const abort = new AbortController();
    const aborted = fresh.run(MODEL, PARIS, { signal: abort.signal });
    const other = fresh.run(MODEL, { ...PARIS, max_tokens: 2 });
    setTimeout(() => abort.abort(), 30);
    await assert.rejects(aborted, isAbort);
    assert.equal((await other).usage.completion_tokens, 2);
  });
});

describe("concurrent requests", () => {
  const prompts = ["The sun is", "The moon is", "The sea is", "The sky is", "The earth is", "The wind is"];
  const inputs = prompts.map((prompt, index) => ({ ...STORY, prompt, seed: index + 1, max_tokens: 8 }));

  test("have the same text as when run alone", async () => {
    const alone = [];
    for (const input of inputs) alone.push((await run(input)).response);
    const together = await Promise.all(inputs.map((input) => run(input)));
    assert.deepEqual(together.map(({ response }) => response), alone);
    const streams = await Promise.all(inputs.map((input) => stream(input)));
    assert.deepEqual((await Promise.all(streams.map(readAnswer))).map(({ text }) => text), alone);
  });

  test("advance evenly: none waits until another one ends", async () => {
    const few = inputs.slice(0, 3).map((input) => ({ ...input, max_tokens: 12 }));
    const order = [];
    const streams = await Promise.all(few.map((input) => stream(input)));
    await Promise.all(
      streams.map(async (each, index) => {
        for await (const _chunk of each) order.push(index);
      }),
    );
    const counts = [0, 0, 0];
    let apart = 0;
    for (const index of order) {
      counts[index] += 1;
      apart = Math.max(apart, Math.max(...counts) - Math.min(...counts));
      // After the first stream has ended, there is nothing to compare.
      if (counts[index] === order.filter((other) => other === index).length) break;
    }
    // A token may be held back until the next one shows that its character is complete, so a few chunks apart counts as even.
    assert.ok(apart <= 3, `one is ${apart} chunks ahead of another: ${order.join("")}`);
  });

  test("more started and unread streams than there are KV caches do not block others, and continue later", async () => {
    const begun = (await Promise.all(inputs.map((input) => stream(input)))).map((each) => each.getReader());
    const firsts = await Promise.all(begun.map((reader) => reader.read()));
    assert.equal((await activity()).active, inputs.length);
    assert.equal((await run({ ...PARIS, max_tokens: 3 })).usage.completion_tokens, 3);
    for (const [index, reader] of begun.entries()) {
      const chunks = [firsts[index].value];
      for (let read; !(read = await reader.read()).done; ) chunks.push(read.value);
      assert.equal(answerIn(...chunks).text, (await run(inputs[index])).response);
    }
  });
});

describe("a full queue", () => {
  test("is 3040, and accepts requests again when one ends", async () => {
    const small = new Ai({ queue: 2 });
    const waiting = [await small.run(MODEL, LONG), await small.run(MODEL, LONG)];
    const refused = await small.run(MODEL, PARIS).catch((error) => error);
    assert.equal(refused.name, "AiError");
    assert.match(refused.message, /^3040: /);
    assert.equal(small.lastRequestHttpStatusCode, 429);
    await waiting[0].cancel();
    assert.equal((await small.run(MODEL, { ...PARIS, max_tokens: 1 })).usage.completion_tokens, 1);
    await waiting[1].cancel();
  });
});

describe("the second turn of a conversation", () => {
  test("reuses the first turn's cached prefix, and has the same text as without a cache", async () => {
    const first = [{ role: "system", content: "You tell stories." }, { role: "user", content: "Tell me about a cat." }];
    const greedy = { temperature: 0, max_tokens: 8 };
    const turn = await run({ messages: first, ...greedy });
    const second = [...first, { role: "assistant", content: turn.response }, { role: "user", content: "And a dog?" }];
    const warm = await run({ messages: second, ...greedy });
    const cached = warm.usage.prompt_tokens_details.cached_tokens;
    assert.ok(cached >= turn.usage.prompt_tokens, `${cached} tokens were cached; the first prompt alone has ${turn.usage.prompt_tokens}`);
    const cold = await new Ai({ default: MODEL_PATH }).run(MODEL, { messages: second, ...greedy });
    assert.equal(cold.usage.prompt_tokens_details.cached_tokens, 0);
    assert.equal(warm.response, cold.response);
    assert.equal(warm.usage.prompt_tokens, cold.usage.prompt_tokens);
  });
});
