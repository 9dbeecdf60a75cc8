// `env.AI` as a service binding to the local AI Worker's entrypoint: the answers and errors that a calling Worker receives.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MODEL, PARIS } from "../real-model.mjs";
import { answerIn, chunksOf, readAnswer } from "../sse.mjs";
import { activity, eventually, startProbe } from "./worker.mjs";

const STORY = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 5, max_tokens: 8 };
/** A stream with more tokens than any test reads. */
const LONG = { ...STORY, max_tokens: 4000, stream: true };

let worker;
before(async () => {
  worker = await startProbe({ fixture: "probe", configs: ["wrangler.toml"] });
});
after(() => worker?.stop());

const works = async () => assert.match((await worker.run(MODEL, { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
const isGone = () => eventually("no request is in progress", async () => (await activity(worker)).active === 0);
/** Checks that nothing is computed while no request waits for tokens. */
async function standsStill() {
  const first = await activity(worker);
  await sleep(700);
  assert.deepEqual(await activity(worker), first);
}

describe("an answer", () => {
  test("is an object", async () => {
    assert.deepEqual(await worker.run(MODEL, { ...PARIS, max_tokens: 3 }), {
      response: " Paris.\n",
      usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8, prompt_tokens_details: { cached_tokens: 0 } },
      finish_reason: "length",
    });
  });

  test("is a stream with the same text", async () => {
    const response = await worker.respond(MODEL, { ...STORY, stream: true });
    const chunks = await chunksOf(response.body);
    assert.ok(chunks.length > 1, "the text arrives while it is computed");
    const answer = answerIn(...chunks);
    assert.equal(answer.text, (await worker.run(MODEL, STORY)).response);
    assert.deepEqual([answer.usage.completion_tokens, answer.finish_reason], [8, "length"]);
  });

  test("is a raw Response", async () => {
    const object = await worker.respond(MODEL, { ...PARIS, max_tokens: 1 }, { returnRawResponse: true });
    assert.equal(object.status, 200);
    assert.equal(object.headers.get("content-type"), "application/json");
    assert.match(object.headers.get("cf-ai-req-id"), /^[\w-]{8,}$/);
    assert.equal((await object.json()).response, " Paris");

    const stream = await worker.respond(MODEL, { ...PARIS, max_tokens: 1, stream: true }, { returnRawResponse: true });
    assert.equal(stream.headers.get("content-type"), "text/event-stream");
    assert.match(stream.headers.get("cf-ai-req-id"), /^[\w-]{8,}$/);
    assert.equal((await readAnswer(stream.body)).text, " Paris");

    const error = await worker.respond("@cf/x/y", PARIS, { returnRawResponse: true });
    assert.equal(error.status, 400);
    assert.equal(error.headers.get("content-type"), "application/json");
    const description = "No such model @cf/x/y or task";
    assert.deepEqual(await error.json(), { name: "AiError", internalCode: 5007, httpCode: 400, message: `AiError: ${description}`, description });
  });
});

describe("an error", () => {
  const thrown = (name, message) => (error) => {
    assert.equal(error.name, name);
    assert.match(error.message, message);
    assert.ok(error.isError, "an instance of Error in the calling Worker");
    return true;
  };
  const ERRORS = {
    "an unknown model": ["@cf/x/y", PARIS, /^5007: No such model @cf\/x\/y or task$/],
    "no prompt": [MODEL, {}, /^5006: oneOf at '\/' not met, 0 matches: required properties/],
    "a temperature out of range": [MODEL, { ...PARIS, temperature: 6 }, /^5006: .*'\/temperature' must be <= 5$/],
    "a lone surrogate": [MODEL, { prompt: "\uD83D" }, /^5004: Invalid data/],
    "a prompt that is too long": [MODEL, { prompt: " a".repeat(9000), raw: true }, /^5021: .* \(9256\) .* \(8192\)\.$/],
  };
  for (const [what, [model, input, message]] of Object.entries(ERRORS)) {
    test(`for ${what} has its name and message`, async () => {
      await assert.rejects(worker.run(model, input), thrown("AiError", message));
      await assert.rejects(worker.run(model, { ...input, stream: true }), thrown("AiError", message));
      await works();
    });
  }

  for (const member of ["gateway", "autorag", "aiSearch", "toMarkdown", "websearch"]) {
    test(`for ${member}() is an AiInternalError`, async () => {
      await assert.rejects(worker.call(member, "id"), thrown("AiInternalError", /is not available locally/));
    });
  }
});

describe("the other members", () => {
  test("models() returns the catalogue", async () => {
    const names = (listings) => listings.map(({ name }) => name);
    assert.ok(names(await worker.call("models")).includes("@cf/meta/llama-2-7b-chat-int8"));
    assert.deepEqual(names(await worker.call("models", { search: "codellama" })), ["@hf/codellama/codellama-7b-hf"]);
  });

  test("getLogs() is empty", async () => assert.deepEqual(await worker.call("getLogs"), []));
});

describe("a model without weights", () => {
  test("is replaced by the default model, with one warning in the log", async () => {
    const id = "@cf/meta/llama-3-8b-instruct";
    for (let i = 0; i < 2; i += 1) assert.equal((await worker.run(id, { ...PARIS, max_tokens: 1 })).response, " Paris");
    const said = () => worker.logs.filter((line) => line.includes(`${id} has no local weights`)).length;
    await eventually("the warning is in the log", () => said() > 0);
    assert.equal(said(), 1);
  });
});

describe("an abandoned stream", () => {
  test("cancelled by the Worker that reads it: the computation ends", async () => {
    const [first, second] = await worker.cancelled(MODEL, LONG, 2);
    assert.ok(first.startsWith('data: {"response":"') && second.startsWith('data: {"response":"'));
    await isGone();
    await standsStill();
    await works();
  });

  test("aborted by the client of that Worker: the computation ends", async () => {
    const leave = new AbortController();
    const response = await worker.respond(MODEL, LONG, {}, { signal: leave.signal });
    const reader = response.body.getReader();
    await reader.read();
    assert.equal((await activity(worker)).active, 1);
    leave.abort();
    await isGone();
    await standsStill();
    await works();
  });

  test("aborted by the client while it reads a raw Response: the computation ends", async () => {
    const leave = new AbortController();
    const response = await worker.respond(MODEL, LONG, { returnRawResponse: true }, { signal: leave.signal });
    await response.body.getReader().read();
    leave.abort();
    await isGone();
    await works();
  });

  test("cancelled more often than the queue has places: all places are free again", async () => {
    for (let i = 0; i < 70; i += 1) await worker.cancelled(MODEL, LONG, 1);
    await works();
    await isGone();
  });
});

describe("several requests at once", () => {
  const inputs = ["The sun is", "The moon is", "The sea is", "The sky is", "The earth is", "The wind is"].map((prompt, index) => ({ ...STORY, prompt, seed: index + 1 }));

  test("all receive the same answers as one at a time", async () => {
    const alone = [];
    for (const input of inputs) alone.push((await worker.run(MODEL, input)).response);
    const objects = inputs.map((input) => worker.run(MODEL, input).then(({ response }) => response));
    const streams = inputs.map(async (input) => (await readAnswer((await worker.respond(MODEL, { ...input, stream: true })).body)).text);
    assert.deepEqual(await Promise.all(objects), alone);
    assert.deepEqual(await Promise.all(streams), alone);
  });

  test("are answered although one client disconnects", async () => {
    const alone = (await worker.run(MODEL, STORY)).response;
    const leave = new AbortController();
    const leaving = await worker.respond(MODEL, LONG, {}, { signal: leave.signal });
    await leaving.body.getReader().read();
    const others = inputs.slice(0, 2).map((input) => worker.run(MODEL, { ...input, max_tokens: 20 }));
    const same = worker.run(MODEL, STORY);
    leave.abort();
    for (const { usage } of await Promise.all(others)) assert.equal(usage.completion_tokens, 20);
    assert.equal((await same).response, alone);
    await isGone();
  });
});
