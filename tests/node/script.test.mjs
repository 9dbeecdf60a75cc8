// Scripted answers: no model is loaded, and nothing else differs.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { generateText, isStepCount, streamText, tool } from "ai";
import OpenAI from "openai";
import { Ai, AiInternalError } from "workers-ai-local";
import { createWorkersAI } from "workers-ai-provider";
import { z } from "zod";
import { createServer } from "../../pkg/cli/serve.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { answerIn, chunksOf, readAnswer } from "../sse.mjs";

const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const TOOLS = [{ name: "weather", description: "The weather.", parameters: { type: "object", properties: { city: { type: "string" } } } }];
const user = (content) => ({ messages: [{ role: "user", content }] });
const scripted = (...script) => new Ai({ script });
const fails = (code, says) => (error) => {
  assert.equal(error.name, "AiError", error.stack);
  assert.match(error.message, new RegExp(`^${code}: ${says.source}`, "s"));
  return true;
};

describe("which entry answers", () => {
  const ai = scripted(
    { model: "@cf/own/model", input: "Hi", text: "own" },
    { model: /llama-3\.2/, input: "Hi", text: "3.2" },
    { input: "Hi", times: 1, text: "once" },
    { input: "Hi", text: "again" },
    { input: /^what (a|the)/i, text: "expression" },
    { input: { messages: [{ role: "system" }, { content: /two/ }], temperature: 0 }, text: "fields" },
    { input: ({ prompt }, model) => prompt === "function" && model === MODEL, text: "function" },
    (model, input) => (input.seed === 7 ? { text: `${model} with seed 7` } : undefined),
    async () => undefined,
  );
  const says = async (model, input) => (await ai.run(model, input)).response;

  test("by model", async () => {
    assert.equal(await says("@cf/own/model", { prompt: "Hi" }), "own");
    assert.equal(await says("@cf/meta/llama-3.2-1b-instruct", { prompt: "Hi" }), "3.2");
  });

  test("by how often it has answered", async () => {
    assert.deepEqual([await says(MODEL, { prompt: "Hi" }), await says(MODEL, { prompt: "Hi" }), await says(MODEL, { prompt: "Hi" })], ["once", "again", "again"]);
  });

  test("by what the user said last, as text and in parts", async () => {
    assert.equal(await says(MODEL, user("What a day")), "expression");
    const parts = [{ role: "user", content: "no" }, { role: "assistant", content: "what the" }, { role: "user", content: [{ type: "text", text: "what " }, { type: "text", text: "the" }] }];
    assert.equal(await says(MODEL, { messages: parts }), "expression");
  });

  test("by fields, by a function, and as one", async () => {
    const messages = [{ role: "system", content: "one" }, { role: "user", content: "one, two" }];
    assert.equal(await says(MODEL, { messages, temperature: 0, top_k: 3 }), "fields");
    assert.equal(await says(MODEL, { prompt: "function" }), "function");
    assert.equal(await says(MODEL, { prompt: "any", seed: 7 }), `${MODEL} with seed 7`);
  });

  test("none: error 5004 with what was asked", async () => {
    await assert.rejects(ai.run(MODEL, { prompt: "Nobody expects this" }), fails(5004, /No entry of the script matches .*llama-3\.1-8b-instruct with \{"prompt":"Nobody expects this"\}/));
    const messages = [{ role: "system", content: "one" }, { role: "user", content: "one, two" }];
    await assert.rejects(ai.run(MODEL, { messages, temperature: 1 }), fails(5004, /No entry/));
  });

  test("an id that neither the catalogue has nor an entry names is 5007, invalid input is 5006", async () => {
    await assert.rejects(ai.run("@cf/meta/llama-3.1-8b-instrukt", { prompt: "what a" }), fails(5007, /No such model .*Did you mean/));
    await assert.rejects(ai.run(MODEL, { prompt: "Hi", temperature: 9 }), fails(5006, /.*temperature/));
    for (const input of [{ messages: "what a" }, { prompt: "Hi", tools: {} }, { messages: [null] }, null]) {
      await assert.rejects(scripted({ text: "x" }).run(MODEL, input), fails(5006, /./), JSON.stringify(input));
    }
  });
});

