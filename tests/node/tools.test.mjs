// Tools: forced calls are complete and their arguments satisfy the schema; so do calls that the model chooses to make.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { SEED, countOf, forEachCase } from "../random.mjs";
import { MODEL } from "../real-model.mjs";
import { parametersSchema, validatorOf } from "../schemas.mjs";
import { callScript, scriptedModel } from "../scripted-model.mjs";
import { answerIn, chunksOf, eventsIn } from "../sse.mjs";

const WEATHER = {
  name: "getWeather",
  description: "Return the weather for a city",
  parameters: {
    type: "object",
    properties: {
      city: { type: "string", maxLength: 20, description: "The city" },
      unit: { type: "string", enum: ["C", "F"], description: "The unit" },
    },
    required: ["city", "unit"],
    additionalProperties: false,
  },
};
const ADD = {
  name: "add",
  description: "Add two numbers",
  parameters: {
    type: "object",
    properties: {
      a: { type: "integer", minimum: 0, maximum: 99, description: "One" },
      b: { type: "integer", minimum: 0, maximum: 99, description: "Other" },
    },
    required: ["a", "b"],
    additionalProperties: false,
  },
};
const TOOLS = [WEATHER, ADD];
const openAi = ({ name, description, parameters }) => ({ type: "function", function: { name, description, parameters } });
const forced = (name) => ({ type: "function", function: { name } });

const ASK = { messages: [{ role: "user", content: "How is the weather in Paris?" }], tools: TOOLS, max_tokens: 120 };

const ai = new Ai({ onWarning() {} });
const run = (input, options) => ai.run(MODEL, input, options);
const computed = async () => (await ai.stats()).models[0].tokens;

const isError =
  (code, says = "") =>
  (error) => {
    assert.ok(error instanceof InferenceUpstreamError, `not an AiError: ${error?.stack ?? error}`);
    assert.match(error.message, new RegExp(`^${code}: ${says}`));
    return true;
  };

/** Checks a flat call: it names one of the tools, its arguments satisfy the schema, and its OpenAI fields agree with them. */
function assertCall(call, tools = TOOLS) {
  const tool = tools.find(({ name }) => name === call.name);
  assert.ok(tool, `no tool has this name: ${JSON.stringify(call)}`);
  assert.ok(typeof call.arguments === "object" && call.arguments !== null && !Array.isArray(call.arguments), JSON.stringify(call));
  const wrong = validatorOf(tool.parameters)(call.arguments);
  assert.equal(wrong, null, `${wrong}\n${JSON.stringify({ call, parameters: tool.parameters })}`);
  if (call.type !== undefined) assert.equal(call.type, "function");
  if (call.id !== undefined) assert.match(call.id, /^\S+$/);
  if (call.function !== undefined)
    assert.deepEqual(
      { name: call.function.name, arguments: JSON.parse(call.function.arguments) },
      { name: call.name, arguments: call.arguments },
    );
}

/** Checks an answer that consists of calls and has no text. */
function assertToolTurn({ response, tool_calls, usage, finish_reason }, tools = TOOLS, max_tokens = ASK.max_tokens) {
  assert.equal(response, null);
  assert.equal(finish_reason, "tool_calls");
  assert.ok(Array.isArray(tool_calls) && tool_calls.length >= 1);
  for (const call of tool_calls) assertCall(call, tools);
  const ids = tool_calls.map(({ id }) => id).filter((id) => id !== undefined);
  assert.equal(new Set(ids).size, ids.length, "ids are unique");
  assertUsage(usage, max_tokens);
}

function assertUsage({ prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }, max_tokens) {
  assert.ok(completion_tokens >= 1 && completion_tokens <= max_tokens);
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
  assert.ok(prompt_tokens_details.cached_tokens >= 0 && prompt_tokens_details.cached_tokens < prompt_tokens);
}

/** Reads and checks a stream with tools. Returns its text and its calls in the flat form. */
async function readToolStream(stream) {
  const chunks = await chunksOf(stream);
  const answer = answerIn(...chunks);
  const events = eventsIn(...chunks)
    .slice(0, -1)
    .map((event) => JSON.parse(event));
  const deltas = events.flatMap(({ tool_calls }) => tool_calls ?? []);
  for (const {
    index,
    id,
    type,
    function: { name, arguments: text },
  } of deltas) {
    assert.ok(Number.isInteger(index) && index >= 0);
    assert.match(id, /^\S+$/);
    assert.equal(type, "function");
    assert.equal(typeof name, "string");
    assert.equal(typeof text, "string", "arguments are JSON text");
  }
  for (const field of ["index", "id"])
    assert.equal(new Set(deltas.map((delta) => delta[field])).size, deltas.length, `each call has a unique ${field}`);
  assert.ok(!answer.tool_calls?.length, "the calls come before the usage event");
  return {
    ...answer,
    calls: deltas.map((delta) => ({ name: delta.function.name, arguments: JSON.parse(delta.function.arguments), id: delta.id })),
  };
}

