// JSON mode: whatever the schema, the seed and the temperature, what comes parses and fits. Ajv is the judge.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { SEED, Random, countOf, forEachCase } from "../random.mjs";
import { MODEL, chatTurn } from "../real-model.mjs";
import { boundedSchema, openSchema, validatorOf, wildSchema } from "../schemas.mjs";
import { readAnswer } from "../sse.mjs";

/** A short prompt, so that the time goes into answers. */
const JSON_PROMPT = { prompt: "JSON:\n", raw: true };
const PERSON = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer", minimum: 0, maximum: 120 } },
  required: ["name", "age"],
  additionalProperties: false,
};

const ai = new Ai({ onWarning() {} });
const run = (input, options) => ai.run(MODEL, input, options);
const bare = (schema) => ({ response_format: { type: "json_schema", json_schema: schema } });
const wrapped = (schema) => ({ response_format: { type: "json_schema", json_schema: { name: "answer", schema, strict: true } } });
/** Tokens that the model has computed so far, of prompts and answers. */
const computed = async () => (await ai.stats()).models[0].tokens;

const isError =
  (code, says = "") =>
  (error) => {
    assert.ok(error instanceof InferenceUpstreamError, `not an AiError: ${error?.stack ?? error}`);
    assert.match(error.message, new RegExp(`^${code}: ${says}`));
    return true;
  };

function assertFits(schema, value, context) {
  const wrong = validatorOf(schema)(value);
  assert.equal(wrong, null, `${wrong}\n${JSON.stringify({ value, schema, ...context })}`);
}

/**
 * Runs a request with a schema. Gives the value that came, after judging it; or, where it was told that there is none,
 * "refused" (5006, and then nothing was computed) or "unmet" (5024, and then the answer had all its tokens).
 */
async function judged(schema, input) {
  const request = { ...JSON_PROMPT, ...bare(schema), ...input };
  const before = await computed();
  try {
    const answer = await run(request);
    const { text, ...last } = request.stream ? await readAnswer(answer) : answer;
    const value = request.stream ? JSON.parse(text) : answer.response;
    assert.ok(validatorOf(schema), `there was an answer to what is no schema: ${JSON.stringify({ value, schema })}`);
    assertFits(schema, value, input);
    assert.equal(last.finish_reason, "stop");
    assert.ok(last.usage.completion_tokens >= 1 && last.usage.completion_tokens <= request.max_tokens);
    return { value };
  } catch (error) {
    if (!(error instanceof InferenceUpstreamError)) throw error;
    const tokens = (await computed()) - before;
    if (error.message.startsWith("5006: ")) {
      assert.equal(tokens, 0, `5006 comes before any token is computed, not after ${tokens}`);
      return { refused: error.message };
    }
    isError(5024, "JSON Mode couldn't be met")(error);
    // The prompt's last token always, and each token of the answer but the last.
    assert.ok(
      tokens >= request.max_tokens,
      `5024 after ${tokens} of ${request.max_tokens} tokens: ${JSON.stringify({ schema, ...input })}`,
    );
    return { unmet: error.message };
  }
}

/** Sampling fields at random, hot ones among them. */
function sampling(random, temperatures) {
  return {
    seed: random.seed(),
    temperature: random.pick([...temperatures, random.next() * Math.max(...temperatures)]),
    ...(random.chance(0.2) ? { top_k: random.int(1, 50) } : {}),
    ...(random.chance(0.2) ? { top_p: random.next() * 2 } : {}),
    ...(random.chance(0.2) ? { repetition_penalty: random.next() * 2 } : {}),
    ...(random.chance(0.2) ? { frequency_penalty: random.next() * 4 - 2 } : {}),
  };
}

before(() => ai.load());

