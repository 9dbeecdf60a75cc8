// The contract as a table: each row is a field or feature, with a test that runs on every API surface in `on` (default: all).
// docs/conformance.md is generated from these rows and their results.
//
// `prove({ ask, open, ai, surface })` throws if the surface does not implement the row. `ask(input, model)` resolves to an `Outcome`,
// which has the same form for all surfaces (see surfaces.mjs), `open` to a stream. In a row with `refused` every input must be rejected
// with this error code.

import assert from "node:assert/strict";
import { eventData } from "workers-ai-local/sse";
import { narrow } from "../pkg/instance.js";
import { EMBEDDING_MODEL, assertFinds } from "./real-embeddings.mjs";
import { MODEL, PARIS } from "./real-model.mjs";
import { validatorOf } from "./schemas.mjs";
import { CHATML, USER_DEFINED, callScript, scriptedModel } from "./scripted-model.mjs";
import { openAiPath } from "./surfaces.mjs";

/** All API surfaces with their titles, in the order of the page's columns. */
export const SURFACES = { run: "`run()`", wire: "binding wire", rest: "REST", openAi: "OpenAI" };
const ALL = Object.keys(SURFACES);
const NOT_OPENAI = ["run", "wire", "rest"];
const HTTP = ["wire", "rest", "openAi"];

/**
 * A catalogue id with a context window of 2,048 tokens and a default of 1,800 tokens for streamed answers; the default model computes its
 * answers.
 */
const WINDOWED = "@cf/meta/llama-2-7b-chat-int8";
/** Ids that the tests configure: a model file whose download breaks off, and one that does not exist. */
const BROKEN = "@cf/test/broken";
const MISSING = "@cf/test/missing";
/** Ids of scripted models: one always calls a tool, one never does. */
const CALLING = "@cf/test/calling";
const TALKING = "@cf/test/talking";
/** Ids whose answers are chat completions: the default model answers for the first, scripted models for the others, which never end or think. */
const CHAT = "@cf/zai-org/glm-5.3";
const ENDLESS = "@cf/zai-org/glm-4.7-flash";
const THINKING_CHAT = "@cf/zai-org/glm-5.2";
/** An id of the older shape with the same file. */
const THINKING = "@cf/test/thinking";
/** Ids that take inputs of the Responses API: scripted models that think, and that call a tool. */
const RESPONDING = "@cf/openai/gpt-oss-20b";
const RESPONDING_CALLS = "@cf/openai/gpt-oss-120b";
const SCRIPTED_WINDOW = 300;

/** A model that thinks unless its prompt has an empty thought. The effort and another variable of the template are in its prompt. */
const THINKER = scriptedModel({
  template:
    "{% if reasoning_effort %}{{ reasoning_effort }}{% endif %}{% if place %}{{ place }}{% endif %}" +
    `${CHATML}{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}`,
  script: ["<think>", "I", " wonder", ".", "</think>", "Hello", "!"],
  tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
}).bytes;

/** The files of all these ids. */
export const MODELS = {
  [ENDLESS]: scriptedModel({ script: ["a", "b"], next: { b: "a" }, context: SCRIPTED_WINDOW }).bytes,
  [THINKING_CHAT]: THINKER,
  [THINKING]: THINKER,
  [RESPONDING]: THINKER,
  [RESPONDING_CALLS]: scriptedModel({ script: callScript("getWeather", { city: "Rome" }) }).bytes,
  [BROKEN]: { name: "broken.gguf", open: () => Promise.reject(new Error("the connection was cut")) },
  [MISSING]: "no-such-file.gguf",
  [CALLING]: scriptedModel({ script: callScript("getWeather", { city: "Rome" }) }).bytes,
  [TALKING]: scriptedModel().bytes,
};

const QUESTION = "Name a colour.";
const HI = { messages: [{ role: "user", content: QUESTION }], max_tokens: 4 };
const GREEDY = { ...HI, temperature: 0 };
const DRAWN = { ...HI, temperature: 5, seed: 1 };
const REPETITIVE = {
  messages: [{ role: "user", content: "Say: one two one two one two one two one two" }],
  temperature: 0,
  max_tokens: 12,
};

const WEATHER = {
  name: "getWeather",
  description: "Weather of a city",
  parameters: {
    type: "object",
    properties: { city: { type: "string", enum: ["Paris", "Rome"], description: "The city" } },
    required: ["city"],
    additionalProperties: false,
  },
};
const { description: _, ...WITHOUT_DESCRIPTION } = WEATHER;
const nested = (tool) => ({ type: "function", function: tool });
const FORCED = { type: "function", function: { name: "getWeather" } };
const TOOLS = { messages: [{ role: "user", content: "The weather in Paris?" }], tools: [nested(WEATHER)], temperature: 0, max_tokens: 60 };
/** OpenAI's surface accepts tools only in OpenAI's form. */
const toolsOf = (surface) => (surface === "openAi" ? [nested(WEATHER)] : [WEATHER]);

const COLOUR = { type: "object", properties: { colour: { enum: ["red", "blue"] } }, required: ["colour"], additionalProperties: false };
const schemaFormat = (json_schema) => ({ response_format: { type: "json_schema", json_schema } });

const textOf = async (ask, input, model) => {
  const { text } = await ask(input, model);
  assert.equal(typeof text, "string");
  return text;
};
/** The text of the request `GREEDY` on a surface. Computed once per surface. */
const greedyTexts = new WeakMap();
function greedyText(ask) {
  if (!greedyTexts.has(ask)) greedyTexts.set(ask, textOf(ask, GREEDY));
  return greedyTexts.get(ask);
}
/** A test that none of the fields changes a greedy answer. */
const changesNothing =
  (...fields) =>
  async ({ ask }) => {
    const greedy = await greedyText(ask);
    for (const field of fields) assert.equal(await textOf(ask, { ...GREEDY, ...field }), greedy, JSON.stringify(field));
  };
/** Inputs with values of a field that must be rejected. */
const outside = (field, ...values) => values.map((value) => ({ ...HI, [field]: value }));

function assertCalls({ response, tool_calls, finish_reason }) {
  assert.equal(response, null);
  assert.equal(finish_reason, "tool_calls");
  assert.ok(tool_calls.length >= 1);
  for (const { name, arguments: values } of tool_calls) {
    assert.equal(name, "getWeather");
    assert.equal(validatorOf(WEATHER.parameters)(values), null);
  }
}

/** The body of an answer, as a surface gives it. */
async function bodyOf(ai, surface, model, input) {
  if (surface === "run") return ai.run(model, input);
  if (surface === "openAi") return (await postJson(ai, `${ACCOUNT}/v1/${openAiPath(input, model)}`, { model, ...input })).json();
  if (surface === "rest") return (await (await postJson(ai, `${ACCOUNT}/run/${model}`, input)).json()).result;
  return (await postJson(ai, "/run?version=3", { inputs: input, options: {} }, { ...WIRE, "cf-consn-model-id": model })).json();
}
const postJson = (ai, path, body, headers) => ai.fetch(path, { method: "POST", headers, body: JSON.stringify(body) });

/** The values of a stream of named events. */
async function namedEvents(open, input, model) {
  const events = [];
  for await (const data of eventData(await open(input, model))) events.push(JSON.parse(data));
  return events;
}

const isColour = (value) => assert.equal(validatorOf(COLOUR)(value), null, JSON.stringify(value));
/** Of all models together: tokens computed so far, and requests in progress. */
const sumOf = (key) => async (ai) => (await ai.stats()).models.reduce((sum, model) => sum + model[key], 0);
export const computed = sumOf("tokens");
const active = sumOf("active");