before(() => ai.load());

describe("a forced call", () => {
  for (const [what, tool_choice] of Object.entries({
    required: "required",
    "one function": forced("getWeather"),
    "the other function": forced("add"),
  })) {
    test(`${what}: complete, flat and valid, whatever the seed and temperature`, async () => {
      for (const [index, temperature] of [0, 1, 5].entries()) {
        const answer = await run({ ...ASK, tool_choice, temperature, seed: index + 1 });
        assertToolTurn(answer);
        if (tool_choice.function) {
          assert.deepEqual(
            answer.tool_calls.map(({ name }) => name),
            [tool_choice.function.name],
            "exactly one call, of this function",
          );
        }
      }
    });
  }

  test("tools in OpenAI's form reach the model as the same prompt", async () => {
    const input = { ...ASK, tool_choice: forced("getWeather"), temperature: 1, seed: 3 };
    const flat = await run(input);
    const nested = await run({ ...input, tools: TOOLS.map(openAi) });
    assertToolTurn(nested);
    assert.deepEqual(
      nested.tool_calls.map(({ arguments: values }) => values),
      flat.tool_calls.map(({ arguments: values }) => values),
    );
    assert.equal(nested.usage.prompt_tokens, flat.usage.prompt_tokens);
    const mixed = await run({ ...input, tools: [WEATHER, openAi(ADD)] });
    assert.equal(mixed.usage.prompt_tokens, flat.usage.prompt_tokens);
  });

  test("the tools are in the prompt: tools make it longer, and a longer description makes it longer still", async () => {
    const prompt = async (tools) =>
      (await run({ messages: ASK.messages, tools, tool_choice: "required", max_tokens: 120, temperature: 0 })).usage.prompt_tokens;
    const none = (await run({ messages: ASK.messages, max_tokens: 0 })).usage.prompt_tokens;
    const one = await prompt([ADD]);
    const wordy = await prompt([{ ...ADD, description: `${ADD.description}, one and the other and nothing else at all` }]);
    assert.ok(none < one && one < wordy, `${none}, ${one}, ${wordy} tokens`);
  });

  test("a tool's description is optional", async () => {
    const { description: _, ...tool } = ADD;
    for (const tools of [[tool], [openAi(tool)]])
      assertToolTurn(await run({ ...ASK, tools, tool_choice: "required", temperature: 0 }), [ADD]);
  });

  test("values in tools that JSON omits are ignored", async () => {
    const tools = [{ ...WEATHER, function: () => "sunny", strict: undefined }];
    assertToolTurn(await run({ ...ASK, tools, tool_choice: "required", temperature: 0 }));
  });

  test("max_tokens that end inside a call never cause a partial call", async () => {
    for (const max_tokens of [1, 4, 8]) {
      for (const stream of [false, true]) {
        const input = { ...ASK, tool_choice: forced("getWeather"), temperature: 0, max_tokens, stream };
        const calls = await run(input)
          .then(async (answer) => (stream ? (await readToolStream(answer)).calls : answer.tool_calls))
          .catch((error) => isError(5024)(error) && []);
        for (const call of calls) assertCall(call);
      }
    }
  });

  test("the same seed produces the same call, with another id", async () => {
    const input = { ...ASK, tool_choice: "required", temperature: 1, seed: 8 };
    const [first, second] = [await run(input), await run(input)];
    const bare = ({ tool_calls }) => tool_calls.map(({ name, arguments: values }) => ({ name, arguments: values }));
    assert.deepEqual(bare(first), bare(second));
    const ids = [...first.tool_calls, ...second.tool_calls].map(({ id }) => id).filter((id) => id !== undefined);
    assert.equal(new Set(ids).size, ids.length, "ids are unique across answers");
  });
});