describe("what it answers", () => {
  const ai = scripted(
    { input: "long", text: "One two  three four." },
    { input: "pieces", text: ["On", "e", " tw", "o"] },
    { input: "json", json: { city: "Oslo", days: [1, 2] } },
    { input: "call", text: "Let me see.", calls: [{ name: "weather", arguments: { city: "Oslo" } }, { name: "weather" }] },
    { input: "busy", error: 3040 },
    { input: "quota", error: { code: 3036, status: 429, message: "no more today" } },
    { input: "breaks", text: "One two", error: 3008 },
    { input: "slow", text: "a b c", delay: 30 },
    { input: "usage", text: "a", usage: { prompt_tokens: 900, completion_tokens: 41 }, finish_reason: "length" },
  );

  test("text, as an object and as a stream", async () => {
    const { response, usage, finish_reason } = await ai.run(MODEL, { prompt: "long" });
    assert.deepEqual([response, finish_reason, usage.prompt_tokens, usage.completion_tokens], ["One two  three four.", "stop", 1, 4]);
    const streamed = await readAnswer(await ai.run(MODEL, { prompt: "long", stream: true }));
    assert.deepEqual([streamed.pieces, streamed.usage.total_tokens], [["One", " two", "  three", " four."], 5]);
    assert.deepEqual((await readAnswer(await ai.run(MODEL, { prompt: "pieces", stream: true }))).pieces, ["On", "e", " tw", "o"]);
  });

  test("up to the limit and to a stop string", async () => {
    const { response, finish_reason } = await ai.run(MODEL, { prompt: "long", max_tokens: 2 });
    assert.deepEqual([response, finish_reason], ["One two", "length"]);
    assert.equal((await ai.run(MODEL, { prompt: "long", stop: ["o  thr"] })).response, "One tw");
  });

  test("JSON, held to what the request wants", async () => {
    const schema = (properties) => ({ type: "json_schema", json_schema: { type: "object", properties, required: Object.keys(properties) } });
    assert.deepEqual((await ai.run(MODEL, { prompt: "json", response_format: schema({ city: { type: "string" } }) })).response, { city: "Oslo", days: [1, 2] });
    assert.equal((await ai.run(MODEL, { prompt: "json" })).response, '{"city":"Oslo","days":[1,2]}');
    await assert.rejects(ai.run(MODEL, { prompt: "json", response_format: schema({ city: { type: "number" } }) }), fails(5024, /JSON Mode/));
    await assert.rejects(ai.run(MODEL, { prompt: "long", response_format: { type: "json_object" } }), fails(5024, /JSON Mode/));
  });

  test("calls of the tools that the request offers", async () => {
    const { response, tool_calls, finish_reason } = await ai.run(MODEL, { ...user("call"), tools: TOOLS });
    assert.deepEqual([response, finish_reason], ["Let me see.", "tool_calls"]);
    assert.deepEqual(tool_calls.map((call) => [call.name, call.arguments]), [["weather", { city: "Oslo" }], ["weather", {}]]);
    assert.equal(new Set(tool_calls.map(({ id }) => id)).size, 2);
    await assert.rejects(ai.run(MODEL, user("call")), fails(5004, /script\[3\] calls "weather", but the request offers no tools/));
  });

  test("errors, at once and in the middle of a stream", async () => {
    await assert.rejects(ai.run(MODEL, { prompt: "busy" }), fails(3040, /Capacity/));
    assert.deepEqual([ai.lastRequestHttpStatusCode, ai.lastRequestInternalStatusCode], [429, 3040]);
    const raw = await ai.run(MODEL, { prompt: "quota" }, { returnRawResponse: true });
    assert.deepEqual([raw.status, (await raw.json()).description], [429, "no more today"]);
    const seen = [];
    await assert.rejects(async () => {
      for await (const chunk of await ai.run(MODEL, { prompt: "breaks", stream: true })) seen.push(new TextDecoder().decode(chunk));
    }, fails(3008, /Request was aborted/));
    assert.deepEqual(seen.map((event) => JSON.parse(event.slice(6)).response), ["One", " two"]);
  });

  test("in its time, and with its token counts", async () => {
    const started = performance.now();
    await ai.run(MODEL, { prompt: "slow" });
    assert.ok(performance.now() - started >= 85, "three pieces, 30 ms before each");
    const { usage, finish_reason } = await ai.run(MODEL, { prompt: "usage" });
    assert.deepEqual([usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, finish_reason], [900, 41, 941, "length"]);
  });

  test("without any model", async () => {
    assert.deepEqual(await ai.load(), { model: "script", backend: null, reason: null });
    assert.deepEqual([(await ai.stats()).models, ai.backend], [[], null]);
    const response = await ai.run(MODEL, { prompt: "long" }, { returnRawResponse: true });
    assert.equal(response.headers.get("workers-ai-local-model"), "script");
    await assert.rejects(ai.tokenize(MODEL, { prompt: "long" }), AiInternalError);
  });

  test("an error of the script's own function fails the request, not the next one", async () => {
    const broken = scripted(
      { input: "a", text: "fine" },
      () => {
        throw new Error("the fixture is missing");
      },
    );
    await assert.rejects(broken.run(MODEL, { prompt: "b" }), fails(5004, /the fixture is missing/));
    assert.equal((await broken.run(MODEL, { prompt: "a" })).response, "fine");
  });
});