const INPUT = [
  {
    field: "`prompt`",
    meaning: "1 to 131,072 characters; becomes a user message",
    on: NOT_OPENAI,
    async prove({ ask }) {
      const turn = await ask({ prompt: QUESTION, temperature: 0, max_tokens: 4 });
      const messages = await ask(GREEDY);
      assert.equal(turn.text, messages.text);
      assert.equal(turn.usage.prompt_tokens, messages.usage.prompt_tokens);
    },
  },
  {
    field: "`prompt`",
    meaning: "empty, too long, or not a string",
    on: NOT_OPENAI,
    refused: 5006,
    inputs: [{ prompt: "" }, { prompt: "x".repeat(131_073) }, { prompt: 7 }],
  },
  {
    field: "`raw`",
    meaning: "no chat template",
    on: NOT_OPENAI,
    async prove({ ask }) {
      const { text, usage } = await ask({ ...PARIS, max_tokens: 2 });
      assert.match(text, /^ Paris/);
      assert.equal(usage.prompt_tokens, 5);
    },
  },
  {
    field: "`messages`",
    meaning: "`{role, content}`, formatted with the model's own chat template",
    async prove({ ask }) {
      const tokens = async (content) =>
        (await ask({ messages: [{ role: "system", content }, ...HI.messages], max_tokens: 0 })).usage.prompt_tokens;
      assert.ok((await tokens("Be very, very brief.")) > (await tokens("Be brief.")));
      assert.equal(typeof (await textOf(ask, HI)), "string");
    },
  },
  {
    field: "`messages[].content`",
    meaning: "a list of text parts",
    async prove({ ask }) {
      const parts = [
        { type: "text", text: "Name a " },
        { type: "text", text: "colour." },
      ];
      const inParts = await ask({ ...GREEDY, messages: [{ role: "user", content: parts }] });
      const whole = await ask(GREEDY);
      assert.equal(inParts.text, whole.text);
      assert.equal(inParts.usage.prompt_tokens, whole.usage.prompt_tokens);
    },
  },
  {
    field: "`messages[].content`",
    meaning: '`null` or `""` in an assistant message',
    async prove({ ask }) {
      const turn = (content) =>
        ask({ ...GREEDY, messages: [...HI.messages, { role: "assistant", content }, { role: "user", content: "And now?" }] });
      assert.equal((await turn(null)).usage.prompt_tokens, (await turn("")).usage.prompt_tokens);
    },
  },
  {
    field: "`messages[].content`",
    meaning: "an assistant's refusal, as a part or as the message's `refusal`",
    async prove({ ask }) {
      const turn = async (said) => {
        const { usage, text } = await ask({ ...GREEDY, messages: [...HI.messages, { role: "assistant", ...said }, { role: "user", content: "Why?" }] });
        return [usage.prompt_tokens, text];
      };
      const expected = await turn({ content: "I will not do this." });
      assert.deepEqual(await turn({ content: [{ type: "refusal", refusal: "I will not do this." }] }), expected);
      assert.deepEqual(await turn({ content: null, refusal: "I will not do this." }), expected);
    },
  },
  {
    field: "`messages`",
    meaning: "not a list, a missing role, content that is too long or not text",
    refused: 5006,
    inputs: [
      { messages: "Hi" },
      { messages: [{ content: "Hi" }] },
      { messages: [{ role: "user", content: "x".repeat(131_073) }] },
      { messages: [{ role: "user", content: 7 }] },
    ],
  },
  { field: "`prompt`, `messages`", meaning: "neither", refused: 5006, inputs: [{ max_tokens: 1 }] },
  { field: "`prompt`, `messages`", meaning: "both", on: NOT_OPENAI, refused: 5006, inputs: [{ ...HI, prompt: "Hi" }] },
  {
    field: "`stream`",
    meaning: "server-sent events",
    async prove({ ask }) {
      const streamed = await ask({ ...GREEDY, stream: true });
      assert.ok(streamed.pieces.length > 1);
      assert.equal(streamed.text, await greedyText(ask));
    },
  },
  {
    field: "`max_tokens`",
    meaning: "0 or more",
    async prove({ ask }) {
      for (const max_tokens of [0, 1, 3]) {
        const { usage, finish_reason } = await ask({ ...GREEDY, max_tokens });
        assert.deepEqual([usage.completion_tokens, finish_reason], [max_tokens, "length"]);
      }
    },
  },
  {
    field: "`max_completion_tokens`",
    meaning: "OpenAI's newer name for `max_tokens`",
    async prove({ ask }) {
      assert.equal((await ask({ messages: HI.messages, temperature: 0, max_completion_tokens: 2 })).usage.completion_tokens, 2);
    },
  },
  {
    field: "`max_tokens`",
    meaning: "default: 256, for streams the catalogue's default",
    note: "visible in the message of error 5021",
    async prove({ ask }) {
      const needed = async (stream) => {
        const { code, message } = await ask({ messages: [{ role: "user", content: " a".repeat(2048) }], stream }, WINDOWED);
        assert.equal(code, 5021);
        return Number(/\((\d+)\)/.exec(message)[1]);
      };
      const object = await needed(false);
      assert.ok(object > 2048 + 256);
      assert.equal((await needed(true)) - object, 1800 - 256);
    },
  },
  {
    field: "`max_tokens`",
    meaning: "default of most newer ids: what the prompt leaves of the context window",
    note: "at most 2,000 where the default model answers",
    async prove({ ask }) {
      for (const stream of [false, true]) {
        const { usage, finish_reason } = await ask({ messages: HI.messages, stream }, ENDLESS);
        assert.deepEqual([usage.total_tokens, finish_reason], [SCRIPTED_WINDOW, "length"]);
      }
    },
  },
  { field: "`max_tokens`", meaning: "negative, not an integer, or not a number", refused: 5006, inputs: outside("max_tokens", -1, 1.5, "4") },
  {
    field: "`temperature`",
    meaning: "0 to 5; 0 is greedy",
    async prove({ ask }) {
      const greedy = await textOf(ask, { ...GREEDY, seed: 1 });
      assert.equal(await textOf(ask, { ...GREEDY, seed: 2 }), greedy);
      assert.notEqual(await textOf(ask, DRAWN), greedy);
    },
  },
  { field: "`temperature`", meaning: "out of range", refused: 5006, inputs: outside("temperature", -0.1, 5.1, "hot") },
  {
    field: "`top_p`",
    meaning: "0 to 2; 1 or more turns it off",
    async prove({ ask }) {
      assert.equal(await textOf(ask, { ...DRAWN, top_p: 0.0001 }), await greedyText(ask));
      assert.equal(await textOf(ask, { ...DRAWN, top_p: 1.5 }), await textOf(ask, DRAWN));
    },
  },
  { field: "`top_p`", meaning: "out of range", refused: 5006, inputs: outside("top_p", -0.1, 2.1) },
  {
    field: "`top_k`",
    meaning: "1 to 50",
    async prove({ ask }) {
      assert.equal(await textOf(ask, { ...DRAWN, top_k: 1 }), await greedyText(ask));
      assert.notEqual(await textOf(ask, { ...DRAWN, top_k: 50 }), await greedyText(ask));
    },
  },
  { field: "`top_k`", meaning: "out of range", refused: 5006, inputs: outside("top_k", 0, 51, 1.5) },
  {
    field: "`seed`",
    meaning: "1 to 9,999,999,999; the same seed returns the same text",
    async prove({ ask }) {
      const first = await textOf(ask, DRAWN);
      assert.equal(await textOf(ask, DRAWN), first);
      assert.notEqual(await textOf(ask, { ...DRAWN, seed: 9_999_999_999 }), first);
    },
  },
  { field: "`seed`", meaning: "out of range", on: NOT_OPENAI, refused: 5006, inputs: outside("seed", 0, 10_000_000_000, 1.5) },
  {
    field: "`seed`",
    meaning: "any integer",
    on: ["openAi"],
    async prove({ ask }) {
      for (const seed of [0, -5, 2 ** 40]) assert.equal(await textOf(ask, { ...DRAWN, seed }), await textOf(ask, { ...DRAWN, seed }));
    },
  },
  ...["repetition_penalty", "frequency_penalty", "presence_penalty"].flatMap((field) => [
    {
      field: `\`${field}\``,
      meaning: field === "repetition_penalty" ? "0 to 2, multiplicative; 0 turns it off" : "−2 to 2, additive",
      async prove({ ask }) {
        const greedy = await textOf(ask, REPETITIVE);
        assert.notEqual(await textOf(ask, { ...REPETITIVE, [field]: 2 }), greedy);
        assert.equal(await textOf(ask, { ...REPETITIVE, [field]: 0 }), greedy);
      },
    },
    { field: `\`${field}\``, meaning: "out of range", refused: 5006, inputs: outside(field, field === "repetition_penalty" ? -0.1 : -2.1, 2.1) },
  ]),
  {
    field: "`lora`",
    meaning: "a configured LoRA adapter, by its name",
    async prove({ ask }) {
      const plain = await textOf(ask, GREEDY);
      const adapted = await textOf(ask, { ...GREEDY, lora: "made-up" });
      assert.notEqual(adapted, plain);
      assert.equal(await textOf(ask, { ...GREEDY, lora: "made-up" }), adapted);
      assert.equal(await textOf(ask, GREEDY), plain);
    },
  },
  {
    field: "`tools[]`",
    meaning: '`{type: "function", function: {name, description, parameters}}`',
    async prove({ ask }) {
      assertCalls(await ask({ ...TOOLS, tool_choice: "required" }));
    },
  },
  {
    field: "`tools[]`",
    meaning: "flat: `{name, description, parameters}`",
    on: NOT_OPENAI,
    async prove({ ask }) {
      assertCalls(await ask({ ...TOOLS, tools: [WEATHER], tool_choice: "required" }));
    },
  },
  {
    field: "`tools[].description`",
    meaning: "optional",
    async prove({ ask }) {
      assertCalls(await ask({ ...TOOLS, tools: [nested(WITHOUT_DESCRIPTION)], tool_choice: "required" }));
    },
  },
  { field: "`tools[]`", meaning: "an empty list", prove: changesNothing({ tools: [] }) },
  {
    field: "`tools[]`",
    meaning: "not a list, a missing name, or parameters that cannot be guaranteed",
    refused: 5006,
    inputs: [
      { ...TOOLS, tools: "getWeather" },
      { ...TOOLS, tools: [nested({ parameters: WEATHER.parameters })] },
      { ...TOOLS, tools: [nested({ ...WEATHER, parameters: { ...WEATHER.parameters, not: {} } })], tool_choice: "required" },
    ],
  },
  {
    field: "`tool_choice`",
    meaning: "`auto` (default): text, or calls that match their schemas",
    async prove({ ask, surface }) {
      for (const tool_choice of ["auto", undefined]) {
        for (const stream of [false, true]) {
          const input = { ...TOOLS, tools: toolsOf(surface), tool_choice, stream };
          const [called, said] = [await ask(input, CALLING), await ask(input, TALKING)];
          assert.deepEqual([called.tool_calls, called.finish_reason], [[{ name: "getWeather", arguments: { city: "Rome" } }], "tool_calls"]);
          assert.deepEqual([said.text, said.tool_calls, said.finish_reason], ["Hello there!", [], "stop"]);
        }
      }
    },
  },
  {
    field: "`tool_choice`",
    meaning: "`none`: text",
    async prove({ ask, surface }) {
      const { text, tool_calls } = await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: "none", max_tokens: 8 });
      assert.equal(typeof text, "string");
      assert.deepEqual(tool_calls, []);
    },
  },
  {
    field: "`tool_choice`",
    meaning: "`required`: a call, guaranteed by a grammar",
    async prove({ ask, surface }) {
      assertCalls(await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: "required", temperature: 2, seed: 1 }));
    },
  },
  {
    field: "`tool_choice`",
    meaning: '`{type: "function", function: {name}}`: a call of this function',
    async prove({ ask, surface }) {
      assertCalls(await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: FORCED, temperature: 2, seed: 3 }));
    },
  },
  {
    field: "`tool_choice`",
    meaning: '`{type: "allowed_tools", allowed_tools: {mode, tools}}`: only these may be called',
    async prove({ ask, surface }) {
      const [weather] = toolsOf(surface);
      const other = { name: "other", description: "d", parameters: { type: "object", properties: {} } };
      const tools = [surface === "openAi" ? nested(other) : other, weather];
      const allowed = (mode) => ({ ...TOOLS, tools, tool_choice: { type: "allowed_tools", allowed_tools: { mode, tools: [FORCED] } } });
      assertCalls(await ask({ ...allowed("required"), temperature: 2, seed: 1 }));
      const { usage } = await ask({ ...allowed("auto"), max_tokens: 0 });
      const alone = await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: "auto", max_tokens: 0 });
      assert.equal(usage.prompt_tokens, alone.usage.prompt_tokens);
    },
  },
  {
    field: "`tool_choice`",
    meaning: "an unknown function or an unknown string",
    refused: 5006,
    inputs: [
      { ...TOOLS, tool_choice: { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [{ type: "function", function: { name: "nothing" } }] } } },
      { ...TOOLS, tool_choice: { type: "function", function: { name: "nothing" } } },
      { ...TOOLS, tool_choice: "perhaps" },
    ],
  },
  {
    field: "tool turns",
    meaning: "OpenAI's form: `tool_calls`, then a `tool` message with `tool_call_id`",
    async prove(context) {
      const tool_calls = (city) => [
        { id: "call00001", type: "function", function: { name: "getWeather", arguments: JSON.stringify({ city }) } },
      ];
      await provesToolTurns(context, (city, result) => [
        { role: "assistant", content: null, tool_calls: tool_calls(city) },
        { role: "tool", tool_call_id: "call00001", content: result },
      ]);
    },
  },
  {
    field: "tool turns",
    meaning: "the older form: the call as text, then a `tool` message with `name`",
    async prove(context) {
      const call = (city) => JSON.stringify({ name: "getWeather", arguments: { city } });
      await provesToolTurns(context, (city, result) => [
        { role: "assistant", content: call(city) },
        { role: "tool", name: "getWeather", content: result },
      ]);
    },
  },
  {
    field: "`functions[]`",
    meaning: "`{name, description, parameters}`, OpenAI's older form",
    note: "read as `tools`",
    async prove({ ask }) {
      assertCalls(await ask({ ...TOOLS, tools: undefined, functions: [WEATHER], tool_choice: "required" }));
    },
  },
  {
    field: "`functions[]`",
    meaning: "`{name, code}`",
    note: "accepted, but not executed",
    prove: changesNothing({ functions: [{ name: "f", code: "return 1" }] }),
  },
  {
    field: "`response_format`",
    meaning: '`{type: "json_object"}`',
    async prove({ ask }) {
      const prompt = [{ role: "user", content: 'Give me the JSON {"colour": "red"} and nothing else.' }];
      const { response } = await ask({ messages: prompt, response_format: { type: "json_object" }, temperature: 0, max_tokens: 150 });
      assert.ok(typeof response === "object" && response !== null && !Array.isArray(response));
    },
  },
  {
    field: "`response_format`",
    meaning: '`{type: "json_schema", json_schema}` with a bare schema',
    async prove({ ask }) {
      for (const temperature of [0, 5]) isColour((await ask({ ...HI, ...schemaFormat(COLOUR), temperature, max_tokens: 40 })).response);
    },
  },
  {
    field: "`response_format`",
    meaning: "`json_schema` in OpenAI's form `{name, schema, strict}`",
    async prove({ ask }) {
      for (const temperature of [0, 5])
        isColour(
          (await ask({ ...HI, ...schemaFormat({ name: "c", schema: COLOUR, strict: true }), temperature, max_tokens: 40 })).response,
        );
    },
  },
  { field: "`response_format`", meaning: '`{type: "text"}`', prove: changesNothing({ response_format: { type: "text" } }) },
  {
    field: "`guided_json`",
    meaning: "a schema that the answer fits; it stays text",
    async prove({ ask }) {
      isColour(JSON.parse(await textOf(ask, { ...HI, guided_json: COLOUR, temperature: 5, max_tokens: 40 })));
    },
  },
  {
    field: "`response_format`",
    meaning: "a schema that cannot be guaranteed, or an unknown type",
    note: "rejected before any token is computed",
    refused: 5006,
    inputs: [
      { ...HI, ...schemaFormat({ not: {} }) },
      { ...HI, ...schemaFormat({ $ref: "#/$defs/a" }) },
      { ...HI, response_format: { type: "yaml" } },
    ],
  },
  {
    field: "`stop`",
    meaning: "a string or a list of strings",
    async prove({ ask }) {
      const counting = { messages: [{ role: "user", content: "Count: 1, 2, 3" }], temperature: 0, max_tokens: 16 };
      const whole = await textOf(ask, counting);
      const stop = whole.slice(4, 6);
      for (const field of [stop, ["never seen", stop]]) {
        const { text, finish_reason } = await ask({ ...counting, stop: field });
        assert.deepEqual([text, finish_reason], [whole.slice(0, whole.indexOf(stop)), "stop"]);
      }
    },
  },
  { field: "`stop`", meaning: "not a string", refused: 5006, inputs: outside("stop", 7, [7]) },
  {
    field: "`image`",
    meaning: "bytes or a binary string",
    note: "the models accept only text",
    refused: 5006,
    inputs: [
      { ...HI, image: [1, 2, 3] },
      { ...HI, image: "abc" },
    ],
  },
  {
    field: "`n`",
    meaning: "1 to 4 choices, computed together: those of the seeds from `seed` on",
    note: "of chat completions; the older shape has one",
    async prove({ ask, surface }) {
      const input = { ...HI, temperature: 1.5, seed: 5 };
      const alone = [];
      for (const seed of [5, 6, 7]) alone.push(await textOf(ask, { ...input, seed }, CHAT));
      assert.ok(new Set(alone).size > 1);
      for (const stream of [false, true]) {
        const { choices, usage } = await ask({ ...input, n: 3, stream }, CHAT);
        assert.deepEqual(choices.map(({ text }) => text), alone);
        assert.ok(usage.completion_tokens > HI.max_tokens);
      }
      if (surface !== "openAi") assert.equal((await ask({ ...input, n: 3 })).choices, undefined);
    },
  },
  {
    field: "`requests`",
    meaning: "a batch",
    refused: 5006,
    on: NOT_OPENAI,
    says: /queueRequest/,
    inputs: [{ requests: [{ prompt: "Hi" }] }],
    note: "without the option `queueRequest`; with it, tests/node/batch.test.mjs",
  },
  { field: "`n`", meaning: "out of range", refused: 5006, says: /'\/n'/, inputs: outside("n", 0, 5, 1.5) },
  {
    field: "`logprobs`, `top_logprobs`",
    meaning: "the log probability of each token, and of 0 to 20 of the likeliest at its place",
    note: "of chat completions",
    async prove({ ask }) {
      for (const stream of [false, true]) {
        const { choices, text } = await ask({ ...GREEDY, logprobs: true, top_logprobs: 20, stream }, CHAT);
        const [{ logprobs }] = choices;
        assert.equal(logprobs.map(({ token }) => token).join(""), text);
        for (const { token, logprob, top_logprobs } of logprobs) {
          assert.deepEqual([top_logprobs.length, top_logprobs[0].token, top_logprobs[0].logprob], [20, token, logprob]);
          assert.ok(top_logprobs.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0) <= 1.0001);
        }
      }
      const [{ logprobs }] = (await ask({ ...GREEDY, logprobs: true }, CHAT)).choices;
      assert.ok(logprobs.every(({ top_logprobs }) => top_logprobs.length === 0));
      assert.equal((await ask(GREEDY, CHAT)).choices[0].logprobs, null);
    },
  },
  { field: "`logprobs`, `top_logprobs`", meaning: "out of range", refused: 5006, inputs: [...outside("top_logprobs", -1, 21), ...outside("logprobs", "yes")] },
  {
    field: "`logit_bias`",
    meaning: "token numbers → −100 (never) to 100 (always)",
    async prove({ ask, ai }) {
      const { tokens } = await ai.tokenize(MODEL, { prompt: " Paris", raw: true });
      assert.equal(await textOf(ask, { ...GREEDY, logit_bias: { [tokens[0]]: 100 } }), " Paris Paris Paris Paris");
      const greedy = await greedyText(ask);
      const { tokens: first } = await ai.tokenize(MODEL, { prompt: greedy, raw: true });
      assert.ok(!(await textOf(ask, { ...GREEDY, logit_bias: { [first[0]]: -100 } })).startsWith(greedy.slice(0, 3)));
      assert.equal(await textOf(ask, { ...GREEDY, logit_bias: { [tokens[0]]: 0 } }), greedy);
    },
  },
  {
    field: "`logit_bias`",
    meaning: "out of range, not a token's number, or more than 1,024 entries",
    refused: 5006,
    says: /logit_bias/,
    inputs: outside("logit_bias", { 5: 101 }, { 5: -101 }, { 5: "1" }, { "the": 1 }, [1], Object.fromEntries(Array.from({ length: 1025 }, (_, token) => [token, 1]))),
  },
  {
    field: "`prediction`",
    meaning: "what the answer probably contains: the same text, computed in larger steps where it is right",
    async prove({ ask }) {
      const greedy = await greedyText(ask);
      for (const content of [greedy, "something else", [{ type: "text", text: greedy }]]) {
        assert.equal(await textOf(ask, { ...GREEDY, prediction: { type: "content", content } }), greedy);
      }
    },
  },
  {
    field: "`reasoning_effort`",
    meaning: "`null` or `none`: no thought; another one: the model's own name for it",
    async prove({ ask }) {
      for (const effort of [null, "none"]) {
        const { text, reasoning } = await ask({ messages: HI.messages, reasoning_effort: effort }, THINKING_CHAT);
        assert.deepEqual([text, reasoning], ["Hello!", undefined]);
      }
      const tokens = async (reasoning_effort, model) => (await ask({ messages: HI.messages, reasoning_effort }, model)).usage.prompt_tokens;
      // A token is a byte. This id knows max and high, and takes low as high.
      assert.equal((await tokens("low", THINKING_CHAT)) - (await tokens(undefined, THINKING_CHAT)), "high".length);
      assert.equal((await tokens("xhigh", THINKING_CHAT)) - (await tokens(undefined, THINKING_CHAT)), "max".length);
      assert.equal((await tokens("low", THINKING)) - (await tokens(undefined, THINKING)), "low".length, "an id of one's own takes any");
    },
  },
  {
    field: "`chat_template_kwargs`",
    meaning: "variables of the chat template",
    async prove({ ask }) {
      const thinks = async (variables) => (await ask({ messages: HI.messages, chat_template_kwargs: variables }, THINKING_CHAT)).reasoning;
      assert.equal(await thinks({ enable_thinking: true }), "I wonder.");
      assert.equal(await thinks({ enable_thinking: false }), undefined);
      const tokens = async (variables) => (await ask({ messages: HI.messages, chat_template_kwargs: variables }, THINKING)).usage.prompt_tokens;
      assert.equal((await tokens({ place: "Oslo" })) - (await tokens({})), "Oslo".length);
    },
  },
  {
    field: "`user`, `store`, `metadata`, `parallel_tool_calls`, …",
    meaning: "other fields of OpenAI's API",
    note: "accepted",
    prove: changesNothing({ user: "u", parallel_tool_calls: true, store: false, metadata: {}, service_tier: "auto" }),
  },
  {
    field: "`stream_options.include_usage`",
    meaning: "the usage as the last chunk",
    note: "on the other surfaces every stream ends with the usage",
    async prove({ ask, surface }) {
      assert.ok((await ask({ ...GREEDY, stream: true, stream_options: { include_usage: true } })).usage);
      if (surface === "openAi")
        assert.equal((await ask({ ...GREEDY, stream: true, stream_options: { include_usage: false } })).usage, undefined);
    },
  },
  { field: "unknown fields", meaning: "", note: "ignored", prove: changesNothing({ unknown: 1, another: { a: [] } }) },
  {
    field: "`null`",
    meaning: "treated as absent",
    prove: changesNothing({ seed: null, tools: null, stop: null, response_format: null, top_p: null, tool_choice: null }),
  },
  {
    field: "`undefined`, functions",
    meaning: "dropped, as `JSON.stringify` does",
    on: ["run"],
    prove: changesNothing({ seed: undefined, tools: undefined, onDone() {} }),
  },
];