describe(`random parameters (SEED=${SEED})`, () => {
  test("every call fits its schema, as object and as stream", async (t) => {
    const count = countOf(3);
    let unmet = 0;
    await forEachCase(count, async (random) => {
      const parameters = parametersSchema(random);
      const tools = [{ name: random.pick(["f", "get_it", "do-it", "名"]), description: "Do it", parameters }];
      const fields = { temperature: random.pick([0, 1, 2, 5]), seed: random.seed(), max_tokens: 500 };
      const input = { messages: [{ role: "user", content: "Do it." }], tools, ...fields };
      const answer = await run({ ...input, tool_choice: "required" }).catch((error) => isError(5024)(error) && null);
      if (!answer) unmet += 1;
      else assertToolTurn(answer, tools, 500);
      const streamed = await run({ ...input, tool_choice: forced(tools[0].name), stream: true });
      const result = await readToolStream(streamed).catch((error) => isError(5024)(error) && null);
      if (!result) unmet += 1;
      else {
        assert.equal(result.calls.length, 1);
        assertCall(result.calls[0], tools);
      }
    });
    t.diagnostic(`${count} schemas, ${unmet} answers ran to max_tokens`);
    assert.ok(unmet <= Math.ceil(count / 5), `${unmet} of ${2 * count} calls did not end within 500 tokens`);
  });
});

describe("an optional call", () => {
  test("the answer is text, or calls that satisfy their schema", async (t) => {
    const outcomes = { text: 0, calls: 0 };
    for (const [index, choice] of ["auto", undefined, "auto", undefined].entries()) {
      const content = ["How is the weather in Paris?", "Add 2 and 3."][index % 2];
      // An assistant turn that looks like a call, to tempt the model to call.
      const more =
        index < 2
          ? []
          : [
              { role: "assistant", content: '{"name": "add", "arguments": {"a": 1, "b": 2}}' },
              { role: "tool", name: "add", content: "3" },
              { role: "user", content },
            ];
      const input = {
        messages: [{ role: "user", content }, ...more],
        tools: TOOLS,
        tool_choice: choice,
        temperature: index % 2,
        seed: index + 1,
        max_tokens: 40,
      };
      const answer = await run(input);
      assert.ok(Array.isArray(answer.tool_calls), "tools were offered, so there is a list");
      if (answer.tool_calls.length > 0) {
        outcomes.calls += 1;
        assertToolTurn(answer, TOOLS, 40);
      } else {
        outcomes.text += 1;
        assert.equal(typeof answer.response, "string");
        assert.ok(["stop", "length"].includes(answer.finish_reason));
      }
      const streamed = await readToolStream(await run({ ...input, stream: true }));
      assert.deepEqual(
        streamed.calls.map(({ name, arguments: values }) => ({ name, arguments: values })),
        answer.tool_calls.map(({ name, arguments: values }) => ({ name, arguments: values })),
        "the stream has the same calls as the object answer",
      );
      if (answer.tool_calls.length === 0) assert.equal(streamed.text, answer.response);
      assert.equal(streamed.finish_reason, answer.finish_reason);
    }
    t.diagnostic(JSON.stringify(outcomes));
  });

  // Whether the real model calls is its affair. These models always do.
  for (const choice of ["auto", undefined]) {
    test(`the answer is the call that the model writes, as object and as stream (tool_choice: ${choice})`, async () => {
      const wanted = { name: "getWeather", arguments: { city: "Paris", unit: "C" } };
      const calling = new Ai({ default: scriptedModel({ script: callScript(wanted.name, wanted.arguments) }).bytes, onWarning() {} });
      const input = { ...ASK, tool_choice: choice };
      const answer = await calling.run(MODEL, input);
      assertToolTurn(answer);
      const bare = (calls) => calls.map(({ name, arguments: values }) => ({ name, arguments: values }));
      assert.deepEqual(bare(answer.tool_calls), [wanted]);
      const streamed = await readToolStream(await calling.run(MODEL, { ...input, stream: true }));
      assert.deepEqual([bare(streamed.calls), streamed.text, streamed.finish_reason], [[wanted], "", "tool_calls"]);
    });

    test(`the answer is text where the model writes text, or a call that does not fit (tool_choice: ${choice})`, async () => {
      for (const script of [["It", " is", " warm."], ["<function=getWeather>", '{"city": "Paris", "unit": "K"}', "</function>"]]) {
        const talking = new Ai({ default: scriptedModel({ script }).bytes, onWarning() {} });
        const answer = await talking.run(MODEL, { ...ASK, tool_choice: choice });
        assert.deepEqual([answer.response, answer.tool_calls, answer.finish_reason], [script.join(""), [], "stop"]);
        const streamed = await readToolStream(await talking.run(MODEL, { ...ASK, tool_choice: choice, stream: true }));
        assert.deepEqual([streamed.text, streamed.calls, streamed.finish_reason], [script.join(""), [], "stop"]);
      }
    });
  }

  test("with tool_choice none there are no calls", async () => {
    const input = { ...ASK, tool_choice: "none", temperature: 1, max_tokens: 20 };
    for (const seed of [1, 2, 3]) {
      const answer = await run({ ...input, seed });
      assert.equal(typeof answer.response, "string");
      assert.ok(!answer.tool_calls?.length);
      assert.ok(["stop", "length"].includes(answer.finish_reason));
    }
    assert.deepEqual((await readToolStream(await run({ ...input, seed: 1, stream: true }))).calls, []);
  });

  test("an empty list of tools is the same as no tools", async () => {
    const plain = { messages: ASK.messages, temperature: 0, max_tokens: 6 };
    const answer = await run({ ...plain, tools: [] });
    const without = await run(plain);
    assert.equal(answer.response, without.response);
    assert.equal(answer.usage.prompt_tokens, without.usage.prompt_tokens);
    assert.ok(!answer.tool_calls?.length);
  });

  test("together with a JSON schema: calls, or JSON that satisfies it", async () => {
    const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: schema };
    for (const seed of [1, 2]) {
      const answer = await run({ ...ASK, response_format, temperature: 1, seed });
      if (answer.tool_calls.length > 0) assertToolTurn(answer);
      else assert.equal(validatorOf(schema)(answer.response), null, JSON.stringify(answer.response));
    }
    assertToolTurn(await run({ ...ASK, response_format, tool_choice: "required", temperature: 0 }));
  });
});

