// What newer models have, with the published clients: answers that are chat completions from `env.AI.run` too, thoughts apart from the text,
// several choices, log probabilities, biases and predictions.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Output, generateText, isStepCount, streamText, tool } from "ai";
import OpenAI from "openai";
import { Ai } from "workers-ai-local";
import { createWorkersAI } from "workers-ai-provider";
import { Random } from "../random.mjs";
import { CHATML, USER_DEFINED, scriptedFile, scriptedModel } from "../scripted-model.mjs";
import { ASK_WEATHER, CALL_TOKENS, CITY, MODEL, PERSON, assertFits } from "./checks.mjs";
import { startServer } from "./server.mjs";

/** Ids whose answers are chat completions. The first one knows the efforts max, high and none; the second has a low one too. */
const CHAT = "@cf/zai-org/glm-5.2";
const WITH_LOW_EFFORT = "@cf/zai-org/glm-5.3";

/** A model that thinks before it answers, unless its prompt has an empty thought. The effort is in its prompt. */
const EFFORT = "{% if reasoning_effort %}<|im_start|>system\nEffort: {{ reasoning_effort }}<|im_end|>\n{% endif %}";
const EARLIER = "{% for m in messages %}{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{% endfor %}";
const NO_THOUGHT = "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}";
const THINKER = {
  template: EFFORT + EARLIER + CHATML + NO_THOUGHT,
  script: ["<think>", "Let", " me", " see", ".", "</think>", "Hello", "!"],
  tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
};
const THOUGHT = "Let me see.";
const TEXT = "Hello!";

/** A model whose answers are made of these words: they depend on the prompt and on the seed. */
const WORDS = [" red", " green", " blue", " black", " white", " grey"];
const TALKER = { script: [], after: "\u0001", noise: { random: new Random(1), words: WORDS } };

const ai = new Ai({ default: scriptedModel(THINKER).bytes, onWarning() {} });
const files = [];
const servers = {};
before(async () => {
  for (const [name, options] of Object.entries({ thinker: THINKER, talker: TALKER })) {
    const file = await scriptedFile(options);
    files.push(file);
    servers[name] = await startServer("--gguf", file.path);
  }
});
after(async () => {
  for (const { stop } of Object.values(servers)) await stop();
  for (const { remove } of files) await remove();
  await ai.close();
});

const PROVIDERS = {
  "env.AI": () => createWorkersAI({ binding: ai }),
  "the REST API": () =>
    createWorkersAI({
      accountId: "account",
      apiKey: "key",
      fetch: (url, init) => fetch(url.replace("https://api.cloudflare.com", servers.thinker.url), init),
    }),
};