describe(`random schemas (SEED=${SEED})`, () => {
  test("what has an end: every answer fits, as object and as stream", async (t) => {
    const count = countOf(16);
    let unmet = 0;
    await forEachCase(count, async (random, index) => {
      const schema = boundedSchema(random);
      const input = { ...sampling(random, [0, 0.6, 1, 2, 5]), stream: index % 2 === 1, max_tokens: 800 };
      const outcome = await judged(schema, input);
      assert.ok(!outcome.refused, `${outcome.refused}: ${JSON.stringify(schema)}`);
      if (outcome.unmet) unmet += 1;
    });
    t.diagnostic(`${count} schemas, ${unmet} answers ran to max_tokens`);
    assert.ok(unmet <= count / 10, `${unmet} of ${count} answers did not come about in 800 tokens`);
  });

  test("what may go on for ever: an answer fits, or it had all its tokens", async (t) => {
    const count = countOf(6);
    let unmet = 0;
    await forEachCase(count, async (random, index) => {
      const schema = openSchema(random);
      const input = { ...sampling(random, [0, 0.6, 1]), stream: index % 2 === 1, max_tokens: 100 };
      const outcome = await judged(schema, input);
      assert.ok(!outcome.refused, `${outcome.refused}: ${JSON.stringify(schema)}`);
      if (outcome.unmet) unmet += 1;
    });
    t.diagnostic(`${count} schemas, ${unmet} answers ran to max_tokens`);
  });

  test("any keyword at all: it is refused before any token, or the answer fits", async (t) => {
    const count = countOf(30);
    const seen = { value: 0, refused: 0, unmet: 0 };
    await forEachCase(count, async (random, index) => {
      const schema = wildSchema(random);
      const outcome = await judged(schema, { ...sampling(random, [0, 0.6, 1]), stream: index % 2 === 1, max_tokens: 60 });
      seen[Object.keys(outcome)[0]] += 1;
    });
    t.diagnostic(`${count} schemas: ${JSON.stringify(seen)}`);
  });
});

describe("json_object", () => {
  const anyObject = { ...JSON_PROMPT, response_format: { type: "json_object" } };
  const isObject = (value) => assert.ok(typeof value === "object" && value !== null && !Array.isArray(value), JSON.stringify(value));

  /** Some object; or, where the model found no end, 5024. */
  async function objectOr5024(input) {
    const outcome = await run(input)
      .then(async (answer) => (input.stream ? JSON.parse((await readAnswer(answer)).text) : answer.response))
      .catch((error) => error);
    if (outcome instanceof Error) isError(5024)(outcome);
    else isObject(outcome);
    return outcome;
  }

  test("gives some object, whatever the seed", async () => {
    const outcomes = [];
    for (const seed of [1, 2, 3]) {
      const input = {
        ...anyObject,
        prompt: 'Answer in JSON.\n{"city": "Paris"}\n',
        temperature: 0.6,
        seed,
        max_tokens: 80,
        stream: seed % 2 === 0,
      };
      outcomes.push(await objectOr5024(input));
    }
    assert.ok(
      outcomes.some((outcome) => !(outcome instanceof Error)),
      "at least one of them came to an end",
    );
  });

  test("in a chat too", async () => {
    const messages = [{ role: "user", content: "Give me a JSON object with one key." }];
    await objectOr5024({ messages, response_format: anyObject.response_format, temperature: 0, max_tokens: 100 });
  });
});

describe("json_schema", () => {
  const input = { ...JSON_PROMPT, temperature: 1, seed: 7, max_tokens: 100 };

  test("bare or in OpenAI's wrapping, it is the same schema", async () => {
    const { response } = await run({ ...input, ...bare(PERSON) });
    assertFits(PERSON, response);
    assert.equal(typeof response, "object", "an object, not its text");
    assert.deepEqual((await run({ ...input, ...wrapped(PERSON) })).response, response);
  });

  test("a stream has the same text as the object, and every piece is a string", async () => {
    const { response, usage } = await run({ ...input, ...bare(PERSON) });
    const streamed = await readAnswer(await run({ ...input, ...bare(PERSON), stream: true }));
    assert.deepEqual(JSON.parse(streamed.text), response);
    assert.equal(streamed.usage.completion_tokens, usage.completion_tokens);
    assert.ok(streamed.pieces.length > 1, "it comes as it is computed");
  });

  test("of type text is no JSON mode", async () => {
    const { response } = await run({ ...input, response_format: { type: "text" }, max_tokens: 4 });
    assert.equal(typeof response, "string");
  });

  const TOP_LEVEL = {
    array: { type: "array", items: { type: "integer", minimum: 0, maximum: 99 }, minItems: 2, maxItems: 3 },
    string: { type: "string", pattern: "^[a-z]{3,6}$" },
    integer: { type: "integer", minimum: 10, maximum: 20 },
    boolean: { type: "boolean" },
    null: { type: "null" },
    enum: { enum: ["red", "green", 3] },
  };
  for (const [what, schema] of Object.entries(TOP_LEVEL)) {
    test(`may be of another type at the top: ${what}`, async () => {
      assertFits(schema, (await run({ ...input, ...bare(schema) })).response);
      assertFits(schema, JSON.parse((await readAnswer(await run({ ...input, ...bare(schema), stream: true }))).text));
    });
  }

  test("holds at the highest temperature", async () => {
    for (const seed of [1, 2, 3, 4]) assertFits(PERSON, (await run({ ...input, ...bare(PERSON), temperature: 5, seed })).response);
  });

  test("holds with every other sampling field", async () => {
    const fields = [
      { top_k: 1 },
      { top_p: 0.001 },
      { repetition_penalty: 2 },
      { repetition_penalty: 0.1 },
      { frequency_penalty: 2, presence_penalty: 2 },
      { frequency_penalty: -2 },
    ];
    for (const field of fields) assertFits(PERSON, (await run({ ...input, ...bare(PERSON), ...field })).response, field);
  });

  test("a stop string that does not come changes nothing; one that cuts the text never gives half of it", async () => {
    const { response } = await run({ ...input, ...bare(PERSON) });
    assert.deepEqual((await run({ ...input, ...bare(PERSON), stop: ["never seen"] })).response, response);
    for (const stop of ['"age"', ":", "}"]) {
      for (const stream of [false, true]) {
        const cut = { ...input, ...bare(PERSON), stop, stream };
        const value = await run(cut)
          .then(async (answer) => (stream ? JSON.parse((await readAnswer(answer)).text) : answer.response))
          .catch(isError(5024));
        if (value !== true) assertFits(PERSON, value, { stop });
      }
    }
  });

  test("the same seed gives the same object", async () => {
    const hot = { ...input, ...bare(PERSON), temperature: 1.5, seed: 11 };
    assert.deepEqual((await run(hot)).response, (await run(hot)).response);
  });

  test("in a chat, with the schema's property order", async () => {
    const messages = [{ role: "user", content: "Tell me about a person." }];
    const { response } = await run({ messages, ...bare(PERSON), temperature: 0, max_tokens: 100 });
    assertFits(PERSON, response);
    assert.deepEqual(Object.keys(response), ["name", "age"]);
  });

  test("through returnRawResponse", async () => {
    const raw = await run({ ...input, ...bare(PERSON) }, { returnRawResponse: true });
    assertFits(PERSON, (await raw.json()).response);
  });
});

