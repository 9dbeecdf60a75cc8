// Tests with OpenAI's client package against `…/ai/v1`.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { scriptedFile } from "../scripted-model.mjs";
import { ASK_PERSON, ASK_WEATHER, CALLER, CALLING_MODEL, CALL_TOKENS, CITY, ITS_CALL, LONG_REPORT, MODEL, NOTHING, ORDER, PERSON, assertFits } from "./checks.mjs";
import { startServer } from "./server.mjs";

const messages = [
  { role: "system", content: "You are brief." },
  { role: "user", content: "Why is the sky blue?" },
];
const ASK = { model: MODEL, messages, temperature: 0, seed: 7, max_tokens: 24 };
/** An answer with more tokens than any test reads. */
const LONG = { model: MODEL, messages: [{ role: "user", content: "Count to one thousand." }], temperature: 0, max_tokens: 1500 };

const parameters = (schema) => z.toJSONSchema(schema, { target: "draft-7" });
const SCHEMAS = { weather: CITY, order: ORDER, ping: NOTHING };
const TOOLS = [
  { type: "function", function: { name: "weather", description: "Gets the weather of a city.", parameters: parameters(CITY) } },
  { type: "function", function: { name: "order", description: "Orders from the menu.", parameters: parameters(ORDER), strict: true } },
  // Without description and parameters.
  { type: "function", function: { name: "ping" } },
];
const CALLING = { model: MODEL, messages: [{ role: "user", content: ASK_WEATHER }], tools: TOOLS, temperature: 0, max_tokens: CALL_TOKENS };
const force = (name) => ({ type: "function", function: { name } });
const DESCRIBE = { model: MODEL, messages: [{ role: "user", content: ASK_PERSON }], temperature: 0, max_tokens: CALL_TOKENS };
const JSON_SCHEMA = { type: "json_schema", json_schema: { name: "person", strict: true, schema: parameters(PERSON) } };

let caller;
let server;
let client;
const create = (body, options) => client.chat.completions.create(body, options);
before(async () => {
  caller = await scriptedFile(CALLER);
  server = await startServer("--gguf", caller.path, "--model", CALLING_MODEL);
  client = new OpenAI({ baseURL: `${server.url}/client/v4/accounts/account/ai/v1`, apiKey: "key" });
});
after(async () => {
  await server?.stop();
  await caller?.remove();
});

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const textOf = (chunks) => chunks.map(({ choices: [choice] }) => choice?.delta.content ?? "").join("");

function assertUsage({ prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }, max) {
  assert.ok(prompt_tokens > 0 && completion_tokens > 0 && completion_tokens <= max);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
  assert.ok(prompt_tokens_details.cached_tokens >= 0 && prompt_tokens_details.cached_tokens < prompt_tokens);
}

/** Checks that calls are complete, have distinct ids, and have arguments that match their schemas. */
function assertCalls(calls, names = Object.keys(SCHEMAS)) {
  assert.ok(calls.length > 0, "there is at least one call");
  assert.equal(new Set(calls.map(({ id }) => id)).size, calls.length);
  for (const call of calls) {
    assert.ok(typeof call.id === "string" && call.id !== "");
    assert.equal(call.type, "function");
    assert.ok(names.includes(call.function.name), call.function.name);
    assert.equal(typeof call.function.arguments, "string");
    assertFits(JSON.parse(call.function.arguments), SCHEMAS[call.function.name]);
  }
}

/** A check of an error: the client's error class, the HTTP status, the error code and the message. */
const isError = (type, status, code, says) => (error) => {
  assert.ok(error instanceof type, `${error?.constructor.name}: ${error?.stack}`);
  assert.equal(error.status, status);
  assert.equal(Number(error.code), code);
  assert.equal(typeof error.type, "string");
  assert.match(error.message, says);
  return true;
};