for (const [mode, provider] of Object.entries(PROVIDERS)) {
  describe(`workers-ai-provider over ${mode}`, () => {
    const ASK = { prompt: "Hi", temperature: 0, maxOutputTokens: CALL_TOKENS };
    const generate = (options) => generateText({ model: provider()(CHAT), ...ASK, ...options });
    const stream = (options) => streamText({ model: provider()(CHAT), onError() {}, ...ASK, ...options });

    test("the text, the thought before it, and the counts of tokens of a chat completion", async () => {
      const { text, reasoningText, finishReason, usage, warnings } = await generate();
      assert.deepEqual([text, reasoningText, finishReason, warnings ?? []], [TEXT, THOUGHT, "stop", []]);
      const { usage: own } = await ai.run(CHAT, { messages: [{ role: "user", content: "Hi" }] });
      assert.deepEqual([usage.inputTokens, usage.outputTokens], [own.prompt_tokens, own.completion_tokens]);
      assert.equal(usage.outputTokens, THINKER.script.length);
    });

    test("streamed: first the thought in pieces, then the text in pieces", async () => {
      const result = stream();
      const parts = [];
      for await (const part of result.fullStream) parts.push(part);
      const order = parts.map(({ type }) => type).filter((type) => /^(reasoning|text)-/.test(type));
      assert.deepEqual([...new Set(order)], ["reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta", "text-end"]);
      const deltas = (type) => parts.filter((part) => part.type === type).map(({ text }) => text);
      for (const [type, whole] of [["reasoning-delta", THOUGHT], ["text-delta", TEXT]]) {
        assert.ok(deltas(type).length > 1, type);
        assert.equal(deltas(type).join(""), whole);
      }
      assert.deepEqual([await result.text, await result.reasoningText, await result.finishReason], [TEXT, THOUGHT, "stop"]);
      const { inputTokens, outputTokens } = await result.usage;
      const { usage } = await generate();
      assert.deepEqual([inputTokens, outputTokens], [usage.inputTokens, usage.outputTokens]);
    });

    test("an id of the older shape: the text has no thought in it", async () => {
      // In this shape the client looks for no thoughts.
      const model = provider()(MODEL);
      assert.equal((await generate({ model })).text, TEXT);
      assert.equal(await stream({ model }).text, TEXT);
    });

    test("`reasoning` reaches the model, by the model's own names", async () => {
      const tokens = async (id, reasoning) => (await generate({ model: provider()(id), reasoning })).usage.inputTokens;
      // A token is a byte.
      assert.equal((await tokens(WITH_LOW_EFFORT, "high")) - (await tokens(WITH_LOW_EFFORT, "low")), "high".length - "low".length);
      assert.equal(await tokens(CHAT, "high"), await tokens(CHAT, "low"), "it has no low one");
      assert.ok((await tokens(CHAT, "high")) > (await tokens(CHAT, undefined)));
      const none = await generate({ reasoning: "none" });
      assert.deepEqual([none.text, none.reasoningText], [TEXT, undefined]);
      const kwargs = { model: provider()(CHAT, { chat_template_kwargs: { enable_thinking: false } }) };
      assert.equal((await generate(kwargs)).reasoningText, undefined);
    });

    test("the thoughts of earlier turns are sent again, and the model's template gets them", async () => {
      const turns = (reasoning) => [
        { role: "user", content: "Hi" },
        { role: "assistant", content: [...reasoning, { type: "text", text: "Hello!" }] },
        { role: "user", content: "And?" },
      ];
      const tokens = async (messages) => (await generate({ prompt: undefined, messages })).usage.inputTokens;
      const thought = "Hm, well.";
      assert.equal((await tokens(turns([{ type: "reasoning", text: thought }]))) - (await tokens(turns([]))), `(${thought})`.length);
    });

    test("Output.object fits its schema, after the thought; also streamed", async () => {
      const output = Output.object({ schema: PERSON });
      const whole = await generate({ output });
      assertFits(whole.output, PERSON);
      assert.deepEqual([whole.reasoningText, whole.finishReason], [THOUGHT, "stop"]);
      const streamed = stream({ output });
      assertFits(await streamed.output, PERSON);
      assert.equal(await streamed.reasoningText, THOUGHT);
    });

    test("a required call fits its schema, after the thought, and its result gets an answer; also streamed", async () => {
      const ran = [];
      const weather = tool({
        description: "Gets the weather of a city.",
        inputSchema: CITY,
        async execute(input) {
          ran.push(input);
          return "sunny";
        },
      });
      const two = {
        prompt: ASK_WEATHER,
        tools: { weather },
        toolChoice: "required",
        prepareStep: ({ stepNumber }) => (stepNumber === 0 ? {} : { toolChoice: "none" }),
        stopWhen: isStepCount(2),
      };
      for (const result of [await generate(two), stream(two)]) {
        const [first, second] = await result.steps;
        assert.deepEqual([first.finishReason, first.text, first.reasoningText], ["tool-calls", "", THOUGHT]);
        assert.ok(first.toolCalls.length > 0);
        for (const { input, invalid } of first.toolCalls) {
          assert.ok(!invalid);
          assertFits(input, CITY);
        }
        assert.deepEqual(ran.splice(0), first.toolCalls.map(({ input }) => input));
        assert.deepEqual([second.text, second.reasoningText, second.toolCalls], [TEXT, THOUGHT, []]);
      }
    });
  });
}

/** OpenAI's client of a server. */
const clientOf = (name) => new OpenAI({ baseURL: `${servers[name].url}/client/v4/accounts/account/ai/v1`, apiKey: "key" }).chat.completions;
const messages = [{ role: "user", content: "Name a colour." }];

/** The chunks of a stream, and the deltas of each choice. */
async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const choices = [];
  for (const { choices: changes } of chunks) for (const change of changes) (choices[change.index] ??= []).push(change);
  return { chunks, choices, texts: choices.map((changes) => changes.map(({ delta }) => delta.content ?? "").join("")) };
}

