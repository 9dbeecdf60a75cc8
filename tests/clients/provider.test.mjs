// Tests with the packages `workers-ai-provider` and `ai`, as applications use them: with `env.AI` as the binding, and over Cloudflare's
// REST API, whose host is replaced by our server.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { APICallError, Output, generateText, isStepCount, streamText, tool } from "ai";
import { Ai } from "workers-ai-local";
import { createWorkersAI } from "workers-ai-provider";
import { z } from "zod";
import { MODEL_PATH } from "../real-model.mjs";
import { scriptedFile, scriptedModel } from "../scripted-model.mjs";
import { ASK_PERSON, ASK_WEATHER, CALLER, CALLING_MODEL, CALL_TOKENS, CITY, ITS_CALL, LONG_REPORT, MODEL, NOTHING, ORDER, PERSON, assertFits, eventually } from "./checks.mjs";
import { startServer } from "./server.mjs";

const API = "https://api.cloudflare.com";
const INSTRUCTIONS = "You are brief.";
const QUESTION = "Why is the sky blue?";
const GREEDY = { temperature: 0, maxOutputTokens: 24 };
/** An answer with more tokens than any test reads. */
const LONG = { prompt: "Count to one thousand.", temperature: 0, maxOutputTokens: 1500 };

const WEATHER = tool({ description: "Gets the weather of a city.", inputSchema: CITY });
const SCHEMAS = { weather: CITY, order: ORDER, ping: NOTHING };
const TOOLS = {
  weather: WEATHER,
  order: tool({ description: "Orders from the menu.", inputSchema: ORDER }),
  // Without description and parameters.
  ping: tool({ inputSchema: NOTHING }),
};
const CALLING = { prompt: ASK_WEATHER, tools: TOOLS, temperature: 0, maxOutputTokens: CALL_TOKENS };

const ai = new Ai({ models: { [CALLING_MODEL]: scriptedModel(CALLER).bytes }, onWarning() {} });
let caller;
let server;
/** Number of requests sent to the server. */
let sent = 0;
before(async () => {
  await ai.load(MODEL);
  caller = await scriptedFile(CALLER);
  server = await startServer("--gguf", caller.path, "--model", CALLING_MODEL);
});
after(async () => {
  await server?.stop();
  await caller?.remove();
});

/** The numbers of requests in progress and of tokens computed so far, in this process. */
async function activity() {
  const { active, tokens } = (await ai.stats()).models.find(({ name }) => name === MODEL_PATH);
  return { active, tokens };
}

const MODES = {
  "env.AI": {
    provider: () => createWorkersAI({ binding: ai }),
    /** Extracts the service's error from an error of the client, with the HTTP status that the client reports. */
    errorIn({ message, statusCode }) {
      const [, code, text] = /^(\d{4}): (.*)$/s.exec(message) ?? assert.fail(`no code in ${message}`);
      return { code: Number(code), text, status: statusCode };
    },
    // The client's table of the binding's error codes lacks the newer ones.
    statusOf: (code, status) => ([5006, 5021, 5024].includes(code) ? undefined : status),
    brokenOff: /^AiError: 5024: JSON Mode couldn't be met/,
    work: async () => (await activity()).tokens,
    mark: activity,
    async stopped({ tokens }) {
      await eventually("no request is in progress", async () => (await activity()).active === 0);
      assert.ok((await activity()).tokens - tokens < LONG.maxOutputTokens, "the computation did not run to its end");
    },
  },
  "the REST API": {
    provider: () =>
      createWorkersAI({
        accountId: "account",
        apiKey: "key",
        async fetch(url, init) {
          assert.ok(url.startsWith(`${API}/client/v4/accounts/account/ai/run/@cf/`), url);
          // A request that is already aborted is not sent.
          if (!init.signal?.aborted) sent++;
          return fetch(url.replace(API, server.url), init);
        },
      }),
    errorIn({ responseBody, statusCode }) {
      const { result, success, errors, messages, ...others } = JSON.parse(responseBody);
      assert.deepEqual([result, success, messages, others], [{}, false, [], {}]);
      assert.equal(errors.length, 1);
      const [, text] = /^AiError: (.*)$/s.exec(errors[0].message) ?? assert.fail(`no AiError: ${responseBody}`);
      return { code: errors[0].code, text, status: statusCode };
    },
    statusOf: (code, status) => status,
    // The connection is closed, and fetch reports no further details.
    brokenOff: /^TypeError: terminated/,
    // The number of computed tokens is not visible outside the server, so count requests.
    work: async () => sent,
    mark: async () => server.mark(),
    async stopped(mark) {
      await server.logged(/^POST \S*\/ai\/run\/\S+ .*cut off/, mark);
    },
  },
};