describe("chat.completions.create", () => {
  test("returns a completion with OpenAI's fields only", async () => {
    const { data, response } = await create(ASK).withResponse();
    assert.equal(response.headers.get("content-type"), "application/json");
    const { id, object, created, model, choices, usage } = data;
    assert.ok(typeof id === "string" && id !== "" && Number.isInteger(created));
    assert.deepEqual([object, model, choices.length], ["chat.completion", MODEL, 1]);
    const [{ index, message, finish_reason }] = choices;
    assert.deepEqual([index, message.role], [0, "assistant"]);
    assert.ok(message.content.length > 0);
    assert.ok(["stop", "length"].includes(finish_reason));
    assertUsage(usage, 24);
    for (const foreign of ["response", "result", "success", "tool_calls"]) assert.ok(!(foreign in data), foreign);
  });

  test("returns the same text under /v1, with a new id", async () => {
    const short = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "key" });
    const [one, other] = [await create(ASK), await short.chat.completions.create(ASK)];
    assert.equal(other.choices[0].message.content, one.choices[0].message.content);
    assert.notEqual(other.id, one.id);
  });

  test("accepts max_completion_tokens, text parts, the role `developer` and options without effect", async () => {
    const parts = [{ role: "user", content: [{ type: "text", text: "Why is" }, { type: "text", text: " the sky blue?" }] }];
    const { usage } = await create({ model: MODEL, messages: parts, temperature: 0, max_completion_tokens: 3 });
    assert.equal(usage.completion_tokens, 3);
    const developer = [{ role: "developer", content: "You are brief." }, messages[1]];
    assert.ok((await create({ ...ASK, messages: developer })).choices[0].message.content.length > 0);
    const plain = await create(ASK);
    const common = { n: 1, user: "someone", store: false, logprobs: false, logit_bias: {}, parallel_tool_calls: true };
    const rare = { metadata: {}, stop: null, service_tier: "auto" };
    assert.equal((await create({ ...ASK, ...common, ...rare })).choices[0].message.content, plain.choices[0].message.content);
  });

  test("`stop` ends the text before the stop string", async () => {
    const whole = (await create(ASK)).choices[0].message.content;
    const [, word] = /^\S+ +(\S+)/.exec(whole) ?? assert.fail(`too few words: ${whole}`);
    const { choices } = await create({ ...ASK, stop: [word] });
    assert.equal(choices[0].message.content, whole.slice(0, whole.indexOf(word)));
    assert.equal(choices[0].finish_reason, "stop");
  });
});

describe("streams", () => {
  test("with include_usage: chunks of one completion, then a chunk with only the usage", async () => {
    const whole = await create(ASK);
    const chunks = await collect(await create({ ...ASK, stream: true, stream_options: { include_usage: true } }));
    assert.ok(chunks.length > 4, "the text arrives in several pieces");
    for (const chunk of chunks) {
      assert.ok(Array.isArray(chunk.choices));
      assert.equal(chunk.object, "chat.completion.chunk");
      assert.deepEqual([chunk.id, chunk.model, chunk.created], [chunks[0].id, MODEL, chunks[0].created]);
      assert.ok(!("response" in chunk));
    }
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assertUsage(last.usage, 24);
    assert.deepEqual([last.usage.prompt_tokens, last.usage.completion_tokens], [whole.usage.prompt_tokens, whole.usage.completion_tokens]);
    const rest = chunks.slice(0, -1);
    for (const { choices, usage } of rest) {
      assert.deepEqual([choices.length, choices[0].index], [1, 0]);
      assert.equal(usage ?? null, null);
    }
    assert.equal(rest[0].choices[0].delta.role, "assistant");
    assert.equal(textOf(chunks), whole.choices[0].message.content);
    const reasons = rest.map(({ choices }) => choices[0].finish_reason);
    assert.deepEqual([reasons.at(-1), reasons.filter(Boolean).length], [whole.choices[0].finish_reason, 1]);
  });

  test("without include_usage, no chunk has the usage", async () => {
    const chunks = await collect(await create({ ...ASK, stream: true }));
    for (const { choices, usage } of chunks) assert.deepEqual([choices.length, usage ?? null], [1, null]);
  });

  test("the `stream` helper assembles the completion", async () => {
    const whole = await create(ASK);
    const stream = client.chat.completions.stream({ ...ASK, stream_options: { include_usage: true } });
    const deltas = [];
    stream.on("content", (delta) => deltas.push(delta));
    const { choices, usage } = await stream.finalChatCompletion();
    assert.equal(choices[0].message.content, whole.choices[0].message.content);
    assert.equal(deltas.join(""), whole.choices[0].message.content);
    assert.equal(choices[0].finish_reason, whole.choices[0].finish_reason);
    assertUsage(usage, 24);
  });
});

