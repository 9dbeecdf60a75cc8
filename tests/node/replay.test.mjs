// A trap costs other requests time, never text: they are computed again on a new instance, from where their readers are.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { Ai } from "workers-ai-local";
import { narrow, newTicket } from "../../pkg/instance.js";
import { FAILURES, WORDS, streamWhileAnotherBreaks } from "../lost-instance.mjs";
import { MODEL } from "../real-model.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const OTHER = "@cf/own/other";
const STORY = { prompt: "Once upon a time", raw: true, temperature: 0.9, seed: 7, max_tokens: 12 };
const BROKEN = FAILURES.stack.says;
/** A small model, which is quickly loaded again. */
const COUNTING = "@cf/own/counting";
const COUNT = { prompt: "Count!" };
const ai = new Ai({ models: { [COUNTING]: scriptedModel({ script: WORDS }).bytes } });
const other = new Ai({ models: { [OTHER]: scriptedModel({ script: ["Hello", " there."] }).bytes } });

/** Makes the next poll of any request overflow the stack. */
const breakNextPoll = (ticket = 0) => narrow.glue().failNextPoll("stack", ticket);

/** Reads a stream to its end; `afterChunk` is called after each chunk, with its number. */
async function read(stream, afterChunk = () => {}) {
  const [chunks, decoder] = [[], new TextDecoder()];
  for await (const chunk of stream) {
    chunks.push(decoder.decode(chunk, { stream: true }));
    await afterChunk(chunks.length);
  }
  return chunks.join("");
}

const eventsOf = (text) => text.split("\n\n").filter((event) => event.startsWith("data: {")).map((event) => JSON.parse(event.slice("data: ".length)));
const textOf = (text) => eventsOf(text).map(({ response, choices }) => response ?? choices?.[0]?.delta.content ?? "").join("");

describe("while a stream is read", () => {
  const stream = () => ai.run(COUNTING, { ...COUNT, stream: true });
  let expected;
  before(async () => {
    expected = await read(await stream());
    assert.equal(textOf(expected), WORDS.join(""));
    await other.load(OTHER);
    // Running out of memory must not take 4 GiB.
    setFlagsFromString("--wasm-max-mem-pages=4000");
  });
  after(() => setFlagsFromString("--wasm-max-mem-pages=65536"));

  for (const how of Object.keys(FAILURES)) {
    test(`a request on another model that fails by ${how} fails alone`, async (t) => {
      // A panic writes its message there.
      t.mock.method(console, "error", () => {});
      const counting = new Ai({ default: scriptedModel({ script: WORDS }).bytes, onWarning() {} });
      const harmful = new Ai({ default: scriptedModel().bytes, onWarning() {} });
      const { text, error, later, replaced } = await streamWhileAnotherBreaks(narrow, counting, harmful, MODEL, how);
      assert.match(error, FAILURES[how].says);
      assert.deepEqual([text, later, replaced], [WORDS.join(""), "Hello there!", FAILURES[how].replaced]);
    });
  }

  test("the request that the engine worked for is blamed, not the one in whose turn it failed", async () => {
    let guilty;
    const seen = await read(await stream(), async (count) => {
      if (count !== 2) return;
      guilty = await other.run(OTHER, { prompt: "Hi", stream: true });
      // The guilty request has the ticket before this one.
      breakNextPoll(newTicket() - 1);
    });
    assert.equal(seen, expected);
    await assert.rejects(read(guilty), { message: BROKEN });
  });

  test("objects in flight complete", async () => {
    const running = [ai.run(COUNTING, COUNT), ai.run(COUNTING, COUNT), other.run(OTHER, { prompt: "Hi" })];
    breakNextPoll();
    const settled = await Promise.allSettled(running);
    const failed = settled.filter(({ status }) => status === "rejected");
    assert.equal(failed.length, 1);
    assert.match(failed[0].reason.message, BROKEN);
    const texts = settled.map(({ value }) => value?.response).filter((text) => text !== undefined);
    const right = [WORDS.join(""), WORDS.join(""), "Hello there."];
    assert.deepEqual(texts, right.filter((_, index) => settled[index].status === "fulfilled"));
  });

  test("an answer that loses its instance again and again ends in an error that says to try again", async () => {
    const often = read(await stream(), async () => {
      breakNextPoll();
      await assert.rejects(other.run(OTHER, { prompt: "Hi" }), { message: BROKEN });
    });
    await assert.rejects(often, { message: /^3040: The engine was restarted \(another request broke it\)\. Try again\.$/ });
    assert.equal(await read(await stream()), expected);
  });
});

describe("sampled answers of the real model", () => {
  test("with a seed: the same text as undisturbed", async () => {
    const expected = await read(await ai.run(MODEL, { ...STORY, stream: true }));
    assert.ok(textOf(expected).length > 20, expected);
    const seen = await read(await ai.run(MODEL, { ...STORY, stream: true }), async (count) => {
      if (count !== 4) return;
      breakNextPoll();
      await assert.rejects(other.run(OTHER, { prompt: "Hi" }), { message: BROKEN });
    });
    assert.equal(seen, expected);
  });

  test("without a seed: goes on as it began, with the same id and time", async () => {
    const body = { model: MODEL, messages: [{ role: "user", content: "Tell me about the sea." }], max_tokens: 12, temperature: 1.5, stream: true };
    const response = await ai.fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify(body) });
    const seen = await read(response.body, async (count) => {
      if (count !== 6) return;
      breakNextPoll();
      await assert.rejects(other.run(OTHER, { prompt: "Hi" }), { message: BROKEN });
    });
    assert.match(seen, /data: \[DONE\]\n\n$/);
    const events = eventsOf(seen);
    assert.equal(new Set(events.map(({ id, created }) => `${id} ${created}`)).size, 1);
    assert.equal(events.filter(({ choices }) => choices[0]?.delta.role).length, 1, "it began once");
    assert.match(events.at(-1).choices[0].finish_reason, /^(length|stop)$/);
  });
});