async function provesToolTurns({ ask, surface }, turns) {
  const input = { ...TOOLS, tools: toolsOf(surface), tool_choice: "none" };
  const second = (city, result, max_tokens) => ask({ ...input, max_tokens, messages: [...TOOLS.messages, ...turns(city, result)] });
  const tokens = async (city, result) => (await second(city, result, 0)).usage.prompt_tokens;
  const { text, usage } = await second("Paris", "sunny", 4);
  assert.equal(typeof text, "string");
  assert.ok((await tokens("Paris", "sunny, and it stays so all the week")) > usage.prompt_tokens, "the prompt contains the result");
  assert.ok((await tokens("Paris, Rome, Oslo and Bern", "sunny")) > usage.prompt_tokens, "the prompt contains the arguments");
}

const OUTPUT = [
  {
    field: "the shape",
    meaning: "belongs to the id: the binding's own, or chat completions; with OpenAI, chat completions for every id",
    async prove({ ask, surface }) {
      const isChat = ({ object, choices }) => object === "chat.completion" && choices.length === 1;
      const older = await ask(GREEDY);
      const newer = await ask(GREEDY, CHAT);
      assert.deepEqual([isChat(older.body), isChat(newer.body)], [surface === "openAi", true]);
      assert.equal(older.text, newer.text, "the same file answers for both");
      const events = async (model) => JSON.parse((await ask({ ...GREEDY, stream: true }, model)).events[0]);
      assert.deepEqual(["choices" in (await events(MODEL)), "choices" in (await events(CHAT))], [surface === "openAi", true]);
    },
  },
  {
    field: "the shape",
    meaning: "of two newer ids for a `prompt`: a text completion",
    on: NOT_OPENAI,
    async prove({ ai, surface }) {
      const input = { prompt: QUESTION, temperature: 0, max_tokens: 4 };
      const { object, choices } = await bodyOf(ai, surface, "@cf/qwen/qwen3-30b-a3b-fp8", input);
      assert.deepEqual([object, choices.length, choices[0].finish_reason], ["text_completion", 1, "length"]);
      assert.equal(choices[0].text, (await ai.run(MODEL, input)).response);
    },
  },
  {
    field: "text",
    meaning: "`response`; in chat completions `choices[0].message.content`",
    async prove({ ask }) {
      for (const model of [MODEL, CHAT]) {
        const { response, body } = await ask(GREEDY, model);
        assert.ok(typeof response === "string" && response !== "");
        assert.equal(response, "response" in body ? body.response : body.choices[0].message.content);
      }
    },
  },
  {
    field: "`usage`",
    meaning: "exact, with `prompt_tokens_details.cached_tokens`",
    async prove({ ask }) {
      await ask(GREEDY);
      const { usage } = await ask(GREEDY);
      const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = usage;
      assert.equal(completion_tokens, 4);
      assert.equal(total_tokens, prompt_tokens + 4);
      assert.equal(prompt_tokens_details.cached_tokens, prompt_tokens - 1, "all tokens of a repeated prompt except its last one");
      assert.deepEqual((await ask({ ...GREEDY, stream: true })).usage, usage, "a stream reports the same usage");
    },
  },
  {
    field: "`finish_reason`",
    meaning: "`stop`, `length` or `tool_calls`",
    async prove({ ask, surface }) {
      assert.equal((await ask(GREEDY)).finish_reason, "length");
      assert.equal((await ask({ ...HI, ...schemaFormat(COLOUR), temperature: 0, max_tokens: 40 })).finish_reason, "stop");
      assert.equal((await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: FORCED })).finish_reason, "tool_calls");
    },
  },
  {
    field: "`tool_calls`",
    meaning: "`{name, arguments: {…}}`, complete, beside a `null` response; in chat completions OpenAI's shape",
    async prove({ ask, surface }) {
      for (const model of [MODEL, CHAT]) {
        const outcome = await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: FORCED }, model);
        assertCalls(outcome);
        const isChat = surface === "openAi" || model === CHAT;
        const [call] = isChat ? outcome.body.choices[0].message.tool_calls : outcome.body.tool_calls;
        if (isChat) {
          assert.deepEqual(Object.keys(call).sort(), ["function", "id", "type"]);
          assert.equal(typeof call.function.arguments, "string");
          assert.match(call.id, /^\S+$/);
          assert.equal(call.type, "function");
        } else {
          assert.deepEqual([call.name, typeof call.arguments], ["getWeather", "object"]);
        }
      }
    },
  },
  {
    field: "`reasoning_content`, `reasoning`",
    meaning: "what the model thought, apart from the text; its tokens in `usage.completion_tokens_details.reasoning_tokens`",
    note: "in chat completions in the message; not of raw prompts",
    async prove({ ask }) {
      for (const model of [THINKING, THINKING_CHAT]) {
        for (const stream of [false, true]) {
          const { text, reasoning, usage } = await ask({ messages: HI.messages, stream }, model);
          assert.deepEqual([text, reasoning], ["Hello!", "I wonder."]);
          assert.equal(usage.completion_tokens, 7);
          // The words of the thought and its tags.
          assert.equal(usage.completion_tokens_details.reasoning_tokens, 5);
        }
      }
      assert.equal((await ask(GREEDY)).reasoning, undefined);
    },
  },
  {
    field: "JSON mode",
    meaning: "`response` is the JSON value; in chat completions, its text",
    async prove({ ask, surface }) {
      for (const model of [MODEL, CHAT]) {
        const outcome = await ask({ ...HI, ...schemaFormat(COLOUR), temperature: 0, max_tokens: 40 }, model);
        const isChat = surface === "openAi" || model === CHAT;
        assert.equal(typeof (isChat ? outcome.body.choices[0].message.content : outcome.body.response), isChat ? "string" : "object");
        isColour(outcome.response);
      }
    },
  },
  {
    field: "JSON mode, streamed",
    meaning: "the text of the value, in pieces",
    note: "the real service rejects it (5023)",
    async prove({ ask }) {
      const { text } = await ask({ ...HI, ...schemaFormat(COLOUR), temperature: 1, max_tokens: 40, stream: true });
      isColour(JSON.parse(text));
    },
  },
  {
    field: "events",
    meaning: "each has text; the last two are the usage event and `[DONE]`; in chat completions, every chunk has `choices`",
    note: "checked in every stream of these tests",
    async prove({ ask }) {
      const { events } = await ask({ ...GREEDY, stream: true });
      assert.equal(events.at(-1), "[DONE]");
      assert.ok(JSON.parse(events.at(-2)).usage);
    },
  },
  {
    field: "characters",
    meaning: "never split between events",
    async prove({ ask }) {
      const input = { messages: [{ role: "user", content: "Ελληνικά 中文 👩‍👩‍👧‍👦 é" }], temperature: 5, seed: 9_999_999_999, max_tokens: 16 };
      const { pieces, text } = await ask({ ...input, stream: true });
      const graphemes = (each) => [...new Intl.Segmenter().segment(each)].length;
      assert.equal(
        pieces.reduce((sum, piece) => sum + graphemes(piece), 0),
        graphemes(text),
      );
      assert.equal(text, await textOf(ask, input));
    },
  },
  {
    field: "tool calls, streamed",
    meaning: "`{index, id, type, function: {name, arguments}}`, the arguments as JSON text",
    async prove({ ask, surface }) {
      const streamed = await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: FORCED, stream: true });
      assert.equal(streamed.text, "");
      assertCalls({ ...streamed, response: null });
      const object = await ask({ ...TOOLS, tools: toolsOf(surface), tool_choice: FORCED });
      assert.deepEqual(streamed.tool_calls, object.tool_calls);
    },
  },
  {
    field: "a stream that fails",
    meaning: "ends with an error, never as if it were complete",
    async prove({ open }) {
      const reader = (await open({ ...HI, ...schemaFormat(COLOUR), max_tokens: 2 })).getReader();
      await assert.rejects(async () => {
        while (!(await reader.read()).done);
      });
    },
  },
  {
    field: "an unread stream",
    meaning: "computes nothing",
    async prove({ open, ask, ai }) {
      const stream = await open({ ...HI, messages: [{ role: "user", content: "Never read" }] });
      const before = await computed(ai);
      // Give the engine time to compute: run another request to its end.
      const { usage } = await ask(GREEDY);
      const most = usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens + usage.completion_tokens;
      assert.ok((await computed(ai)) - before <= most);
      await stream.cancel();
    },
  },
  {
    field: "cancelling a stream",
    meaning: "ends the computation",
    async prove({ open, ai }) {
      const reader = (await open({ ...HI, max_tokens: 2000 })).getReader();
      await reader.read();
      assert.equal(await active(ai), 1);
      await reader.cancel();
      assert.equal(await active(ai), 0);
    },
  },
  {
    field: "`cf-ai-req-id`",
    meaning: "a distinct id for each request; with `run()`, `lastRequestId`",
    async prove({ ask, ai, surface }) {
      const idOf = async () => {
        const { headers } = await ask(GREEDY);
        return surface === "run" ? ai.lastRequestId : headers.get("cf-ai-req-id");
      };
      const first = await idOf();
      assert.match(first, /^[\w-]{8,}$/);
      assert.notEqual(await idOf(), first);
    },
  },
  {
    field: "content type",
    meaning: "`application/json` without a charset, or `text/event-stream`",
    note: "for `run()`, with `returnRawResponse`",
    async prove({ ask, open, ai, surface }) {
      const typeOf = (headers) => headers.get("content-type");
      if (surface === "run") {
        const raw = (input) => ai.run(MODEL, input, { returnRawResponse: true });
        assert.equal(typeOf((await raw(GREEDY)).headers), "application/json");
        const stream = await raw({ ...GREEDY, stream: true });
        assert.equal(typeOf(stream.headers), "text/event-stream");
        await stream.body.cancel();
        assert.equal(typeOf((await raw({})).headers), "application/json");
      } else {
        assert.equal(typeOf((await ask(GREEDY)).headers), "application/json");
        assert.equal(typeOf((await ask({})).headers), "application/json");
        // `open` asserts the content type `text/event-stream`.
        await (await open(GREEDY)).cancel();
      }
    },
  },
];