for (const [mode, { provider, errorIn, statusOf, brokenOff, work, mark, stopped }] of Object.entries(MODES)) {
  describe(`over ${mode}`, () => {
    const model = provider()(MODEL);
    const generate = (options) => generateText({ model, ...options });
    const stream = (options) => streamText({ model, onError() {}, ...options });

    /** All parts of a stream: `parts`, and `of(type)` for those of one type. */
    async function partsOf(result) {
      const parts = [];
      for await (const part of result.fullStream) parts.push(part);
      return { parts, of: (type) => parts.filter((part) => part.type === type) };
    }

    const isAbort = (error) => {
      assert.equal(error.name, "AbortError", error.stack);
      return true;
    };
    /** A check of the service's error, which the client must report without a retry: none of these errors is retryable. */
    const isError = (code, status, says) => (error) => {
      assert.ok(APICallError.isInstance(error), error.stack);
      assert.equal(error.isRetryable, false);
      const { text, ...rest } = errorIn(error);
      assert.deepEqual(rest, { code, status: statusOf(code, status) });
      assert.match(text, says);
      return true;
    };

    describe("text", () => {
      const messages = [
        { role: "user", content: "My name is Ada." },
        { role: "assistant", content: "Hello, Ada." },
        { role: "user", content: QUESTION },
      ];

      test("generateText returns the text, usage and finish reason of env.AI.run", async () => {
        const direct = await ai.run(MODEL, { messages: [{ role: "system", content: INSTRUCTIONS }, ...messages], temperature: 0, max_tokens: 24 });
        const { text, usage, finishReason, warnings } = await generate({ instructions: INSTRUCTIONS, messages, ...GREEDY });
        assert.ok(text.length > 0);
        assert.equal(text, direct.response);
        assert.equal(finishReason, direct.finish_reason);
        assert.deepEqual(warnings ?? [], []);
        const { prompt_tokens, completion_tokens, total_tokens } = direct.usage;
        assert.deepEqual([usage.inputTokens, usage.outputTokens, usage.totalTokens], [prompt_tokens, completion_tokens, total_tokens]);
        const { cacheReadTokens, noCacheTokens } = usage.inputTokenDetails;
        assert.ok(cacheReadTokens >= 0 && noCacheTokens > 0);
        assert.equal(cacheReadTokens + noCacheTokens, prompt_tokens);
      });

      test("the usage of a repeated question reports the cached tokens", async () => {
        const ask = { prompt: "Name three colours of the rainbow.", ...GREEDY, maxOutputTokens: 2 };
        await generate(ask);
        const { usage } = await generate(ask);
        assert.equal(usage.inputTokenDetails.cacheReadTokens, usage.inputTokens - 1, "all tokens except the last one");
      });

      test("streamText returns the same text in pieces, the same usage and finish reason", async () => {
        const whole = await generate({ prompt: QUESTION, ...GREEDY });
        const result = stream({ prompt: QUESTION, ...GREEDY });
        const { parts, of } = await partsOf(result);
        const deltas = of("text-delta").map(({ text }) => text);
        assert.ok(deltas.length > 3, "the text arrives in several pieces");
        assert.equal(deltas.join(""), whole.text);
        assert.equal(await result.text, whole.text);
        assert.equal(await result.finishReason, whole.finishReason);
        const { inputTokens, outputTokens } = await result.usage;
        assert.deepEqual([inputTokens, outputTokens], [whole.usage.inputTokens, whole.usage.outputTokens]);
        assert.deepEqual(parts.filter(({ type }) => type === "error" || type === "abort"), []);
        assert.equal(parts.at(-1).type, "finish");
      });

      test("common settings of applications do not change the answer: affinity, headers, custom options, reasoning", async () => {
        const plain = await generate({ prompt: QUESTION, ...GREEDY });
        const settings = { sessionAffinity: "session", safePrompt: true, custom: "value", extraHeaders: { "x-own": "1" } };
        const own = await generateText({ model: provider()(MODEL, settings), prompt: QUESTION, ...GREEDY });
        assert.equal(own.text, plain.text);
        for (const reasoning of ["none", "low"]) assert.equal((await generate({ prompt: QUESTION, reasoning, ...GREEDY })).text, plain.text);
      });
    });

    describe("objects", () => {
      const ASK = { prompt: ASK_PERSON, temperature: 0, maxOutputTokens: CALL_TOKENS };

      test("Output.object matches its schema", async () => {
        const output = Output.object({ schema: PERSON, name: "person", description: "A person" });
        const result = await generate({ ...ASK, output });
        assertFits(result.output, PERSON);
        assert.equal(result.finishReason, "stop");
      });

      test("Output.object, streamed: the complete object matches its schema", async () => {
        const result = stream({ ...ASK, output: Output.object({ schema: PERSON }) });
        const partial = [];
        for await (const value of result.partialOutputStream) partial.push(value);
        const output = await result.output;
        assertFits(output, PERSON);
        assert.ok(partial.length > 3, "partial objects arrive in several pieces");
        assert.deepEqual(partial.at(-1), output);
        assert.deepEqual(JSON.parse(await result.text), output);
        assert.equal(await result.finishReason, "stop");
        assert.ok((await result.usage).outputTokens > 0);
      });

      test("Output.array and Output.choice match their schemas", async () => {
        const element = z.object({ word: z.enum(["ink", "page", "pen"]) });
        const { output } = await generate({ ...ASK, output: Output.array({ element, minItems: 2, maxItems: 3 }) });
        assertFits(output, z.array(element).min(2).max(3));
        const options = ["sunny", "rainy", "snowy"];
        const { output: choice } = await generate({ ...ASK, prompt: ASK_WEATHER, output: Output.choice({ options }) });
        assert.ok(options.includes(choice), choice);
      });

      test("Output.json, which sends no schema, returns some JSON", async () => {
        // Nothing limits the length of the value: the model may not complete it.
        const { output } = await generate({ ...ASK, prompt: 'Answer with {"ok": true}.', output: Output.json() }).catch((error) => {
          isError(5024, 400, /JSON Mode couldn't be met/)(error);
          return { output: null };
        });
        assert.doesNotThrow(() => JSON.stringify(output));
      });

      test("an object that is incomplete after maxOutputTokens fails with 5024", async () => {
        const output = Output.object({ schema: PERSON });
        await assert.rejects(generate({ ...ASK, maxOutputTokens: 3, output }), isError(5024, 400, /^JSON Mode couldn't be met/));
      });

      test("a stream of an incomplete object fails and never has a finish part", async () => {
        const result = stream({ ...ASK, maxOutputTokens: 3, output: Output.object({ schema: PERSON }) });
        await assert.rejects(async () => {
          for await (const part of result.fullStream) {
            assert.notEqual(part.type, "finish");
            if (part.type === "error") throw part.error;
          }
        }, brokenOff);
        await assert.rejects(async () => result.output);
      });
    });

    describe("tools", () => {
      /** Checks calls against their schemas, with the client's own validation and with an independent one. */
      function assertCalls(calls, names = Object.keys(TOOLS)) {
        assert.ok(calls.length > 0, "there is at least one call");
        assert.equal(new Set(calls.map(({ toolCallId }) => toolCallId)).size, calls.length, "each has its own id");
        for (const call of calls) {
          assert.ok(!call.invalid, String(call.error));
          assert.ok(names.includes(call.toolName), call.toolName);
          assertFits(call.input, SCHEMAS[call.toolName]);
        }
      }

      for (const [name, toolChoice, names] of [
        ["required", "required", undefined],
        ["forced to one tool", { type: "tool", toolName: "weather" }, ["weather"]],
        ["forced to a tool that does not suit the question, with nested arguments", { type: "tool", toolName: "order" }, ["order"]],
        ["forced to a tool without parameters", { type: "tool", toolName: "ping" }, ["ping"]],
      ]) {
        test(`${name}: a call that matches its schema`, async () => {
          const { toolCalls, finishReason, text, warnings } = await generate({ ...CALLING, toolChoice });
          assertCalls(toolCalls, names);
          assert.equal(finishReason, "tool-calls");
          assert.equal(text, "");
          assert.deepEqual(warnings ?? [], [], "the client did not have to repair anything");
        });

        test(`${name}, streamed: a call that matches its schema`, async () => {
          const result = stream({ ...CALLING, toolChoice });
          const { of } = await partsOf(result);
          assert.deepEqual(of("error"), []);
          assertCalls(of("tool-call"), names);
          for (const { toolCallId, toolName, input } of of("tool-call")) {
            assert.deepEqual(of("tool-input-start").filter(({ id }) => id === toolCallId).map((part) => part.toolName), [toolName]);
            const deltas = of("tool-input-delta").filter(({ id }) => id === toolCallId);
            assert.deepEqual(JSON.parse(deltas.map(({ delta }) => delta).join("")), input);
            assert.equal(of("tool-input-end").filter(({ id }) => id === toolCallId).length, 1);
          }
          assert.equal(await result.finishReason, "tool-calls");
          assert.equal(await result.text, "");
          assert.ok((await result.usage).outputTokens > 0);
        });
      }

      test("auto: text, or calls that match their schemas", async () => {
        for (const prompt of [ASK_WEATHER, "Say hello."]) {
          const { text, toolCalls, finishReason } = await generate({ ...CALLING, prompt, maxOutputTokens: 64 });
          if (toolCalls.length > 0) assertCalls(toolCalls);
          assert.equal(finishReason === "tool-calls", toolCalls.length > 0);
          assert.ok(toolCalls.length > 0 || text.length > 0);
        }
      });

      test("auto, streamed: the same answer", async () => {
        const ask = { ...CALLING, maxOutputTokens: 64 };
        const whole = await generate(ask);
        const result = stream(ask);
        assert.equal(await result.text, whole.text);
        assert.equal(await result.finishReason, whole.finishReason);
        const plain = ({ toolName, input }) => ({ toolName, input });
        assert.deepEqual((await result.toolCalls).map(plain), whole.toolCalls.map(plain));
      });

      test("auto, of a model that calls: its call; also streamed", async () => {
        const ask = { ...CALLING, model: provider()(CALLING_MODEL) };
        const [whole, streamed] = [await generateText(ask), streamText({ onError() {}, ...ask })];
        for (const { toolCalls, finishReason, text } of [whole, streamed]) {
          assertCalls(await toolCalls, ["weather"]);
          assert.deepEqual((await toolCalls).map(({ input }) => input), [ITS_CALL]);
          assert.deepEqual([await finishReason, await text], ["tool-calls", ""]);
        }
      });

      test("none: no call, as the client requires", async () => {
        const { toolCalls, text } = await generate({ ...CALLING, toolChoice: "none", maxOutputTokens: 32 });
        assert.deepEqual(toolCalls, []);
        assert.ok(text.length > 0);
        assert.deepEqual(await stream({ ...CALLING, toolChoice: "none", maxOutputTokens: 32 }).toolCalls, []);
      });

      /** Options for two steps: the first requires a call, the second receives its result. */
      const loop = (report, ran) => ({
        prompt: ASK_WEATHER,
        tools: {
          weather: tool({
            ...WEATHER,
            async execute(input) {
              ran.push(input);
              return report;
            },
          }),
        },
        toolChoice: "required",
        prepareStep: ({ stepNumber }) => (stepNumber === 0 ? {} : { toolChoice: "none" }),
        stopWhen: isStepCount(2),
        temperature: 0,
        maxOutputTokens: 128,
      });

      test("two steps: the call is executed, and the second prompt contains its result", async () => {
        const ran = [];
        const brief = await generate(loop("dry", ran));
        const long = await generate(loop(LONG_REPORT, ran));
        for (const { steps, text } of [brief, long]) {
          assert.equal(steps.length, 2);
          assertCalls(steps[0].toolCalls, ["weather"]);
          assert.equal(steps[0].finishReason, "tool-calls");
          assert.equal(steps[0].toolResults.length, steps[0].toolCalls.length);
          assert.deepEqual(steps[1].toolCalls, []);
          assert.equal(text, steps[1].text);
          assert.ok(text.length > 0);
        }
        assert.deepEqual(ran, [...brief.steps[0].toolCalls, ...long.steps[0].toolCalls].map(({ input }) => input));
        assert.ok(long.steps[1].usage.inputTokens - brief.steps[1].usage.inputTokens >= 60, "the prompt contains the longer result");
      });

      test("two steps, streamed", async () => {
        const ran = [];
        const result = stream(loop({ sky: "clear", degrees: 21 }, ran));
        const { of } = await partsOf(result);
        assert.deepEqual(of("error"), []);
        const calls = of("tool-call");
        assertCalls(calls, ["weather"]);
        assert.deepEqual(ran, calls.map(({ input }) => input));
        assert.deepEqual(of("tool-result").map(({ output }) => output), calls.map(() => ({ sky: "clear", degrees: 21 })));
        assert.deepEqual(of("finish-step").map(({ finishReason }) => finishReason)[0], "tool-calls");
        assert.equal(of("finish-step").length, 2);
        assert.ok((await result.text).length > 0);
      });
    });

    describe("errors", () => {
      const image = { type: "file", mediaType: "image/png", data: new Uint8Array([137, 80, 78, 71]) };
      for (const [name, code, status, says, options] of [
        ["an unknown model", 5007, 400, /^No such model @cf\/no\/such or task$/, { model: provider()("@cf/no/such"), prompt: "Hi" }],
        ["a value out of range", 5006, 400, /^oneOf at '\/' not met, 0 matches: '\/temperature' must be <= 5$/, { prompt: "Hi", temperature: 9 }],
        [
          "an answer longer than the context",
          5021,
          413,
          /^The estimated number of input and maximum output tokens \(\d+\) exceeded this model context window limit \(\d+\)\.$/,
          { prompt: "Hi", maxOutputTokens: 10_000_000 },
        ],
        ["an image", 5006, 400, /image/i, { messages: [{ role: "user", content: [{ type: "text", text: "What is it?" }, image] }] }],
      ]) {
        test(`${name} fails with ${code}`, async () => {
          await assert.rejects(generate(options), isError(code, status, says));
        });

        test(`${name} fails with ${code} when streamed`, async () => {
          const errors = [];
          const result = stream({ ...options, onError: ({ error }) => errors.push(error) });
          await assert.rejects(async () => result.text);
          assert.equal(errors.length, 1);
          isError(code, status, says)(errors[0]);
        });
      }
    });

    describe("aborting", () => {
      test("before the start: nothing is computed", async () => {
        const done = await work();
        await assert.rejects(generate({ ...LONG, abortSignal: AbortSignal.abort() }), isAbort);
        assert.equal(await work(), done);
      });

      test("while the answer is computed: the call ends", async () => {
        const controller = new AbortController();
        const done = await work();
        const answer = generate({ ...LONG, abortSignal: controller.signal });
        await Promise.race([eventually("the computation has started", async () => (await work()) > done), answer]);
        controller.abort();
        await assert.rejects(answer, isAbort);
        assert.ok((await generate({ prompt: QUESTION, ...GREEDY })).text.length > 0, "the next call is answered");
      });

      test("in the middle of a stream: the computation ends", async () => {
        const controller = new AbortController();
        const since = await mark();
        const result = stream({ ...LONG, abortSignal: controller.signal });
        const types = [];
        for await (const { type } of result.fullStream) {
          types.push(type);
          if (types.filter((type) => type === "text-delta").length === 3) controller.abort();
        }
        assert.equal(types.at(-1), "abort");
        assert.ok(!types.includes("finish"));
        await assert.rejects(async () => result.text, isAbort);
        await stopped(since);
      });
    });
  });
}
