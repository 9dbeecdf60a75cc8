// The genuine binding, connected to the local Worker: the results that a program written for Workers AI sees through the class it was
// written for.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Ajv } from "ajv";
import { inProject } from "../../scripts/lib/project.mjs";
import { initSync, maxBodyBytes } from "../../pkg/wasm/simd128/workers_ai_local.js";
import { startModelServer } from "../model-server.mjs";
import { MODEL, PARIS } from "../real-model.mjs";
import { chunksOf, eventsIn, readAnswer } from "../sse.mjs";
import { startGenuine } from "./genuine.mjs";
import { eventually } from "./worker.mjs";

const STORY = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 5, max_tokens: 8 };
/** An answer with more tokens than any test reads: with greedy sampling this model repeats itself and never ends. */
const LONG = { ...STORY, temperature: 0, max_tokens: 4000 };
/** The origin to which the genuine binding sends its requests. */
const HOME = "https://workers-binding.ai";
const ID = /^[\w-]{8,}$/;

let models;
let worker;
before(async () => {
  models = await startModelServer();
  worker = await startLocal();
});
after(async () => {
  await worker?.stop();
  await models?.close();
});

const startLocal = (vars) => startGenuine({ DEFAULT_MODEL: `${models.url}/model.gguf`, ...vars });

/** Checks the fields of the `Ai` after an answer with this status. `code`: the code of the last thrown error. */
function assertFields({ lastRequestId, ...others }, status, code) {
  assert.match(lastRequestId, ID);
  assert.equal(others.lastRequestHttpStatusCode, status);
  assert.equal(others.aiGatewayLogId, null);
  if (code !== undefined) assert.equal(others.lastRequestInternalStatusCode, code);
}

const isGone = (of = worker) => eventually("no request is in progress", async () => (await of.activity()).active === 0);
/** Checks that nothing is computed while no request waits for tokens. */
async function standsStill(of = worker) {
  const first = await of.activity();
  await sleep(700);
  assert.deepEqual(await of.activity(), first);
}

// This must be the first test, so that nothing has run before it.
test("the fields are null before the first run", async () => {
  const { fields } = await worker.fetch(`${HOME}/v1/models`);
  assert.deepEqual(fields, { lastRequestId: null, aiGatewayLogId: null, lastRequestHttpStatusCode: null, lastRequestInternalStatusCode: null });
});

for (const [whose, how] of [
  ["the binding", {}],
  ["new Ai(service)", { own: true }],
]) {
  describe(`an answer through ${whose}`, () => {
    test("is an object", async () => {
      const answer = await worker.run(MODEL, { ...PARIS, max_tokens: 3 }, {}, how);
      const { prompt_tokens_details: cached, ...usage } = answer.usage;
      assert.deepEqual({ ...answer, usage }, {
        response: " Paris.\n",
        usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 },
        finish_reason: "length",
      });
      assert.ok(Number.isInteger(cached.cached_tokens));
    });

    test("is a stream of events with the same text, sent while it is computed", async () => {
      const response = await worker.respond(MODEL, { ...STORY, stream: true }, {}, how);
      assertFields(response.fields, 200);
      const chunks = await chunksOf(response.body);
      assert.ok(chunks.length > 1);
      assert.equal(eventsIn(...chunks).at(-1), "[DONE]");
      const answer = await readAnswer(chunks);
      assert.equal(answer.text, (await worker.run(MODEL, STORY, {}, how)).response);
      assert.deepEqual([answer.response, answer.usage.completion_tokens, answer.finish_reason], ["", 8, "length"]);
    });

    test("is a raw Response", async () => {
      const object = await worker.respond(MODEL, { ...PARIS, max_tokens: 1 }, { returnRawResponse: true }, how);
      assert.equal(object.status, 200);
      assert.equal(object.headers.get("content-type"), "application/json");
      assert.match(object.headers.get("cf-ai-req-id"), ID);
      assert.equal(object.fields.lastRequestId, object.headers.get("cf-ai-req-id"));
      assert.equal((await object.json()).response, " Paris");

      const stream = await worker.respond(MODEL, { ...PARIS, max_tokens: 1, stream: true }, { returnRawResponse: true }, how);
      assert.equal(stream.headers.get("content-type"), "text/event-stream");
      assert.equal(stream.fields.lastRequestId, stream.headers.get("cf-ai-req-id"));
      assert.notEqual(stream.fields.lastRequestId, object.fields.lastRequestId);
      assert.equal((await readAnswer(stream.body)).text, " Paris");
    });
  });
}