/** Fields of the Responses API. With OpenAI the route is /v1/responses, on the others `input` says that it is such a request. */
const RESPONSES = [
  {
    field: "`input`",
    meaning: "a text, or messages; the answer is a `response`, what the model thought an item of its own",
    note: "of the gpt-oss ids; with OpenAI, of every id",
    async prove({ ai, surface }) {
      for (const input of ["Hi", [{ role: "user", content: [{ type: "input_text", text: "Hi" }] }]]) {
        const { object, status, output, output_text, usage } = await bodyOf(ai, surface, RESPONDING, { input });
        assert.deepEqual([object, status, output_text], ["response", "completed", "Hello!"]);
        assert.deepEqual(output.map(({ type, content }) => [type, content[0].text]), [["reasoning", "I wonder."], ["message", "Hello!"]]);
        assert.deepEqual([usage.output_tokens, usage.output_tokens_details.reasoning_tokens], [7, 5]);
      }
    },
  },
  { field: "`input`", meaning: "of an id whose type has no such input", on: NOT_OPENAI, refused: 5006, inputs: [{ input: "Hi" }], model: CHAT },
  {
    field: "`input[]`",
    meaning: "an image, or an item that is kept in the service",
    refused: 5006,
    inputs: [{ input: [{ role: "user", content: [{ type: "input_image", image_url: "data:" }] }] }, { input: [{ type: "item_reference", id: "msg_1" }] }],
    model: RESPONDING,
  },
  {
    field: "`instructions`",
    meaning: "a system message",
    async prove({ ai, surface }) {
      const tokens = async (instructions) => (await bodyOf(ai, surface, RESPONDING, { input: "Hi", instructions })).usage.input_tokens;
      assert.equal((await tokens("Be very brief.")) - (await tokens("Be brief.")), " very".length);
    },
  },
  {
    field: "`stream`",
    meaning: "named events, from `response.created` to `response.completed`",
    async prove({ open }) {
      const events = await namedEvents(open, { input: "Hi", stream: true }, RESPONDING);
      assert.deepEqual([events[0].type, events.at(-1).type], ["response.created", "response.completed"]);
      const deltas = (kind) => events.filter(({ type }) => type === `response.${kind}.delta`).map(({ delta }) => delta).join("");
      assert.deepEqual([deltas("output_text"), deltas("reasoning_text"), events.at(-1).response.output_text], ["Hello!", "I wonder.", "Hello!"]);
      assert.deepEqual(events.map(({ sequence_number }) => sequence_number), events.map((_, index) => index));
    },
  },
  {
    field: "`max_output_tokens`",
    meaning: "a limit makes the response `incomplete`",
    async prove({ ai, surface }) {
      const { status, incomplete_details, usage } = await bodyOf(ai, surface, RESPONDING, { input: "Hi", max_output_tokens: 6 });
      assert.deepEqual([status, incomplete_details, usage.output_tokens], ["incomplete", { reason: "max_output_tokens" }, 6]);
    },
  },
  {
    field: "`reasoning.effort`",
    meaning: "as `reasoning_effort`",
    async prove({ ai, surface }) {
      const tokens = async (effort) => (await bodyOf(ai, surface, RESPONDING, { input: "Hi", reasoning: { effort } })).usage.input_tokens;
      assert.equal((await tokens("medium")) - (await tokens("low")), "medium".length - "low".length);
    },
  },
  {
    field: "`tools`, `tool_choice`",
    meaning: "`{type: \"function\", name, parameters}`; calls are items of the output",
    async prove({ ai, surface }) {
      const input = { input: "The weather in Rome?", tools: [{ type: "function", ...WEATHER, strict: true }] };
      for (const tool_choice of ["auto", "required", { type: "function", name: WEATHER.name }]) {
        const [call] = (await bodyOf(ai, surface, RESPONDING_CALLS, { ...input, tool_choice })).output;
        assert.deepEqual([call.type, call.name], ["function_call", WEATHER.name]);
        assert.equal(validatorOf(WEATHER.parameters)(JSON.parse(call.arguments)), null);
        assert.ok(call.call_id);
      }
    },
  },
  {
    field: "`text.format`",
    meaning: "`json_schema`: the text matches the schema",
    async prove({ ai, surface }) {
      const text = { format: { type: "json_schema", name: "c", schema: COLOUR, strict: true } };
      isColour(JSON.parse((await bodyOf(ai, surface, RESPONDING, { input: "Hi", text })).output_text));
    },
  },
  {
    field: "`include`, `top_logprobs`",
    meaning: "`message.output_text.logprobs`: the log probability of each token",
    async prove({ ai, surface }) {
      const include = ["message.output_text.logprobs"];
      const { output } = await bodyOf(ai, surface, RESPONDING, { input: "Hi", include, top_logprobs: 2 });
      const { text, logprobs } = output.at(-1).content[0];
      assert.equal(logprobs.map(({ token }) => token).join(""), text);
      assert.ok(logprobs.every(({ logprob, top_logprobs }) => logprob <= 0 && top_logprobs.length === 2));
    },
  },
  {
    field: "`previous_response_id`, `conversation`, `background`",
    meaning: "what needs the memory of a service",
    refused: 5006,
    says: /is not supported\. .*(send the earlier turns in 'input'|leave 'background' out)/,
    inputs: [{ previous_response_id: "resp_1" }, { conversation: "conv_1" }, { conversation: { id: "conv_1" } }, { background: true }].map((fields) => ({ input: "Hi", ...fields })),
    model: RESPONDING,
  },
];