describe("a schema that cannot be guaranteed", () => {
  const person = (more) => ({ ...PERSON, properties: { ...PERSON.properties, ...more } });
  const FORMATS = {
    not: bare({ not: { type: "string" } }),
    "not, inside": bare(person({ x: { type: "string", not: { const: "a" } } })),
    "a reference to nothing": bare({ type: "object", properties: { a: { $ref: "#/$defs/nowhere" } }, required: ["a"] }),
    "bounds that contradict each other": bare({ type: "integer", minimum: 5, maximum: 4 }),
    "a required property that nothing fits": bare({ type: "object", properties: { a: false }, required: ["a"] }),
    "lengths that contradict each other": bare({ type: "string", minLength: 5, maxLength: 4 }),
    "an unknown type": bare({ type: "strin" }),
    "a type that is a number": bare({ type: 7 }),
    "a pattern that is none": bare({ type: "string", pattern: "(" }),
    "properties in a list": bare({ type: "object", properties: [] }),
    "a string": bare("object"),
    "a number": bare(7),
    "a list": bare([{ type: "object" }]),
    "not, in OpenAI's wrapping": wrapped({ not: {} }),
    "an unknown type of format": { response_format: { type: "yaml" } },
    "a format that is no object": { response_format: "json" },
  };
  for (const [what, format] of Object.entries(FORMATS)) {
    for (const stream of [false, true]) {
      test(`${what}: 5006 before any token (stream: ${stream})`, async () => {
        const before = await computed();
        await assert.rejects(
          run({ ...JSON_PROMPT, prompt: `A prompt of its own, ${what}`, ...format, max_tokens: 5, stream }),
          isError(5006),
        );
        assert.equal(await computed(), before);
        assert.equal(ai.lastRequestHttpStatusCode, 400);
      });
    }
  }
});

describe("max_tokens that end before the JSON does", () => {
  const short = { ...JSON_PROMPT, ...bare(PERSON), max_tokens: 3 };

  test("5024 instead of an object", async () => {
    await assert.rejects(run(short), isError(5024, "JSON Mode couldn't be met"));
    assert.deepEqual([ai.lastRequestHttpStatusCode, ai.lastRequestInternalStatusCode], [400, 5024]);
    const raw = await run(short, { returnRawResponse: true });
    assert.equal(raw.status, 400);
    assert.equal((await raw.json()).internalCode, 5024);
  });

  test("5024 at the end of a stream, which never just ends", async () => {
    const reader = (await run({ ...short, stream: true })).getReader();
    const read = async () => {
      while (!(await reader.read()).done);
    };
    await assert.rejects(read, isError(5024, "JSON Mode couldn't be met"));
    assert.equal((await run({ ...JSON_PROMPT, max_tokens: 1 })).usage.completion_tokens, 1, "the next request works");
  });

  test("max_tokens 0 too", async () => {
    await assert.rejects(run({ ...short, max_tokens: 0 }), isError(5024));
  });
});