describe("invalid tools and choices", () => {
  const REFUSED = {
    "a choice that is not among the tools": { tool_choice: forced("nothing") },
    "an unknown choice": { tool_choice: "perhaps" },
    "a choice that is a number": { tool_choice: 7 },
    "a choice without a name": { tool_choice: { type: "function" } },
    "tools that are not an array": { tools: "getWeather" },
    "a tool that is a string": { tools: ["getWeather"] },
    "a tool without a name": { tools: [{ description: "x", parameters: { type: "object", properties: {} } }] },
    "a name that is a number": { tools: [{ ...WEATHER, name: 7 }] },
    "parameters that are a string": { tools: [{ ...WEATHER, parameters: "city" }] },
    "parameters that cannot be enforced": {
      tools: [{ ...WEATHER, parameters: { type: "object", properties: { a: { not: {} } }, required: ["a"] } }],
      tool_choice: "required",
    },
  };
  for (const [what, fields] of Object.entries(REFUSED)) {
    test(`${what}: 5006 before any token`, async () => {
      const before = await computed();
      await assert.rejects(run({ ...ASK, ...fields }), isError(5006));
      assert.equal(await computed(), before);
    });
  }
});

describe("a tool call in a stream", () => {
  test("arrives as OpenAI's delta, with arguments as JSON text, followed by the usage and [DONE]", async () => {
    const input = { ...ASK, tool_choice: forced("getWeather"), temperature: 0 };
    const chunks = await chunksOf(await run({ ...input, stream: true }));
    const events = eventsIn(...chunks);
    assert.equal(events.at(-1), "[DONE]");
    const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
    for (const event of parsed) assert.equal(typeof event.response, "string", "pages append it without a check");
    assert.equal(parsed.map(({ response }) => response).join(""), "", "a call adds no text");
    const last = parsed.at(-1);
    assert.equal(last.finish_reason, "tool_calls");
    assertUsage(last.usage, ASK.max_tokens);

    const object = await run(input);
    const streamed = await readToolStream(await run({ ...input, stream: true }));
    assert.deepEqual(
      streamed.calls.map(({ name, arguments: values }) => ({ name, values })),
      object.tool_calls.map(({ name, arguments: values }) => ({ name, values })),
    );
    assert.equal(streamed.usage.completion_tokens, object.usage.completion_tokens);
  });

  test("several calls have distinct indexes", async () => {
    const content = "How is the weather in Paris, in Rome and in Oslo? And what is 1 + 2, and 3 + 4?";
    for (const seed of [1, 2, 3]) {
      const input = {
        ...ASK,
        messages: [{ role: "user", content }],
        tool_choice: "required",
        temperature: 1.5,
        seed,
        max_tokens: 300,
        stream: true,
      };
      const { calls } = await readToolStream(await run(input)).catch((error) => isError(5024)(error) && { calls: [] });
      for (const call of calls) assertCall(call);
    }
  });
});