/** Vectors of a request of the binding's form. */
const vectorsOf = async (ai, surface, input) => bodyOf(ai, surface, EMBEDDING_MODEL, input);

/** Fields of embeddings. With OpenAI the route is /v1/embeddings, whose fields have other names. */
const EMBEDDINGS = [
  {
    field: "`text`",
    meaning: "a text, or a list of up to 100: `{shape, data, pooling}`",
    on: NOT_OPENAI,
    async prove({ ai, surface }) {
      const { shape, data, pooling } = await vectorsOf(ai, surface, { text: "a" });
      assert.deepEqual([shape, data.length, data[0].length, pooling], [[1, 384], 1, 384, "mean"]);
      assert.deepEqual((await vectorsOf(ai, surface, { text: Array(100).fill("a") })).shape, [100, 384]);
      await assertFinds(async (text) => (await vectorsOf(ai, surface, { text })).data);
    },
  },
  {
    field: "`text`",
    meaning: "absent, empty, not text, or more than 100",
    on: NOT_OPENAI,
    refused: 5006,
    inputs: [{}, { text: "" }, { text: [] }, { text: 5 }, { text: ["a", 5] }, { text: Array(101).fill("a") }],
    model: EMBEDDING_MODEL,
  },
  {
    field: "`pooling`",
    meaning: "`mean` (default) or `cls`",
    on: NOT_OPENAI,
    async prove({ ai, surface }) {
      const [mean, cls] = await Promise.all(["mean", "cls"].map((pooling) => vectorsOf(ai, surface, { text: "A cat sleeps.", pooling })));
      assert.deepEqual([mean.pooling, cls.pooling], ["mean", "cls"]);
      assert.notDeepEqual(mean.data, cls.data);
    },
  },
  { field: "`pooling`", meaning: "another word", on: NOT_OPENAI, refused: 5006, inputs: [{ text: "a", pooling: "max" }], model: EMBEDDING_MODEL },
  {
    field: "`query`, `contexts`",
    meaning: "how near each context is to the query: `{response: [{id, score}]}`, the nearest first; without a query, their vectors",
    on: NOT_OPENAI,
    async prove({ ai, surface }) {
      const contexts = ["Dogs bark.", "A cat sleeps."].map((text) => ({ text }));
      const { response } = await bodyOf(ai, surface, "@cf/baai/bge-m3", { query: "A sleeping cat", contexts });
      assert.deepEqual(response.map(({ id }) => id), [1, 0]);
      assert.ok(response[0].score > response[1].score);
      const vectors = await bodyOf(ai, surface, "@cf/baai/bge-m3", { contexts });
      assert.deepEqual([vectors.shape, vectors.response.length], [[2, 384], 2]);
    },
  },
  {
    field: "`queries`, `documents`",
    meaning: "the vectors of queries, then those of documents",
    on: NOT_OPENAI,
    async prove({ ai, surface }) {
      const [query, document] = ["A sleeping cat", "Dogs bark."];
      const both = await bodyOf(ai, surface, "@cf/qwen/qwen3-embedding-0.6b", { queries: query, documents: [document] });
      assert.deepEqual(both.shape, [2, 384]);
      // The stand-in reads no instruction.
      const apart = await vectorsOf(ai, surface, { text: [query, document] });
      assert.deepEqual(both.data, apart.data);
    },
  },
  {
    field: "`input`, `encoding_format`",
    meaning: "a text or a list; vectors as numbers or as `base64`",
    on: ["openAi"],
    async prove({ ai, surface }) {
      const { data, usage } = await vectorsOf(ai, surface, { input: ["a", "b"] });
      assert.deepEqual([data.map(({ index }) => index), data[1].embedding.length, usage.prompt_tokens], [[0, 1], 384, 6]);
      const [{ embedding }] = (await vectorsOf(ai, surface, { input: "a", encoding_format: "base64" })).data;
      const bytes = Uint8Array.from(Buffer.from(embedding, "base64"));
      assert.deepEqual([...new Float32Array(bytes.buffer)], data[0].embedding.map(Math.fround));
    },
  },
  {
    field: "`input`, `dimensions`",
    meaning: "tokens instead of text; another width than the model's",
    on: ["openAi"],
    refused: 5006,
    inputs: [{ input: [1, 2] }, { input: "a", dimensions: 256 }],
    model: EMBEDDING_MODEL,
  },
];