describe("openai", () => {
  // The surface has chat completions for every id.
  for (const model of [CHAT, MODEL]) {
    test(`thoughts of ${model}: reasoning_content and the count of its tokens; also streamed`, async () => {
      const ask = { model, messages };
      const { choices, usage } = await clientOf("thinker").create(ask);
      assert.deepEqual([choices[0].message.content, choices[0].message.reasoning_content, choices[0].message.reasoning], [TEXT, THOUGHT, THOUGHT]);
      assert.equal(usage.completion_tokens, THINKER.script.length);
      // The thought with its opening tag, and the closing one.
      assert.ok(usage.completion_tokens_details.reasoning_tokens >= 4 && usage.completion_tokens_details.reasoning_tokens <= 6);
      const { choices: [deltas], texts } = await collect(await clientOf("thinker").create({ ...ask, stream: true }));
      assert.equal(texts[0], TEXT);
      assert.equal(deltas.map(({ delta }) => delta.reasoning_content ?? "").join(""), THOUGHT);
    });
  }

  test("reasoning_effort: none thinks not at all, another one reaches the prompt", async () => {
    const ask = (reasoning_effort) => clientOf("thinker").create({ model: CHAT, messages, reasoning_effort });
    const { choices: [{ message }] } = await ask("none");
    assert.deepEqual([message.content, message.reasoning_content], [TEXT, undefined]);
    const tokens = async (effort) => (await ask(effort)).usage.prompt_tokens;
    assert.equal((await tokens("high")) - (await tokens("xhigh")), "high".length - "max".length, "its own name for xhigh is max");
  });

  test("n: 3: three choices, which differ, and whose tokens are counted together; also streamed", async () => {
    const ask = { model: MODEL, messages, n: 3, seed: 7, temperature: 1, max_tokens: 12, logprobs: true };
    const { choices, usage } = await clientOf("talker").create(ask);
    assert.deepEqual(choices.map(({ index }) => index), [0, 1, 2]);
    const texts = choices.map(({ message }) => message.content);
    assert.ok(new Set(texts).size > 1, texts.join("|"));
    const one = await clientOf("talker").create({ ...ask, n: 1 });
    assert.equal(one.choices[0].message.content, texts[0]);
    assert.equal(usage.prompt_tokens, one.usage.prompt_tokens);
    const said = choices.map(({ logprobs }) => logprobs.content.length);
    assert.ok(usage.completion_tokens >= said[0] + said[1] + said[2]);
    const streamed = await collect(await clientOf("talker").create({ ...ask, stream: true, stream_options: { include_usage: true } }));
    assert.deepEqual(streamed.texts, texts);
    assert.deepEqual(streamed.choices.map((changes) => changes.at(-1).finish_reason), choices.map(({ finish_reason }) => finish_reason));
    assert.equal(streamed.chunks.at(-1).usage.completion_tokens, usage.completion_tokens);
    const assembled = await clientOf("talker").stream({ ...ask, stream_options: { include_usage: true } }).finalChatCompletion();
    assert.deepEqual(assembled.choices.map(({ message }) => message.content), texts);
  });

  test("logprobs: of each token of the answer, and of the likeliest at its place; also streamed", async () => {
    const ask = { model: MODEL, messages, temperature: 0, max_tokens: 8, logprobs: true, top_logprobs: 4 };
    const [choice] = (await clientOf("talker").create(ask)).choices;
    const { content } = choice.logprobs;
    assert.equal(content.map(({ token }) => token).join(""), choice.message.content);
    for (const { token, logprob, bytes, top_logprobs } of content) {
      assert.equal(Buffer.from(bytes).toString(), token);
      assert.equal(top_logprobs.length, 4);
      assert.deepEqual([top_logprobs[0].token, top_logprobs[0].logprob], [token, logprob], "at temperature 0 it is the likeliest");
      assert.deepEqual(top_logprobs.map((each) => each.logprob).toSorted((a, b) => b - a), top_logprobs.map((each) => each.logprob));
      assert.ok(logprob < 0 && top_logprobs.reduce((sum, each) => sum + Math.exp(each.logprob), 0) <= 1.0001);
    }
    const { choices: [changes] } = await collect(await clientOf("talker").create({ ...ask, stream: true }));
    assert.deepEqual(changes.flatMap(({ logprobs }) => logprobs?.content ?? []), content);
  });

  test("logit_bias makes a token certain or impossible", async () => {
    const { tokens } = scriptedModel(TALKER);
    const idOf = (word) => String(tokens.indexOf(word.replace(" ", "Ġ")));
    const ask = { model: MODEL, messages, seed: 3, max_tokens: 4 };
    const say = async (logit_bias) => (await clientOf("talker").create({ ...ask, logit_bias })).choices[0].message.content;
    assert.equal(await say({ [idOf(" blue")]: 100 }), " blue".repeat(4));
    const colours = new RegExp(WORDS.join("|"));
    assert.match(await say(null), colours);
    assert.doesNotMatch(await say(Object.fromEntries(WORDS.map((word) => [idOf(word), -100]))), colours);
    await assert.rejects(say({ [idOf(" blue")]: 101 }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(Number(error.code), 5006);
      return true;
    });
  });

  test("a predicted output changes nothing, whether it is right or wrong", async () => {
    const ask = { model: MODEL, messages, temperature: 0, max_tokens: 40 };
    const text = (await clientOf("talker").create(ask)).choices[0].message.content;
    for (const content of [text, WORDS.join(""), [{ type: "text", text }]]) {
      const { choices, usage } = await clientOf("talker").create({ ...ask, prediction: { type: "content", content } });
      assert.equal(choices[0].message.content, text);
      assert.ok(usage.completion_tokens <= 40);
    }
  });

  test("more than 4 choices, or more than 20 likely tokens, are a readable error", async () => {
    for (const [input, says] of [
      [{ n: 5 }, /'\/n' must be <= 4/],
      [{ logprobs: true, top_logprobs: 21 }, /'\/top_logprobs' must be <= 20/],
    ]) {
      await assert.rejects(clientOf("talker").create({ model: MODEL, messages, ...input }), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.match(error.message, says);
        return true;
      });
    }
  });
});