describe("a conversation of a call and its result", () => {
  const first = { ...ASK, tool_choice: forced("getWeather"), temperature: 0 };
  const second = (messages, fields) =>
    run({ ...ASK, tool_choice: "none", temperature: 0, max_tokens: 12, messages: [...ASK.messages, ...messages], ...fields });
  const FORMS = {
    "OpenAI's": (call, result) => {
      const tool_calls = [
        { id: call.id ?? "call_1", type: "function", function: { name: call.name, arguments: JSON.stringify(call.arguments) } },
      ];
      return [
        { role: "assistant", content: null, tool_calls },
        { role: "tool", tool_call_id: tool_calls[0].id, content: result },
      ];
    },
    "OpenAI's, with empty content": (call, result) => {
      const tool_calls = [
        { id: call.id ?? "call_1", type: "function", function: { name: call.name, arguments: JSON.stringify(call.arguments) } },
      ];
      return [
        { role: "assistant", content: "", tool_calls },
        { role: "tool", tool_call_id: tool_calls[0].id, content: result },
      ];
    },
    "the older": ({ name, arguments: values }, result) => [
      { role: "assistant", content: JSON.stringify({ name, arguments: values }) },
      { role: "tool", name, content: result },
    ],
  };
  for (const [what, form] of Object.entries(FORMS)) {
    test(`${what} form: the call and its result reach the model, and it answers`, async () => {
      const {
        tool_calls: [call],
        usage,
      } = await run(first);
      const answer = await second(form(call, "It is sunny."));
      assert.ok(typeof answer.response === "string" && answer.response !== "");
      assertUsage(answer.usage, 12);

      // If it may call again, the prompt begins with the first turn's prompt.
      const again = await second(form(call, "It is sunny."), { tool_choice: "auto", max_tokens: 1 });
      assert.ok(again.usage.prompt_tokens > usage.prompt_tokens, "the conversation has grown");
      const cached = again.usage.prompt_tokens_details.cached_tokens;
      assert.ok(cached >= usage.prompt_tokens - 10, `only ${cached} of ${usage.prompt_tokens} tokens came from the cache`);

      const tokens = async (call, result) => (await second(form(call, result), { max_tokens: 0 })).usage.prompt_tokens;
      const short = answer.usage.prompt_tokens;
      assert.ok((await tokens(call, "It is sunny, and it will be sunny all day long.")) >= short + 5, "the result is in the prompt");
      const longer = { ...call, arguments: { city: "Paris and Rome and Oslo", unit: "C" } };
      const shorter = { ...call, arguments: { city: "Rome", unit: "C" } };
      assert.ok((await tokens(longer, "x")) >= (await tokens(shorter, "x")) + 3, "the arguments are in the prompt");
    });
  }

  test("a conversation may mix the forms, and another call may be forced", async () => {
    const {
      tool_calls: [call],
    } = await run(first);
    const messages = Object.values(FORMS).flatMap((form, index) => [
      ...form({ ...call, id: `call_${index}` }, "Sunny."),
      { role: "user", content: "And tomorrow?" },
    ]);
    assertToolTurn(await second(messages, { tool_choice: forced("getWeather"), max_tokens: 120 }), TOOLS, 120);
  });

  test("results without a call, non-string results and malformed calls are either accepted or 5006", async () => {
    const odd = [
      [{ role: "tool", tool_call_id: "nothing", content: "sunny" }],
      [{ role: "tool", name: "getWeather", content: [{ type: "text", text: "sunny" }] }],
      [{ role: "assistant", tool_calls: [] }],
      [
        { role: "assistant", tool_calls: [{ id: "a", type: "function", function: { name: "getWeather", arguments: "{not json" } }] },
        { role: "tool", tool_call_id: "a", content: "x" },
      ],
      [{ role: "assistant", tool_calls: "none" }],
      [{ role: "assistant", tool_calls: [7] }],
    ];
    for (const messages of odd) {
      const outcome = await second([...messages, { role: "user", content: "So?" }], { max_tokens: 1 }).catch((error) => error);
      if (outcome instanceof Error) isError(5006)(outcome);
      else assertUsage(outcome.usage, 1);
    }
  });
});