/** Members and options that need Cloudflare's services, with a call of each. They throw, or reject. */
export const ELSEWHERE = [
  { what: "`gateway()`", service: "AI Gateway", call: (ai) => ai.gateway("mine") },
  { what: "`autorag()`", service: "AutoRAG", call: (ai) => ai.autorag("mine") },
  { what: "`aiSearch()`", service: "AI Search", call: (ai) => ai.aiSearch() },
  { what: "`toMarkdown()`", service: "Markdown conversion", call: (ai) => ai.toMarkdown() },
  { what: "`websearch()`", service: "Web search", call: (ai) => ai.websearch({}) },
  { what: "the option `websocket`", service: "A WebSocket", call: (ai) => ai.run(MODEL, GREEDY, { websocket: true }) },
];

/** Each error on each surface, in the format of that surface and with the HTTP status in `STATUS`. */
const ERRORS = [
  { field: "3003", meaning: "bad input: a queue without a batch, a WebSocket", on: [], note: "at the binding's wire: tests/workerd" },
  {
    field: "3006",
    meaning: "the body is too large",
    on: HTTP,
    refused: 3006,
    inputs: [() => ({ ...HI, padding: "x".repeat(narrow.glue().maxBodyBytes()) })],
  },
  { field: "3007", meaning: "timed out", on: [], note: "requests have no time limit" },
  { field: "3008", meaning: "interrupted: the download of a model file breaks off", refused: 3008, inputs: [HI], model: BROKEN },
  { field: "3036", meaning: "out of quota", on: [], note: "there is no quota" },
  { field: "3040", meaning: "out of capacity: the queue is full", refused: 3040, inputs: [HI], busy: true },
  { field: "3042", meaning: "a model file that does not exist", refused: 3042, inputs: [HI], model: MISSING },
  {
    field: "5004",
    meaning: "invalid data: a lone surrogate",
    refused: 5004,
    inputs: [{ ...HI, messages: [{ role: "user", content: "a\uD83D" }] }],
  },
  { field: "5005", meaning: "an unknown LoRA adapter", refused: 5005, inputs: [{ ...HI, lora: "mine" }] },
  {
    field: "5006",
    meaning: "input that does not match the schema",
    refused: 5006,
    says: /'\/temperature' must be <= 5$/,
    inputs: [{ ...HI, temperature: 6 }],
  },
  { field: "5007", meaning: "no such model", refused: 5007, says: /No such model @cf\/x\/y or task$/, inputs: [HI], model: "@cf/x/y" },
  {
    field: "5021",
    meaning: "prompt and answer exceed the context window",
    refused: 5021,
    says: /The estimated number of input and maximum output tokens \(\d{4}\) exceeded this model context window limit \(2048\)\.$/,
    inputs: [{ ...HI, max_tokens: 2048 }],
    model: WINDOWED,
  },
  {
    field: "5024",
    meaning: "in JSON mode, no complete value within `max_tokens`",
    refused: 5024,
    says: /JSON Mode couldn't be met/,
    inputs: [{ ...HI, ...schemaFormat(COLOUR), max_tokens: 2 }],
  },
];