describe("tools", () => {
  for (const [name, tool_choice, names] of [
    ["required", "required", undefined],
    ["forced", force("weather"), ["weather"]],
    ["forced, with nested arguments", force("order"), ["order"]],
    ["forced, without parameters", force("ping"), ["ping"]],
  ]) {
    test(`${name}: a call that matches its schema`, async () => {
      const { choices, usage } = await create({ ...CALLING, tool_choice });
      assertCalls(choices[0].message.tool_calls, names);
      assert.equal(choices[0].message.content, null);
      assert.equal(choices[0].finish_reason, "tool_calls");
      assertUsage(usage, CALL_TOKENS);
    });

    test(`${name}, streamed: a call that matches its schema`, async () => {
      const stream = client.chat.completions.stream({ ...CALLING, tool_choice });
      const chunks = [];
      stream.on("chunk", (chunk) => chunks.push(chunk));
      const { choices } = await stream.finalChatCompletion();
      assertCalls(choices[0].message.tool_calls, names);
      assert.equal(choices[0].finish_reason, "tool_calls");
      assert.equal(choices[0].message.content ?? "", "");
      const deltas = chunks.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? []);
      const indices = [...new Set(deltas.map(({ index }) => index))];
      assert.deepEqual(indices, choices[0].message.tool_calls.map((call, index) => index), "each call has its own index");
    });
  }

  test("auto: text, or calls that match their schemas; also streamed", async () => {
    const { choices } = await create({ ...CALLING, tool_choice: "auto", max_tokens: 64 });
    const [{ message, finish_reason }] = choices;
    assert.equal(finish_reason === "tool_calls", Boolean(message.tool_calls?.length));
    if (message.tool_calls?.length) assertCalls(message.tool_calls);
    else assert.ok(message.content.length > 0);
    const streamed = await client.chat.completions.stream({ ...CALLING, tool_choice: "auto", max_tokens: 64 }).finalMessage();
    assert.equal(streamed.content ?? "", message.content ?? "");
    assert.deepEqual(streamed.tool_calls?.map((call) => call.function.name), message.tool_calls?.map((call) => call.function.name));
  });

  test("auto, of a model that calls: its call; also streamed", async () => {
    const body = { ...CALLING, model: CALLING_MODEL, tool_choice: "auto" };
    const [whole, streamed] = [await create(body), await client.chat.completions.stream(body).finalChatCompletion()];
    for (const { choices } of [whole, streamed]) {
      const [{ message, finish_reason }] = choices;
      assertCalls(message.tool_calls, ["weather"]);
      assert.deepEqual(message.tool_calls.map((call) => JSON.parse(call.function.arguments)), [ITS_CALL]);
      assert.equal(finish_reason, "tool_calls");
      assert.equal(message.content ?? "", "");
    }
  });

  test("none: text", async () => {
    const { choices } = await create({ ...CALLING, tool_choice: "none", max_tokens: 24 });
    assert.ok(!choices[0].message.tool_calls?.length);
    assert.ok(choices[0].message.content.length > 0);
  });

  test("the second turn accepts the call and its result", async () => {
    const first = await create({ ...CALLING, tool_choice: force("weather") });
    const [{ message }] = first.choices;
    const second = (content) =>
      create({
        ...CALLING,
        max_tokens: 24,
        tool_choice: "none",
        messages: [...CALLING.messages, message, ...message.tool_calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content }))],
      });
    const [brief, long] = [await second("dry"), await second(LONG_REPORT)];
    for (const { choices } of [brief, long]) {
      assert.ok(choices[0].message.content.length > 0);
      assert.ok(["stop", "length"].includes(choices[0].finish_reason));
    }
    assert.ok(long.usage.prompt_tokens - brief.usage.prompt_tokens >= 60, "the prompt contains the result");
  });

  test("a result as text parts and an assistant message without content are accepted", async () => {
    const call = { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } };
    const turns = [
      { role: "assistant", tool_calls: [call] },
      { role: "tool", tool_call_id: "call_1", content: [{ type: "text", text: "sunny" }] },
    ];
    const { choices } = await create({ ...CALLING, tool_choice: "none", max_tokens: 8, messages: [...CALLING.messages, ...turns] });
    assert.ok(choices[0].message.content.length > 0);
  });

  test("runTools executes a forced call", async () => {
    const ran = [];
    const weather = zodFunction({ name: "weather", parameters: CITY, function: (input) => ran.push(input) && "sunny" });
    const runner = client.chat.completions.runTools({ ...CALLING, tools: [weather], tool_choice: force("weather") });
    await runner.done();
    assert.equal(ran.length, 1);
    assertFits(ran[0], CITY);
    assert.deepEqual(runner.messages.map(({ role }) => role), ["user", "assistant", "tool"]);
    assert.equal(runner.messages.at(-1).content, "sunny");
  });

  test("runTools executes a required call and asks again with its result, streamed", async () => {
    const ran = [];
    const run = (input) => ran.push(input) && "sunny";
    const weather = { type: "function", function: { name: "weather", parse: JSON.parse, parameters: parameters(CITY), function: run } };
    const options = { maxChatCompletions: 2 };
    const runner = client.chat.completions.runTools({ ...CALLING, tools: [weather], tool_choice: "required", stream: true }, options);
    await runner.done();
    assert.ok(ran.length >= 2, "at least one call in each completion");
    for (const input of ran) assertFits(input, CITY);
    assert.equal(runner.allChatCompletions().length, 2);
  });
});

