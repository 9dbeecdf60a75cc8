// JSON mode: whatever the schema, the seed and the temperature, the answer is JSON that satisfies the schema, as Ajv validates it.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { SEED, Random, countOf, forEachCase } from "../random.mjs";
import { MODEL, chatTurn } from "../real-model.mjs";
import { boundedSchema, openSchema, validatorOf, wildSchema } from "../schemas.mjs";
import { readAnswer } from "../sse.mjs";

/** A short prompt, so that most of the time is spent on answers. */
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
/** The number of tokens that the model has computed so far, of prompts and answers. */
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
 * Runs a request with a schema and checks the outcome. Returns one of
 * `{ value }`, which satisfies the schema; `{ refused }`, the message of 5006, before which nothing was computed; and
 * `{ unmet }`, the message of 5024, before which the answer used all of max_tokens.
 */
async function judged(schema, input) {
  const request = { ...JSON_PROMPT, ...bare(schema), ...input };
  const before = await computed();
  try {
    const answer = await run(request);
    const { text, ...last } = request.stream ? await readAnswer(answer) : answer;
    const value = request.stream ? JSON.parse(text) : answer.response;
    assert.ok(validatorOf(schema), `an answer to an invalid schema: ${JSON.stringify({ value, schema })}`);
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
    // At least the prompt's last token is computed, and each token of the answer but the last.
    assert.ok(
      tokens >= request.max_tokens,
      `5024 after ${tokens} of ${request.max_tokens} tokens: ${JSON.stringify({ schema, ...input })}`,
    );
    return { unmet: error.message };
  }
}