describe("an option", () => {
  const OPTIONS = {
    "gateway, which changes the path of the request": { gateway: { id: "mine", skipCache: true, metadata: { team: 1 } } },
    "prefix, which precedes the model id": { prefix: "anything" },
    "extraHeaders": { extraHeaders: { "x-session-affinity": "ses-1" } },
    "sessionOptions": { sessionOptions: { extraHeaders: { "x-own": "1" } } },
    "tags, and an unknown option": { tags: ["a"], rejectIfBusy: true, later: { than: "this" } },
  };
  for (const [what, options] of Object.entries(OPTIONS)) {
    test(`${what}: the same answer`, async () => {
      const { response } = await worker.run(MODEL, STORY);
      assert.equal((await worker.run(MODEL, STORY, options)).response, response);
      assert.equal((await readAnswer((await worker.respond(MODEL, { ...STORY, stream: true }, options)).body)).text, response);
    });
  }

  test("prefix is not part of the model id in an error", async () => {
    await assert.rejects(worker.run("@cf/x/y", PARIS, { prefix: "anything" }), { name: "AiError", message: "5007: No such model @cf/x/y or task" });
  });
});

const AT_ROOT = "oneOf at '/' not met, 0 matches: ";
const tokens = (count) => ({ prompt: " a".repeat(count), raw: true });
const tooLong = (needed, window) =>
  `The estimated number of input and maximum output tokens (${needed}) exceeded this model context window limit (${window}).`;

/** Name → `[input, code, HTTP status, text, model]`; the model is optional. */
const ERRORS = {
  "an unknown model": [PARIS, 5007, 400, "No such model @cf/x/y or task", "@cf/x/y"],
  "an unknown model with an input that is also invalid": [{}, 5007, 400, "No such model @cf/x/y or task", "@cf/x/y"],
  "neither prompt nor messages": [{}, 5006, 400, `${AT_ROOT}required properties at '/' are 'prompt', required properties at '/' are 'messages'`],
  "both prompt and messages": [{ prompt: "a", messages: [] }, 5006, 400, "oneOf at '/' not met, 2 matches"],
  "a temperature out of range": [{ ...PARIS, temperature: 6 }, 5006, 400, `${AT_ROOT}'/temperature' must be <= 5`],
  "a top_k out of range": [{ ...PARIS, top_k: 0 }, 5006, 400, `${AT_ROOT}'/top_k' must be >= 1`],
  "a max_tokens that is not an integer": [{ ...PARIS, max_tokens: 1.5 }, 5006, 400, `${AT_ROOT}Type mismatch of '/max_tokens', 'integer' not in 'number'`],
  "a prompt of too many characters": [{ prompt: "x".repeat(131_073) }, 5006, 400, `${AT_ROOT}Length of '/prompt' must be <= 131072`],
  "an image for a model that accepts only text": [{ ...PARIS, image: [1, 2] }, 5006, 400, /image/],
  "a schema that cannot be used": [
    { ...PARIS, response_format: { type: "json_schema", json_schema: { $ref: "https://example.com/other.json" } } }, 5006, 400, /./,
  ],
  "a lone surrogate": [{ prompt: "\uD83D" }, 5004, 400, /^Invalid data/],
  "an adapter that does not exist": [{ ...PARIS, lora: "mine" }, 5005, 405, /mine/],
  "a prompt of too many tokens": [{ ...tokens(9000), max_tokens: 100 }, 5021, 413, tooLong(9100, 8192)],
  "too many tokens in prompt and answer together": [{ ...PARIS, max_tokens: 8190 }, 5021, 413, tooLong(8195, 8192)],
  "more tokens than the context window in the catalogue": [{ ...PARIS, max_tokens: 2047 }, 5021, 413, tooLong(2052, 2048), "@cf/meta/llama-2-7b-chat-int8"],
  "a batch": [{ requests: [PARIS] }, 5006, 400, /queueRequest/],
};