describe("a prompt that lures the model out of the schema", () => {
  // Each prompt repeats what the schema forbids, and greedily the model repeats it, wherever the mask has a hole.
  const digit = { type: "integer", minimum: 0, maximum: 9 };
  const LURES = {
    "another spelling of a key": [
      '{"a": 1, "\\u0061": "x"}',
      { type: "object", properties: { a: digit }, required: ["a"], additionalProperties: { type: "string", maxLength: 3 } },
    ],
    "another spelling of a key, alone": [
      '{"\\u0061": "x"}',
      { type: "object", properties: { a: digit }, additionalProperties: { type: "string", maxLength: 3 } },
    ],
    "a key twice": ['{"x": 1, "x": 1, "x": 1}', { type: "object", additionalProperties: digit, minProperties: 3, maxProperties: 3 }],
    "a number that is infinite": ["1e999", { type: "number" }],
    "an integer of many digits": ["9".repeat(40), { type: "integer" }],
    "a multiple of many digits": ["1".repeat(40), { type: "integer", multipleOf: 7 }],
    "an excluded bound": ["1", { type: "number", exclusiveMinimum: 1, maximum: 1.5 }],
    "an excluded bound below": ["-1.0", { type: "number", minimum: -1.5, exclusiveMaximum: -1 }],
    "an excluded zero": ["0.0", { type: "number", exclusiveMinimum: 0, maximum: 3 }],
    "a negative zero": ["-0", { type: "integer", exclusiveMinimum: 0, maximum: 3 }],
    "a day that does not exist": ['"2024-02-31"', { type: "string", format: "date" }],
    "an hour that does not exist": ['"24:00:00Z"', { type: "string", format: "time" }],
    "half a character": ['"\\ud83d\\ud83d"', { type: "string", maxLength: 4 }],
    "a special token": ['"<|im_end|>"', { type: "string", pattern: "^[<|>a-z_]{1,10}$" }],
    "another case": ['"RED"', { enum: ["red", "blue"] }],
    "a longer string": ['"abcdefghijkl"', { type: "string", maxLength: 4 }],
    "a longer string of characters of several tokens": ['"👩‍👩‍👧‍👦👩‍👩‍👧‍👦"', { type: "string", minLength: 2, maxLength: 3 }],
    prose: [
      "Sure! Here is the JSON you asked for.",
      { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false },
    ],
    "a fence": ["```json", { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false }],
    "another property": [
      '{"ok": true, "more": 1}',
      { type: "object", properties: { ok: { type: "boolean" } }, additionalProperties: false },
    ],
    "a missing property": ["{}", { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] }],
    "an inherited property": [
      '{"toString": 1}',
      { type: "object", properties: { toString: { type: "boolean" } }, required: ["toString"], additionalProperties: false },
    ],
  };
  for (const [what, [text, schema]] of Object.entries(LURES)) {
    test(what, async () => {
      const outcome = await judged(schema, { prompt: `${text}\n`.repeat(4), temperature: 0, max_tokens: 60 });
      // `JSON.stringify` escapes half characters, and nothing else so.
      if ("value" in outcome) assert.doesNotMatch(JSON.stringify(outcome.value), /\\ud[89a-f]/i);
    });
  }

  test("a turn's end inside the answer", async () => {
    const prompt = `${chatTurn("Who?")}{"name": "Al<|im_end|>`;
    assertFits(PERSON, (await run({ prompt, raw: true, ...bare(PERSON), temperature: 0, max_tokens: 100 })).response);
  });
});

describe("beside others", () => {
  test("several schemas at once do not mix", async () => {
    const random = new Random(SEED);
    const schemas = [PERSON, boundedSchema(random), { type: "array", items: { type: "boolean" }, minItems: 2, maxItems: 3 }];
    const inputs = schemas.map((schema) => ({ ...JSON_PROMPT, ...bare(schema), temperature: 1, seed: random.seed(), max_tokens: 200 }));
    const settled = await Promise.allSettled([...inputs.map((input) => run(input)), run({ ...JSON_PROMPT, max_tokens: 5 })]);
    for (const [index, { value, reason }] of settled.slice(0, -1).entries()) {
      if (reason) isError(5024)(reason);
      else assertFits(schemas[index], value.response, { SEED });
    }
    assert.equal(typeof settled.at(-1).value.response, "string", "one without a schema is free");
  });
});