test("a script that cannot be understood is refused, with its place", () => {
  const cases = [
    [{}, /script is a list/],
    [[{ txt: "a" }], /script\[0\] has an unknown field "txt"; it may have .*text/],
    [[{ text: "a" }, { input: "a" }], /script\[1\] has no answer/],
    [[{ text: "a", json: {} }], /both text and json/],
    [[{ text: 3 }], /neither a string nor a list/],
    [[{ calls: [{}] }], /no list of \{ name, arguments \}/],
    [[{ error: 1234 }], /neither one of 3003, .* nor/],
    [[{ text: "a", delay: -1 }], /no number of milliseconds/],
    [[{ text: "a", delay: Infinity }], /no number of milliseconds/],
    [[{ text: "a", times: 0 }], /times/],
    [[{ text: "a", finish_reason: "tool_calls" }], /finish_reason other than/],
    [[{ text: "a", usage: { prompt_tokens: 1.5 } }], /usage that is not/],
    [["a"], /must be an object or a function/],
  ];
  for (const [script, says] of cases) {
    assert.throws(() => new Ai({ script }), (error) => error instanceof AiInternalError && says.test(error.message), String(says));
  }
});

describe("published clients", () => {
  const script = [
    { input: { messages: [{ role: "user" }, { role: "assistant" }, { role: "tool", content: /rain/ }] }, text: "It rains in Oslo." },
    { input: /weather/i, calls: [{ name: "weather", arguments: { city: "Oslo" } }] },
    { text: "Hello there." },
  ];
  let server;
  let url;
  before(async () => {
    server = await listening(createServer(new Ai({ script })));
    ({ url } = server);
  });
  after(() => server.close());

  test("OpenAI's: objects, streams and errors", async () => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
    const messages = [{ role: "user", content: "Hi" }];
    assert.equal((await client.chat.completions.create({ model: MODEL, messages })).choices[0].message.content, "Hello there.");
    let text = "";
    for await (const chunk of await client.chat.completions.create({ model: MODEL, messages, stream: true })) text += chunk.choices[0]?.delta.content ?? "";
    assert.equal(text, "Hello there.");
    await assert.rejects(client.chat.completions.create({ model: "gpt-4o", messages }), (error) => error.status === 400 && /5007/.test(error.message));
  });

  test("the AI SDK's: a call, its result, and the answer", async () => {
    const asked = [];
    const weather = tool({ inputSchema: z.object({ city: z.string() }), execute: ({ city }) => (asked.push(city), "rain") });
    const model = createWorkersAI({ binding: new Ai({ script }) })(MODEL);
    const { text } = await generateText({ model, prompt: "The weather?", tools: { weather }, stopWhen: isStepCount(3) });
    assert.deepEqual([text, asked], ["It rains in Oslo.", ["Oslo"]]);
    assert.equal(await streamText({ model, prompt: "Hi" }).text, "Hello there.");
  });

  test("the REST API", async () => {
    const response = await fetch(`${url}/client/v4/accounts/any/ai/run/${MODEL}`, { method: "POST", body: JSON.stringify({ prompt: "Hi", stream: true }) });
    assert.equal(answerIn(...(await chunksOf(response.body))).text, "Hello there.");
  });
});