describe("an error", () => {
  /** A check of an error that the binding throws, and of the fields of the `Ai` afterwards. */
  const thrown = (code, status, text) => (error) => {
    assert.equal(error.name, "AiError");
    assert.ok(error.isError);
    assert.ok(error.message.startsWith(`${code}: `), error.message);
    const description = error.message.slice(`${code}: `.length);
    if (text instanceof RegExp) assert.match(description, text);
    else assert.equal(description, text);
    assertFields(error.fields, status, code);
    return true;
  };

  for (const [what, [input, code, status, text, model = MODEL]] of Object.entries(ERRORS)) {
    test(`for ${what} is ${code}, before anything is computed`, async () => {
      const { tokens } = await worker.activity();
      for (const how of [{}, { own: true }]) await assert.rejects(worker.run(model, input, {}, how), thrown(code, status, text));
      await assert.rejects(worker.respond(model, { ...input, stream: true }), thrown(code, status, text));

      const raw = await worker.respond(model, input, { returnRawResponse: true });
      assert.equal(raw.status, status);
      assert.equal(raw.headers.get("content-type"), "application/json");
      assert.match(raw.headers.get("cf-ai-req-id"), ID);
      const body = await raw.json();
      const { description } = body;
      assert.deepEqual(body, { name: "AiError", internalCode: code, httpCode: status, message: `AiError: ${description}`, description });
      if (text instanceof RegExp) assert.match(description, text);
      else assert.equal(description, text);

      assert.deepEqual(await worker.activity(), { active: 0, tokens });
    });
  }

  test("for JSON that is incomplete after max_tokens is 5024, and a stream of it fails", async () => {
    const input = { ...PARIS, max_tokens: 2, response_format: { type: "json_schema", json_schema: SCHEMA } };
    await assert.rejects(worker.run(MODEL, input), thrown(5024, 400, /^JSON Mode couldn't be met/));
    assert.equal((await worker.aborted(MODEL, { ...input, stream: true }, "never")).isError, true);
    await isGone();
  });

  test("for a body that is too large is 3006; a body of the maximum size is accepted", async () => {
    initSync({ module: readFileSync(inProject("pkg", "wasm", "simd128", "workers_ai_local_bg.wasm")) });
    const padded = (bytes) => {
      const input = { ...PARIS, max_tokens: 1, padding: "" };
      const bare = JSON.stringify({ inputs: input, options: {} }).length;
      return { ...input, padding: "x".repeat(bytes - bare) };
    };
    assert.equal((await worker.run(MODEL, padded(maxBodyBytes()))).response, " Paris");
    await assert.rejects(worker.run(MODEL, padded(maxBodyBytes() + 1)), thrown(3006, 413, /large/));
    assert.equal((await worker.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
  });

  test("for a stream as input has a clear message", async () => {
    await assert.rejects(worker.run(MODEL, PARIS, {}, { upload: true }), (error) => {
      assert.equal(error.name, "AiError");
      assert.match(error.message, /^(3003|5004|5006): ./);
      assertFields(error.fields, 400);
      return true;
    });
  });

  test("for a queue without a batch says what a batch is", async () => {
    await assert.rejects(worker.run(MODEL, PARIS, { queueRequest: true }), thrown(3003, 400, /requests/));
    await assert.rejects(worker.run(MODEL, { request_id: "unknown" }), thrown(3042, 404, /no batch unknown/));
  });

  test("a batch is queued, computed after its request, and asked for by its id", async () => {
    const short = { ...PARIS, max_tokens: 3 };
    const requests = [{ ...short, external_reference: "first" }, { prompt: 5 }, short];
    const queued = await worker.run(MODEL, { requests }, { queueRequest: true });
    assert.deepEqual({ ...queued, request_id: "" }, { status: "queued", request_id: "", model: MODEL });
    let batch;
    await eventually("the batch is complete", async () => {
      batch = await worker.run(MODEL, { request_id: queued.request_id });
      return "responses" in batch;
    });
    const alone = await worker.run(MODEL, short);
    assert.deepEqual(batch.responses.map(({ id, success, external_reference }) => [id, success, external_reference]), [[0, true, "first"], [1, false, undefined], [2, true, undefined]]);
    assert.deepEqual([batch.responses[0].result.response, batch.responses[2].result.response], [alone.response, alone.response]);
    assert.match(batch.responses[1].error, /^5006: /);
  });

  test("a batch may be longer than other inputs", async () => {
    const padded = (bytes) => ({ requests: [{ ...PARIS, max_tokens: 1, padding: "x".repeat(bytes) }] });
    assert.equal((await worker.run(MODEL, padded(9_000_000), { queueRequest: true })).status, "queued");
    await assert.rejects(worker.run(MODEL, padded(10_000_000), { queueRequest: true }), thrown(3006, 413, /smaller batches/));
  });

  test("for a WebSocket names the option", async () => {
    const response = await worker.respond(MODEL, PARIS, { websocket: true });
    assert.equal(response.status, 400);
    const { name, internalCode, description } = await response.json();
    assert.deepEqual([name, internalCode], ["AiError", 3003]);
    assert.match(description, /websocket/i);
  });
});

describe("a full queue", () => {
  let small;
  before(async () => {
    small = await startLocal({ QUEUE: "1" });
  });
  after(() => small?.stop());

  test("is 3040 until a place is free again", async () => {
    const leave = new AbortController();
    const first = await small.respond(MODEL, { ...LONG, stream: true }, {}, { signal: leave.signal });
    const reader = first.body.getReader();
    await reader.read();
    const isFull = (error) => {
      assert.equal(error.name, "AiError");
      assert.match(error.message, /^3040: /);
      assertFields(error.fields, 429, 3040);
      return true;
    };
    await assert.rejects(small.run(MODEL, PARIS), isFull);
    await assert.rejects(small.respond(MODEL, { ...PARIS, stream: true }), isFull);
    const raw = await small.respond(MODEL, PARIS, { returnRawResponse: true });
    assert.deepEqual([raw.status, (await raw.json()).internalCode], [429, 3040]);

    leave.abort();
    await isGone(small);
    assert.equal((await small.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
  });

  test("makes a batch wait, and its request lasts until it is computed", async () => {
    const leave = new AbortController();
    const first = await small.respond(MODEL, { ...LONG, stream: true }, {}, { signal: leave.signal });
    const reader = first.body.getReader();
    await reader.read();
    const ask = async () => small.run(MODEL, { request_id });
    const { request_id } = await small.run(MODEL, { requests: Array.from({ length: 5 }, () => ({ ...PARIS, max_tokens: 1 })) }, { queueRequest: true });
    for (const end = Date.now() + 1_000; Date.now() < end; ) await reader.read();
    assert.equal((await ask()).status, "queued");
    leave.abort();
    await eventually("the batch is complete", async () => "responses" in (await ask()), 8_000);
    assert.deepEqual((await ask()).responses.map(({ result }) => result.response), Array(5).fill(" Paris"));
  });

  test("has a free place again after each kind of abort", async () => {
    for (const when of ["before", "in flight", "mid-stream"]) {
      await small.aborted(MODEL, { ...LONG, stream: when === "mid-stream" }, when);
      await isGone(small);
      assert.equal((await small.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris", when);
    }
  });
});

describe("models()", () => {
  const names = (listings) => listings.map(({ name }) => name);
  /** Section 6 of the contract: model id → context window in tokens. */
  const DOCUMENTED = {
    "@cf/meta/llama-2-7b-chat-fp16": "3072",
    "@cf/meta/llama-2-7b-chat-int8": "2048",
    "@cf/mistral/mistral-7b-instruct-v0.1": undefined,
    "@hf/codellama/codellama-7b-hf": undefined,
    "@cf/meta/llama-3-8b-instruct": undefined,
    "@cf/meta/llama-3.1-8b-instruct": undefined,
    "@cf/meta/llama-3.1-70b-instruct": undefined,
  };

  test("without parameters returns every documented model", async () => {
    const listings = await worker.call("models");
    for (const [name, window] of Object.entries(DOCUMENTED)) {
      const listing = listings.find((listing) => listing.name === name);
      assert.ok(listing, name);
      assert.equal(listing.task.id, "c329a1f9-323d-4e91-b2aa-582dd4188d34");
      assert.equal(listing.task.name, "Text Generation");
      assert.equal(listing.properties.find(({ property_id }) => property_id === "context_window")?.value, window);
    }
    for (const { id, source, description, task, tags } of listings) {
      assert.deepEqual([id, source, description, task.description].map((value) => typeof value), ["string", "number", "string", "string"]);
      assert.ok(Array.isArray(tags));
    }
    assert.equal(new Set(listings.map(({ id }) => id)).size, listings.length);
  });

  test("filters by search text and by fields", async () => {
    assert.deepEqual(names(await worker.call("models", { search: "codellama" })), ["@hf/codellama/codellama-7b-hf"]);
    assert.deepEqual(names(await worker.call("models", { author: "openchat" })), ["@cf/openchat/openchat-3.5-0106"]);
    assert.deepEqual(await worker.call("models", { search: "no such thing" }), []);
    const all = names(await worker.call("models"));
    const stable = names(await worker.call("models", { task: "Text Generation", hide_experimental: true }));
    assert.ok(stable.includes("@cf/zai-org/glm-5.3") && !stable.includes("@cf/microsoft/phi-2") && stable.every((name) => all.includes(name)));
    assert.deepEqual(await worker.call("models", { task: "Text-to-Image" }), []);
    assert.deepEqual(names(await worker.call("models", { source: 2 })), all.filter((name) => name.startsWith("@hf/")));
  });

  test("returns pages; those past the end are empty", async () => {
    const all = names(await worker.call("models"));
    const paged = [];
    for (let page = 1; ; page += 1) {
      const listings = await worker.call("models", { page, per_page: 3 });
      if (listings.length === 0) break;
      assert.ok(listings.length <= 3);
      paged.push(...names(listings));
    }
    assert.deepEqual(paged, all);
    assert.deepEqual(await worker.call("models", { page: 1000, per_page: 50 }), []);
  });
});

describe("an abort", () => {
  const isAbort = ({ name, isError }) => assert.deepEqual({ name, isError }, { name: "AbortError", isError: true });
  const runs = async () => assert.equal((await worker.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");

  for (const stream of [false, true]) {
    test(`before the run${stream ? " of a stream" : ""}: nothing is computed`, async () => {
      const { tokens } = await worker.activity();
      isAbort(await worker.aborted(MODEL, { ...LONG, stream }, "before"));
      await isGone();
      assert.equal((await worker.activity()).tokens, tokens);
      await runs();
    });
  }

  for (const how of [{}, { own: true }]) {
    test(`during the computation ends it${how.own ? ", also with new Ai(service)" : ""}`, async () => {
      const { tokens } = await worker.activity();
      isAbort(await worker.aborted(MODEL, LONG, "in flight", how));
      await isGone();
      await standsStill();
      assert.ok((await worker.activity()).tokens - tokens < LONG.max_tokens, "the computation did not run to its end");
      await runs();
    });
  }

  test("in the middle of a stream makes the stream fail and ends the computation", async () => {
    const outcome = await worker.aborted(MODEL, { ...LONG, stream: true }, "mid-stream");
    isAbort(outcome);
    assert.ok(outcome.chunks >= 2);
    await isGone();
    await standsStill();
    await runs();
  });

  test("by the reader of a stream, which cancels it, ends the computation", async () => {
    const [first, second] = await worker.cancelled(MODEL, { ...LONG, stream: true }, 2);
    assert.ok(first.startsWith('data: {"response":"') && second.startsWith('data: {"response":"'));
    await isGone();
    await standsStill();
    await runs();
  });

  for (const options of [{}, { returnRawResponse: true }]) {
    test(`by the client of the Worker, which disconnects from ${options.returnRawResponse ? "a raw stream" : "a stream"}, ends the computation`, async () => {
      const leave = new AbortController();
      const response = await worker.respond(MODEL, { ...LONG, stream: true }, options, { signal: leave.signal });
      await response.body.getReader().read();
      assert.equal((await worker.activity()).active, 1);
      leave.abort();
      await isGone();
      await standsStill();
      await runs();
    });
  }
});

/** A schema with short values that are easy to check. */
const SCHEMA = {
  type: "object",
  properties: {
    city: { type: "string", enum: ["Paris", "Rome", "Oslo"] },
    rank: { type: "integer", minimum: 1, maximum: 9 },
    capital: { type: "boolean" },
  },
  required: ["city", "rank", "capital"],
  additionalProperties: false,
};

const validate = new Ajv().compile(SCHEMA);
const assertFits = (value) => assert.ok(validate(value), JSON.stringify([value, validate.errors]));

const asking = (text) => ({ messages: [{ role: "user", content: text }], temperature: 1, max_tokens: 200 });

describe("JSON mode", () => {
  const FORMATS = { "a bare schema": SCHEMA, "the schema in OpenAI's form": { name: "place", schema: SCHEMA, strict: true } };
  for (const [what, json_schema] of Object.entries(FORMATS)) {
    test(`with ${what}: the answer is an object that matches the schema; also streamed`, async () => {
      for (const seed of [1, 2, 3]) {
        const input = { ...asking("Name a city."), seed, response_format: { type: "json_schema", json_schema } };
        const { response, finish_reason } = await worker.run(MODEL, input);
        assertFits(response);
        assert.equal(finish_reason, "stop");
        const streamed = await readAnswer((await worker.respond(MODEL, { ...input, stream: true })).body);
        assert.deepEqual(JSON.parse(streamed.text), response);
      }
    });
  }
});

describe("a tool", () => {
  const PLACE = { name: "place", description: "Looks a place up", parameters: SCHEMA };
  const OTHER = { name: "other", description: "Does nothing", parameters: { type: "object", properties: {}, additionalProperties: false } };
  const named = (name) => ({ type: "function", function: { name } });
  const SHAPES = { flat: [PLACE, OTHER], "OpenAI's": [PLACE, OTHER].map((tool) => ({ type: "function", function: tool })) };

  for (const [shape, tools] of Object.entries(SHAPES)) {
    test(`in the ${shape} shape, when forced, is called; the call is flat and complete`, async () => {
      const answer = await worker.run(MODEL, { ...asking("Where is Rome?"), seed: 1, tools, tool_choice: named("place") });
      assert.equal(answer.response, null);
      assert.equal(answer.finish_reason, "tool_calls");
      assert.ok(answer.tool_calls.length > 0);
      for (const call of answer.tool_calls) {
        assert.equal(call.name, "place");
        assertFits(call.arguments);
      }
    });
  }

  test("is called when a call is required", async () => {
    for (const seed of [1, 2, 3]) {
      const answer = await worker.run(MODEL, { ...asking("Hello"), seed, tools: SHAPES.flat, tool_choice: "required" });
      assert.equal(answer.response, null);
      assert.equal(answer.finish_reason, "tool_calls");
      assert.ok(answer.tool_calls.length > 0);
      for (const call of answer.tool_calls) {
        if (call.name === "place") assertFits(call.arguments);
        else assert.deepEqual([call.name, call.arguments], ["other", {}]);
      }
    }
  });

  test("is called in a stream, with the arguments as JSON text", async () => {
    const { body } = await worker.respond(MODEL, { ...asking("Where is Rome?"), seed: 1, stream: true, tools: SHAPES.flat, tool_choice: named("place") });
    const events = eventsIn(...(await chunksOf(body)));
    assert.equal(events.at(-1), "[DONE]");
    const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
    const calls = [];
    for (const delta of parsed.flatMap(({ tool_calls }) => tool_calls ?? [])) {
      const call = (calls[delta.index] ??= { text: "" });
      call.id ??= delta.id;
      call.type ??= delta.type;
      call.name ??= delta.function.name;
      call.text += delta.function.arguments ?? "";
    }
    assert.ok(calls.length > 0);
    for (const { id, type, name, text } of calls) {
      assert.match(id, /./);
      assert.deepEqual([type, name], ["function", "place"]);
      assertFits(JSON.parse(text));
    }
    assert.equal(new Set(calls.map(({ id }) => id)).size, calls.length);
    const { usage, finish_reason } = parsed.at(-1);
    assert.ok(usage.completion_tokens > 0);
    assert.equal(finish_reason, "tool_calls");
  });

  test("has its result accepted in the next turn, in both forms", async () => {
    const question = asking("Where is Rome?").messages[0];
    const args = { city: "Rome", rank: 1, capital: true };
    const call = { id: "call_1", type: "function", function: { name: "place", arguments: JSON.stringify(args) } };
    const FORMS = [
      [{ role: "assistant", content: null, tool_calls: [call] }, { role: "tool", tool_call_id: "call_1", content: "In Italy." }],
      [{ role: "assistant", content: JSON.stringify({ name: "place", arguments: args }) }, { role: "tool", name: "place", content: "In Italy." }],
    ];
    for (const turns of FORMS) {
      const answer = await worker.run(MODEL, { messages: [question, ...turns], max_tokens: 8, temperature: 0, tools: SHAPES.flat, tool_choice: "none" });
      assert.equal(typeof answer.response, "string");
      assert.deepEqual(answer.tool_calls, []);
      assert.ok(answer.usage.prompt_tokens > 0);
    }
  });
});

describe("fetch()", () => {
  const post = (model, inputs) => ({
    method: "POST",
    headers: { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": model },
    body: JSON.stringify({ inputs, options: {} }),
  });

  for (const place of ["/run?version=3", "/run?version=2", "/ai-gateway/run?version=3"]) {
    test(`reaches ${place}`, async () => {
      const answer = await worker.fetch(`${HOME}${place}`, post(MODEL, { ...PARIS, max_tokens: 1 }));
      assert.equal(answer.status, 200);
      assert.equal((await answer.json()).response, " Paris");
    });
  }

  test("reaches the OpenAI-compatible surface", async () => {
    const listed = await worker.fetch(`${HOME}/v1/models`);
    assert.equal(listed.status, 200);
    const { object, data } = await listed.json();
    assert.equal(object, "list");
    assert.ok(data.some(({ id }) => id === MODEL));
  });

  test("reaches the REST surface", async () => {
    const path = `/client/v4/accounts/mine/ai/run/${MODEL}`;
    const answer = await worker.fetch(`${HOME}${path}`, { method: "POST", body: JSON.stringify({ ...PARIS, max_tokens: 1 }) });
    const { result, success, errors, messages } = await answer.json();
    assert.deepEqual([result.response, success, errors, messages], [" Paris", true, [], []]);
  });

  test("answers an unknown path with 404 and 3042", async () => {
    const answer = await worker.fetch(`${HOME}/nowhere`);
    assert.equal(answer.status, 404);
    assert.match(await answer.text(), /3042/);
  });

  test("answers a body that is not JSON with a documented error", async () => {
    const answer = await worker.fetch(`${HOME}/run?version=3`, { ...post(MODEL, {}), body: "{" });
    assert.equal(answer.status, 400);
    assert.ok([3003, 5004, 5006].includes((await answer.json()).internalCode));
  });
});