/** Random sampling fields, some with a high temperature. */
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
  test("bounded schemas: every answer fits, as object and as stream", async (t) => {
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
    assert.ok(unmet <= count / 10, `${unmet} of ${count} answers did not end within 800 tokens`);
  });

  test("unbounded schemas: an answer fits, or it uses all of max_tokens", async (t) => {
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

  test("arbitrary keywords: the schema is rejected before any token, or the answer fits", async (t) => {
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

  /** Returns some object, or the error 5024 where the model does not end the JSON within max_tokens. */
  async function objectOr5024(input) {
    const outcome = await run(input)
      .then(async (answer) => (input.stream ? JSON.parse((await readAnswer(answer)).text) : answer.response))
      .catch((error) => error);
    if (outcome instanceof Error) isError(5024)(outcome);
    else isObject(outcome);
    return outcome;
  }

  test("returns some object, whatever the seed", async () => {
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
      "at least one answer is complete",
    );
  });

  test("works with messages too", async () => {
    const messages = [{ role: "user", content: "Give me a JSON object with one key." }];
    await objectOr5024({ messages, response_format: anyObject.response_format, temperature: 0, max_tokens: 100 });
  });
});

describe("json_schema", () => {
  const input = { ...JSON_PROMPT, temperature: 1, seed: 7, max_tokens: 100 };

  test("a bare schema and one in OpenAI's wrapper are equivalent", async () => {
    const { response } = await run({ ...input, ...bare(PERSON) });
    assertFits(PERSON, response);
    assert.equal(typeof response, "object", "an object, not its text");
    assert.deepEqual((await run({ ...input, ...wrapped(PERSON) })).response, response);
  });

  test("a stream contains the JSON text of the object answer, in pieces", async () => {
    const { response, usage } = await run({ ...input, ...bare(PERSON) });
    const streamed = await readAnswer(await run({ ...input, ...bare(PERSON), stream: true }));
    assert.deepEqual(JSON.parse(streamed.text), response);
    assert.equal(streamed.usage.completion_tokens, usage.completion_tokens);
    assert.ok(streamed.pieces.length > 1, "the text arrives in several pieces");
  });

  test("response_format of type text does not enable JSON mode", async () => {
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
    test(`the top-level type may be other than object: ${what}`, async () => {
      assertFits(schema, (await run({ ...input, ...bare(schema) })).response);
      assertFits(schema, JSON.parse((await readAnswer(await run({ ...input, ...bare(schema), stream: true }))).text));
    });
  }

  test("the answer fits at the highest temperature", async () => {
    for (const seed of [1, 2, 3, 4]) assertFits(PERSON, (await run({ ...input, ...bare(PERSON), temperature: 5, seed })).response);
  });

  test("the answer fits with every other sampling field", async () => {
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

  test("a stop string that does not occur changes nothing; one that does never causes partial JSON", async () => {
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

  test("the same seed produces the same object", async () => {
    const hot = { ...input, ...bare(PERSON), temperature: 1.5, seed: 11 };
    assert.deepEqual((await run(hot)).response, (await run(hot)).response);
  });

  test("works with messages, and keeps the schema's property order", async () => {
    const messages = [{ role: "user", content: "Tell me about a person." }];
    const { response } = await run({ messages, ...bare(PERSON), temperature: 0, max_tokens: 100 });
    assertFits(PERSON, response);
    assert.deepEqual(Object.keys(response), ["name", "age"]);
  });

  test("works with returnRawResponse", async () => {
    const raw = await run({ ...input, ...bare(PERSON) }, { returnRawResponse: true });
    assertFits(PERSON, (await raw.json()).response);
  });
});

describe("a schema that is invalid or cannot be enforced", () => {
  const person = (more) => ({ ...PERSON, properties: { ...PERSON.properties, ...more } });
  const FORMATS = {
    not: bare({ not: { type: "string" } }),
    "not, nested": bare(person({ x: { type: "string", not: { const: "a" } } })),
    "an unresolved reference": bare({ type: "object", properties: { a: { $ref: "#/$defs/nowhere" } }, required: ["a"] }),
    "contradictory bounds": bare({ type: "integer", minimum: 5, maximum: 4 }),
    "a required property whose schema is false": bare({ type: "object", properties: { a: false }, required: ["a"] }),
    "contradictory lengths": bare({ type: "string", minLength: 5, maxLength: 4 }),
    "an unknown type": bare({ type: "strin" }),
    "a type that is a number": bare({ type: 7 }),
    "an invalid pattern": bare({ type: "string", pattern: "(" }),
    "properties that are an array": bare({ type: "object", properties: [] }),
    "a string as schema": bare("object"),
    "a number as schema": bare(7),
    "an array as schema": bare([{ type: "object" }]),
    "not, in OpenAI's wrapper": wrapped({ not: {} }),
    "a response_format of unknown type": { response_format: { type: "yaml" } },
    "a response_format that is not an object": { response_format: "json" },
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

describe("max_tokens that do not suffice for the JSON", () => {
  const short = { ...JSON_PROMPT, ...bare(PERSON), max_tokens: 3 };

  test("5024 instead of an object", async () => {
    await assert.rejects(run(short), isError(5024, "JSON Mode couldn't be met"));
    assert.deepEqual([ai.lastRequestHttpStatusCode, ai.lastRequestInternalStatusCode], [400, 5024]);
    const raw = await run(short, { returnRawResponse: true });
    assert.equal(raw.status, 400);
    assert.equal((await raw.json()).internalCode, 5024);
  });

  test("5024 at the end of a stream, which fails instead of ending normally", async () => {
    const reader = (await run({ ...short, stream: true })).getReader();
    const read = async () => {
      while (!(await reader.read()).done);
    };
    await assert.rejects(read, isError(5024, "JSON Mode couldn't be met"));
    assert.equal((await run({ ...JSON_PROMPT, max_tokens: 1 })).usage.completion_tokens, 1, "the next request works");
  });

  test("5024 for max_tokens 0 too", async () => {
    await assert.rejects(run({ ...short, max_tokens: 0 }), isError(5024));
  });
});

describe("a prompt that tempts the model to violate the schema", () => {
  // Each prompt repeats a text that the schema forbids. With greedy decoding the model would repeat it wherever the mask has a gap.
  const digit = { type: "integer", minimum: 0, maximum: 9 };
  const LURES = {
    "an escaped spelling of a key": [
      '{"a": 1, "\\u0061": "x"}',
      { type: "object", properties: { a: digit }, required: ["a"], additionalProperties: { type: "string", maxLength: 3 } },
    ],
    "an escaped spelling of a key, alone": [
      '{"\\u0061": "x"}',
      { type: "object", properties: { a: digit }, additionalProperties: { type: "string", maxLength: 3 } },
    ],
    "a key twice": ['{"x": 1, "x": 1, "x": 1}', { type: "object", additionalProperties: digit, minProperties: 3, maxProperties: 3 }],
    "a number that overflows to infinity": ["1e999", { type: "number" }],
    "an integer with many digits": ["9".repeat(40), { type: "integer" }],
    "a multiple with many digits": ["1".repeat(40), { type: "integer", multipleOf: 7 }],
    "an exclusive lower bound": ["1", { type: "number", exclusiveMinimum: 1, maximum: 1.5 }],
    "an exclusive upper bound": ["-1.0", { type: "number", minimum: -1.5, exclusiveMaximum: -1 }],
    "an exclusive bound of zero": ["0.0", { type: "number", exclusiveMinimum: 0, maximum: 3 }],
    "a negative zero": ["-0", { type: "integer", exclusiveMinimum: 0, maximum: 3 }],
    "a day that does not exist": ['"2024-02-31"', { type: "string", format: "date" }],
    "an hour that does not exist": ['"24:00:00Z"', { type: "string", format: "time" }],
    "lone surrogates": ['"\\ud83d\\ud83d"', { type: "string", maxLength: 4 }],
    "a special token": ['"<|im_end|>"', { type: "string", pattern: "^[<|>a-z_]{1,10}$" }],
    "an enum value in upper case": ['"RED"', { enum: ["red", "blue"] }],
    "a string that is too long": ['"abcdefghijkl"', { type: "string", maxLength: 4 }],
    "a string that is too long, of characters that are several tokens": ['"👩‍👩‍👧‍👦👩‍👩‍👧‍👦"', { type: "string", minLength: 2, maxLength: 3 }],
    prose: [
      "Sure! Here is the JSON you asked for.",
      { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false },
    ],
    "a code fence": ["```json", { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false }],
    "an additional property": [
      '{"ok": true, "more": 1}',
      { type: "object", properties: { ok: { type: "boolean" } }, additionalProperties: false },
    ],
    "a missing property": ["{}", { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] }],
    "a property that JavaScript objects inherit": [
      '{"toString": 1}',
      { type: "object", properties: { toString: { type: "boolean" } }, required: ["toString"], additionalProperties: false },
    ],
  };
  for (const [what, [text, schema]] of Object.entries(LURES)) {
    test(what, async () => {
      const outcome = await judged(schema, { prompt: `${text}\n`.repeat(4), temperature: 0, max_tokens: 60 });
      // `JSON.stringify` writes this kind of escape for lone surrogates only.
      if ("value" in outcome) assert.doesNotMatch(JSON.stringify(outcome.value), /\\ud[89a-f]/i);
    });
  }

  test("an end-of-turn token inside the answer", async () => {
    const prompt = `${chatTurn("Who?")}{"name": "Al<|im_end|>`;
    assertFits(PERSON, (await run({ prompt, raw: true, ...bare(PERSON), temperature: 0, max_tokens: 100 })).response);
  });
});

describe("concurrent requests", () => {
  test("several schemas at once do not interfere", async () => {
    const random = new Random(SEED);
    const schemas = [PERSON, boundedSchema(random), { type: "array", items: { type: "boolean" }, minItems: 2, maxItems: 3 }];
    const inputs = schemas.map((schema) => ({ ...JSON_PROMPT, ...bare(schema), temperature: 1, seed: random.seed(), max_tokens: 200 }));
    const settled = await Promise.allSettled([...inputs.map((input) => run(input)), run({ ...JSON_PROMPT, max_tokens: 5 })]);
    for (const [index, { value, reason }] of settled.slice(0, -1).entries()) {
      if (reason) isError(5024)(reason);
      else assertFits(schemas[index], value.response, { SEED });
    }
    assert.equal(typeof settled.at(-1).value.response, "string", "a request without a schema is not constrained");
  });
});