const ACCOUNT = "/client/v4/accounts/0123456789abcdef/ai";
const INPUT_JSON = JSON.stringify(GREEDY);
const WIRE = { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": MODEL };
const ENCODED = encodeURIComponent(MODEL);
const WIRE_BODY = JSON.stringify({ inputs: GREEDY, options: {} });
const CHAT_BODY = JSON.stringify({ ...GREEDY, model: MODEL });
const RESPONSES_BODY = JSON.stringify({ model: RESPONDING, input: "Hi" });
const EMBEDDINGS_BODY = JSON.stringify({ model: EMBEDDING_MODEL, input: "a" });
const BATCH_JSON = JSON.stringify({ requests: [{ prompt: "Hi" }] });

const isListing = (models) =>
  assert.ok(models.length > 1 && models.every(({ id, name, task }) => id && name && ["Text Generation", "Text Embeddings"].includes(task.name)));
const isAnswer = ({ response }) => assert.ok(typeof response === "string" && response !== "");
const isCompletion = ({ object, choices }) => assert.deepEqual([object, typeof choices[0].message.content], ["chat.completion", "string"]);
const isEnveloped =
  (check) =>
  ({ result, success, errors, messages }) => {
    assert.deepEqual({ success, errors, messages }, { success: true, errors: [], messages: [] });
    check(result);
  };
const isModels = ({ object, data }) =>
  assert.ok(object === "list" && data.some(({ id }) => id === MODEL) && data.every((each) => each.object === "model"));

const post = (path, body, headers) => [path, { method: "POST", body, headers }];
const overWire = (path, headers) => post(path, WIRE_BODY, { ...WIRE, ...headers });
const FORM = { "content-type": "application/x-www-form-urlencoded" };

/**
 * `sent`: the arguments of `fetch`; `also`: those of an equivalent request. `check` receives the parsed JSON body and the response.
 * `status`: 200 by default.
 */
export const ROUTES = [
  {
    route: "`POST /run?version=3`",
    what: "the binding's wire format: the model in `cf-consn-model-id`, the body `{inputs, options}`; the answer has no envelope",
    sent: overWire("/run?version=3"),
    check: isAnswer,
  },
  { route: "`POST /run?version=2`", what: "like version 3, from older bindings", sent: overWire("/run?version=2"), check: isAnswer },
  {
    route: "`POST /ai-gateway/run`",
    what: "like `POST /run`, for requests with a gateway",
    sent: overWire("/ai-gateway/run?version=3"),
    check: isAnswer,
  },
  {
    route: "`POST /run`",
    what: "with the option `prefix`, which precedes the model id",
    sent: overWire("/run?version=3", { "cf-consn-model-id": `mine:${MODEL}` }),
    check: isAnswer,
  },
  {
    route: "`GET /ai-api/models/search`",
    what: "the catalogue as `{result}`, filtered and paged",
    sent: ["/ai-api/models/search?per_page=3&search=llama"],
    check({ result }) {
      isListing(result);
      assert.equal(result.length, 3);
    },
  },
  {
    route: "`POST …/ai/run/:model`",
    what: "REST: the body is the input, whatever its content type; the answer has an envelope",
    sent: post(`${ACCOUNT}/run/${MODEL}`, INPUT_JSON, FORM),
    check: isEnveloped(isAnswer),
  },
  {
    route: "`POST …/ai/run/:model`",
    what: "with a percent-encoded model id and unknown query parameters",
    sent: post(`${ACCOUNT}/run/${ENCODED}?unknown=1`, INPUT_JSON),
    check: isEnveloped(isAnswer),
  },
  {
    route: "`POST …/ai/run/:model?queueRequest=true`",
    what: "queues a batch, `{requests}`; at the binding's wire the option `queueRequest` does",
    sent: post(`${ACCOUNT}/run/${TALKING}?queueRequest=true`, BATCH_JSON),
    check: isEnveloped(({ status, request_id, model }) => assert.ok(status === "queued" && request_id && model === TALKING)),
  },
  {
    route: "`POST …/ai/run/:model`",
    what: "`{request_id}`: the answers of a batch, or that it is not complete",
    sent: async (ai) => {
      const queued = await ai.fetch(...post(`${ACCOUNT}/run/${TALKING}?queueRequest=true`, BATCH_JSON));
      return post(`${ACCOUNT}/run/${TALKING}`, JSON.stringify({ request_id: (await queued.json()).result.request_id }));
    },
    check: isEnveloped(({ status, responses }) => assert.ok(["queued", "running"].includes(status) || responses[0].success)),
  },
  {
    route: "`POST …/ai/run/:model`",
    what: "`{request_id}` of no batch",
    sent: post(`${ACCOUNT}/run/${TALKING}`, JSON.stringify({ request_id: "none" })),
    status: 404,
    check: ({ errors }) => assert.equal(errors[0].code, 3042),
  },
  { route: "`GET …/ai/models/search`", what: "the catalogue", sent: [`${ACCOUNT}/models/search`], check: isEnveloped(isListing) },
  {
    route: "`GET …/ai/models/search`",
    what: "`page` past the end: an empty list",
    sent: [`${ACCOUNT}/models/search?page=99&per_page=50`],
    check: isEnveloped((result) => assert.deepEqual(result, [])),
  },
  {
    route: "`GET …/ai/models/schema?model=`",
    what: "the JSON Schemas of input and output",
    sent: [`${ACCOUNT}/models/schema?model=${ENCODED}`],
    check: isEnveloped(({ input, output }) => assert.ok(input && output)),
  },
  {
    route: "`GET …/ai/finetunes`",
    what: "the configured LoRA adapters",
    sent: [`${ACCOUNT}/finetunes`],
    check: isEnveloped((result) => assert.ok(result.length === 1 && result[0].name === "made-up" && result[0].id)),
  },
  {
    route: "`POST …/ai/finetunes`",
    what: "creates an adapter, as `wrangler ai finetune create` does: of the command `serve` only (tests/node/finetunes.test.mjs)",
    sent: post(`${ACCOUNT}/finetunes`, "{}"),
    status: 405,
    check: ({ errors }) => assert.equal(errors[0].code, 3003),
  },
  {
    route: "`POST …/ai/v1/chat/completions`, `POST /v1/chat/completions`",
    what: "OpenAI's chat completions",
    sent: post(`${ACCOUNT}/v1/chat/completions`, CHAT_BODY),
    also: post("/v1/chat/completions", CHAT_BODY),
    check: isCompletion,
  },
  {
    route: "`POST …/ai/v1/responses`, `POST /v1/responses`",
    what: "OpenAI's Responses API",
    sent: post(`${ACCOUNT}/v1/responses`, RESPONSES_BODY),
    also: post("/v1/responses", RESPONSES_BODY),
    check: ({ object, output_text }) => assert.deepEqual([object, output_text], ["response", "Hello!"]),
  },
  {
    route: "`POST …/ai/v1/embeddings`, `POST /v1/embeddings`",
    what: "OpenAI's embeddings",
    sent: post(`${ACCOUNT}/v1/embeddings`, EMBEDDINGS_BODY),
    also: post("/v1/embeddings", EMBEDDINGS_BODY),
    check: ({ object, data }) => assert.deepEqual([object, data.length, data[0].embedding.length], ["list", 1, 384]),
  },
  {
    route: "`GET …/ai/v1/models`, `GET /v1/models`",
    what: "OpenAI's list of models",
    sent: [`${ACCOUNT}/v1/models`],
    also: ["/v1/models"],
    check: isModels,
  },
  {
    route: "`GET /v1/models/:id`",
    what: "one model; its id plain or percent-encoded",
    sent: [`/v1/models/${MODEL}`],
    also: [`/v1/models/${ENCODED}`],
    check: ({ id }) => assert.equal(id, MODEL),
  },
  {
    route: "`GET /v1/models/:id`",
    what: "an unknown model",
    sent: ["/v1/models/nothing"],
    status: 404,
    check: ({ error }) => assert.equal(error.code, 3042),
  },
  {
    route: "any other path",
    what: "not found",
    sent: ["/client/v4/nothing"],
    status: 404,
    check: ({ errors }) => assert.equal(errors[0].code, 3042),
  },
  {
    route: "any other method",
    what: "not allowed; the header `allow` names the allowed method",
    sent: ["/run", { method: "PUT", headers: WIRE, body: WIRE_BODY }],
    status: 405,
    check: ({ internalCode }, { headers }) => assert.deepEqual([internalCode, headers.get("allow")], [3003, "POST"]),
  },
];

export const SECTIONS = [
  { title: "Input", rows: INPUT },
  { title: "Output", rows: OUTPUT },
  { title: "Responses", rows: RESPONSES },
  { title: "Embeddings", rows: EMBEDDINGS },
  { title: "Errors", rows: ERRORS },
].map(({ title, rows }) => ({ title, rows: rows.map((row) => ({ on: ALL, ...row })) }));