describe("response_format", () => {
  test("json_schema: the content matches the schema", async () => {
    const { choices } = await create({ ...DESCRIBE, response_format: JSON_SCHEMA });
    assertFits(JSON.parse(choices[0].message.content), PERSON);
    assert.equal(choices[0].finish_reason, "stop");
  });

  test("json_schema, sampled with several seeds: the content matches the schema", async () => {
    for (const seed of [1, 2, 3]) {
      const { choices } = await create({ ...DESCRIBE, temperature: 1, seed, response_format: JSON_SCHEMA });
      assertFits(JSON.parse(choices[0].message.content), PERSON);
    }
  });

  test("json_schema, streamed: the content matches the schema", async () => {
    const chunks = await collect(await create({ ...DESCRIBE, response_format: JSON_SCHEMA, stream: true }));
    assertFits(JSON.parse(textOf(chunks)), PERSON);
  });

  test("json_object: the content is an object", async () => {
    const ask = [{ role: "user", content: 'Answer with the JSON {"ok": true} and nothing else.' }];
    // Nothing limits the length of the object: the model may not complete it.
    const { choices } = await create({ ...DESCRIBE, messages: ask, response_format: { type: "json_object" } }).catch((error) => {
      isError(OpenAI.BadRequestError, 400, 5024, /JSON Mode couldn't be met/)(error);
      return { choices: [{ message: { content: "{}" } }] };
    });
    const value = JSON.parse(choices[0].message.content);
    assert.ok(typeof value === "object" && value !== null && !Array.isArray(value));
  });

  test("text is the default", async () => {
    const text = await create({ ...ASK, response_format: { type: "text" } });
    assert.equal(text.choices[0].message.content, (await create(ASK)).choices[0].message.content);
  });

  test("`parse` returns the value; also streamed", async () => {
    const schema = PERSON.extend({ motto: z.string().max(20).nullable() });
    const response_format = zodResponseFormat(schema, "person");
    const { choices } = await client.chat.completions.parse({ ...DESCRIBE, response_format });
    assertFits(choices[0].message.parsed, schema);
    const streamed = await client.chat.completions.stream({ ...DESCRIBE, response_format }).finalChatCompletion();
    assert.deepEqual(streamed.choices[0].message.parsed, choices[0].message.parsed);
  });

  test("a schema that cannot be guaranteed is rejected before anything is computed", async () => {
    const schema = { type: "object", properties: { a: { not: { type: "string" } } }, required: ["a"] };
    const response_format = { type: "json_schema", json_schema: { name: "odd", schema } };
    for (const stream of [false, true]) {
      await assert.rejects(create({ ...DESCRIBE, response_format, stream }), isError(OpenAI.BadRequestError, 400, 5006, /\S/));
    }
  });

  test("an object that is incomplete after max_tokens fails with 5024", async () => {
    await assert.rejects(
      create({ ...DESCRIBE, max_tokens: 3, response_format: JSON_SCHEMA }),
      isError(OpenAI.BadRequestError, 400, 5024, /JSON Mode couldn't be met/),
    );
  });

  test("a stream of an incomplete object fails and never has a finish_reason", async () => {
    const stream = await create({ ...DESCRIBE, max_tokens: 3, response_format: JSON_SCHEMA, stream: true });
    await assert.rejects(async () => {
      for await (const { choices } of stream) assert.equal(choices[0]?.finish_reason ?? null, null);
    });
  });
});

describe("errors", () => {
  for (const [name, type, status, code, says, body] of [
    ["an unknown model", OpenAI.BadRequestError, 400, 5007, /No such model @cf\/no\/such or task/, { model: "@cf/no/such", messages }],
    ["a value out of range", OpenAI.BadRequestError, 400, 5006, /'\/temperature' must be <= 5/, { ...ASK, temperature: 9 }],
    ["no messages", OpenAI.BadRequestError, 400, 5006, /required properties at '\/' are/, { model: MODEL }],
    ["an answer longer than the context", OpenAI.APIError, 413, 5021, /context window limit/, { ...ASK, max_tokens: 10_000_000 }],
    ["an unknown adapter", OpenAI.APIError, 405, 5005, /\S/, { ...ASK, lora: "none" }],
  ]) {
    test(`${name} is reported with its code and a readable message`, async () => {
      for (const stream of [false, true]) await assert.rejects(create({ ...body, stream }), isError(type, status, code, says));
    });
  }

  test("an error's body contains both OpenAI's and Cloudflare's fields", async () => {
    const response = await fetch(`${client.baseURL}/chat/completions`, {
      method: "POST",
      body: JSON.stringify({ model: "@cf/no/such", messages }),
    });
    assert.equal(response.status, 400);
    const { error, errors } = await response.json();
    assert.match(error.message, /No such model @cf\/no\/such or task/);
    assert.equal(typeof error.type, "string");
    assert.equal(Number(error.code), 5007);
    assert.deepEqual(errors.map(({ code }) => code), [5007]);
    assert.match(errors[0].message, /No such model @cf\/no\/such or task/);
  });
});

describe("models", () => {
  test("list returns the catalogue", async () => {
    const models = [];
    for await (const model of client.models.list()) models.push(model);
    assert.equal(new Set(models.map(({ id }) => id)).size, models.length);
    assert.ok(models.some(({ id }) => id === MODEL));
    for (const { object, created, owned_by } of models) {
      assert.deepEqual([object, typeof created, typeof owned_by], ["model", "number", "string"]);
    }
  });

  test("retrieve finds a model by its percent-encoded id and by its plain id", async () => {
    const [listed] = (await client.models.list()).data.filter(({ id }) => id === MODEL);
    const { _request_id, ...model } = await client.models.retrieve(MODEL);
    assert.deepEqual(model, listed);
    const plain = await fetch(`${client.baseURL}/models/${MODEL}`);
    assert.deepEqual(await plain.json(), listed);
  });

  test("retrieve of an unknown model fails with a readable message", async () => {
    await assert.rejects(client.models.retrieve("@cf/no/such"), (error) => {
      assert.ok(error instanceof OpenAI.APIError && [400, 404].includes(error.status), String(error));
      assert.match(error.message, /@cf\/no\/such/);
      return true;
    });
  });
});

describe("aborting", () => {
  const ABORTED = /^POST \/client\/v4\/accounts\/account\/ai\/v1\/chat\/completions .*cut off/;

  test("before the start: nothing is sent", async () => {
    await assert.rejects(create(LONG, { signal: AbortSignal.abort() }), OpenAI.APIUserAbortError);
  });

  test("while the answer is computed: the call ends, and the server still works", async () => {
    const controller = new AbortController();
    // The client's `fetch` option is used as a hook: abort right after the request has been started.
    const hooked = client.withOptions({
      fetch(url, init) {
        setImmediate(() => controller.abort());
        return fetch(url, init);
      },
    });
    await assert.rejects(hooked.chat.completions.create(LONG, { signal: controller.signal }), OpenAI.APIUserAbortError);
    assert.ok((await create(ASK)).choices[0].message.content.length > 0);
  });

  test("in the middle of a stream: the computation ends", async () => {
    for (const leave of [(stream) => stream.controller.abort(), undefined]) {
      const since = server.mark();
      const stream = await create({ ...LONG, stream: true });
      let chunks = 0;
      for await (const chunk of stream) {
        assert.ok(chunk.choices);
        if (++chunks < 4) continue;
        if (!leave) break;
        leave(stream);
      }
      await server.logged(ABORTED, since);
      assert.ok(chunks < 100, "the stream ends soon");
    }
  });
});
