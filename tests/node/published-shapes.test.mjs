// The answers for every id fit the types that Cloudflare publishes for it, chunks those of OpenAI's client. The types become JSON Schemas by
// ts-json-schema-generator, and Ajv compares: neither is ours.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import { createGenerator } from "ts-json-schema-generator";
import { Ai } from "workers-ai-local";
import { CHATML, USER_DEFINED, scriptedModel } from "../scripted-model.mjs";
import { readValues } from "../sse.mjs";

/** Fields of answers that the types of some ids do not mention, which their clients ignore. `*` stands for each element of a list. */
const FURTHER_FIELDS = {
  // Clients of the binding read it: nothing else says that max_tokens ran out.
  finish_reason: "response",
  // In the types of newer ids only. `reasoning` is what other services call it.
  reasoning_content: "response",
  reasoning: "response",
  usage: "response",
  "usage.prompt_tokens_details": "response and chat",
  "usage.completion_tokens_details": "response and chat",
  // There are two notations of calls, of which some types mention one or none. A call has both.
  tool_calls: "response",
  "tool_calls.*.id": "response",
  "tool_calls.*.type": "response",
  "tool_calls.*.function": "response",
  "tool_calls.*.name": "response",
  "tool_calls.*.arguments": "response",
  "choices.*.message.reasoning_content": "chat",
  "choices.*.message.reasoning": "chat",
  // OpenAI's own type has it.
  "choices.*.message.refusal": "chat",
  "choices.*.delta.reasoning_content": "chunk",
  "choices.*.delta.reasoning": "chunk",
};

/**
 * Where answers differ from the published types on purpose: when, at which place, and a value of the published type.
 *
 * @type {{why: string, isOurs: (answer: object, input: object) => boolean, place: string, published: unknown}[]}
 */
const DIFFERENCES = [
  {
    why: "in JSON mode the service sends the value itself, as its documentation says; the types have only text",
    isOurs: ({ response }, { response_format }) => Boolean(response_format) && typeof response === "object" && response !== null,
    place: "response",
    published: "{}",
  },
  {
    why: "beside calls the service sends null; the types have only text",
    isOurs: ({ response, tool_calls }) => response === null && tool_calls.length > 0,
    place: "response",
    published: "",
  },
];

// ── The types ──

const FOLDER = fileURLToPath(new URL("published-types/", import.meta.url));
const generator = createGenerator({ path: `${FOLDER}answers.ts`, tsconfig: `${FOLDER}tsconfig.json`, skipTypeCheck: true, additionalProperties: true });
const answers = withWeakTypes(generator.createSchema("Answers"));
const chunk = generator.createSchema("Chunk");
const ajv = new Ajv({ strict: false });
ajv.addSchema(answers, "answers");
const fitsChunk = ajv.compile(chunk);
/** Of each id: its type, which is a reference to one of the definitions. */
const types = answers.definitions.Answers.properties;

/** As in TypeScript, a type of which every field is optional needs one of them: otherwise it would take every object. */
function withWeakTypes(schema) {
  if (typeof schema !== "object" || schema === null) return schema;
  if (schema.type === "object" && schema.properties && !schema.required) schema.anyOf = Object.keys(schema.properties).map((key) => ({ required: [key] }));
  for (const [key, part] of Object.entries(schema)) if (key !== "anyOf" || !schema.properties) withWeakTypes(part);
  return schema;
}

const validators = new Map();
/** Compiled once for each distinct type. */
function validatorOf({ $ref }) {
  if (!validators.has($ref)) validators.set($ref, ajv.compile({ $ref: `answers${$ref}` }));
  return validators.get($ref);
}

/** The places in a value that none of the schemas mentions. */
function unmentioned(value, schemas, definitions, place = []) {
  if (typeof value !== "object" || value === null) return [];
  const all = schemas.flatMap((schema) => resolved(schema, definitions));
  if (Array.isArray(value)) {
    const items = all.flatMap(({ items }) => items ?? []);
    return value.flatMap((item) => unmentioned(item, items, definitions, [...place, "*"]));
  }
  // A type without properties takes any.
  if (all.some(({ type, properties }) => (type === undefined || type === "object") && !properties)) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const own = all.flatMap(({ properties }) => (properties && Object.hasOwn(properties, key) ? [properties[key]] : []));
    return own.length === 0 ? [[...place, key].join(".")] : unmentioned(item, own, definitions, [...place, key]);
  });
}

/** A schema without references, as its alternatives. */
function resolved(schema, definitions) {
  if (schema.$ref) return resolved(definitions[decodeURIComponent(schema.$ref.slice("#/definitions/".length))], definitions);
  const parts = schema.properties ? [] : [...(schema.anyOf ?? []), ...(schema.allOf ?? [])];
  return parts.length > 0 ? parts.flatMap((part) => resolved(part, definitions)) : [schema];
}

// ── The answers ──

const table = (await readFile(new URL("../../src/catalog.tsv", import.meta.url), "utf8")).trim().split("\n");
const rows = table.filter((line) => !line.startsWith("#")).map((line) => line.split("\t"));
/** The ids that have a type. */
const models = rows.map(([id, , , , , shape]) => ({ id, isChat: shape.startsWith("chat"), completesText: shape === "chat+text" })).filter(({ id }) => id in types);

const messages = [{ role: "user", content: "Hi" }];
const OBJECT = { type: "object", properties: { a: { type: "boolean" } }, required: ["a"], additionalProperties: false };
const TOOLS = { tools: [{ type: "function", function: { name: "f", description: "Does nothing", parameters: OBJECT } }], tool_choice: "required" };
const FORMAT = { response_format: { type: "json_schema", json_schema: OBJECT } };
const THOUGHT = {
  // The tags are those that the template mentions.
  template: CHATML.replace("assistant\\n' }}", "assistant\\n' }}{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"),
  script: ["<think>", "I", " wonder", ".", "</think>", "\n\n", "Hello", "!"],
  tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
};
const plain = new Ai({ default: scriptedModel().bytes, onWarning() {} });
const thinking = new Ai({ default: scriptedModel(THOUGHT).bytes, onWarning() {} });
after(() => Promise.all([plain.close(), thinking.close()]));

/** What is asked: the input, of which model, and what must be in the answer, so that the comparison is about it. */
const QUESTIONS = {
  "a prompt": { input: { prompt: "Hi" }, has: /Hello there!/ },
  "a conversation": { input: { messages }, has: /Hello there!/ },
  "forced calls": { input: { messages, ...TOOLS }, has: /"tool_calls":\[\{.*"name":"f"/ },
  "a tool that is not called": { input: { messages, ...TOOLS, tool_choice: "auto" }, has: /Hello there!/ },
  "JSON mode": { input: { messages, ...FORMAT }, has: /"a\\?":/ },
  "no room": { input: { messages, max_tokens: 1 }, has: /"length"/ },
  "thoughts": { ai: thinking, input: { messages }, has: /"reasoning_content":"I wonder\."/ },
  "thoughts before calls": { ai: thinking, input: { messages, ...TOOLS }, has: /"reasoning_content":"I wonder\.".*"tool_calls"|"tool_calls".*"reasoning_content":"I wonder\."/ },
  "two choices": { input: { messages, n: 2 }, has: /"index":1/, onlyChat: true },
  "log probabilities": { input: { messages, logprobs: true, top_logprobs: 2 }, has: /"top_logprobs":\[\{/, onlyChat: true },
  "two choices of a prompt, with log probabilities": { input: { prompt: "Hi", n: 2, logprobs: true }, has: /"index":1/, onlyChat: true },
};

/** The fields and differences that occurred. */
const seen = new Set();

/** An answer with values of the published types where it differs on purpose. */
function asPublished(answer, input) {
  const changed = { ...answer };
  for (const difference of DIFFERENCES.filter(({ isOurs }) => isOurs(answer, input))) {
    changed[difference.place] = difference.published;
    seen.add(difference);
  }
  return changed;
}

/** Checks that the type mentions each field, or that the field is listed. */
function assertMentioned(value, schema, definitions, shape) {
  for (const place of unmentioned(value, [schema], definitions)) {
    assert.ok(FURTHER_FIELDS[place]?.split(" and ").includes(shape), `the type does not mention ${place}: ${JSON.stringify(value)}`);
    seen.add(place);
  }
}

test("the types are those of the catalogue", () => {
  assert.ok(models.length > 55, `${models.length} ids`);
  assert.ok(new Set(models.map(({ id }) => types[id].$ref)).size > 10);
});

for (const { id, isChat, completesText } of models) {
  describe(id, () => {
    for (const [name, { ai = plain, input, has, onlyChat }] of Object.entries(QUESTIONS)) {
      if (onlyChat && !isChat) continue;
      test(`the answer to ${name} fits the type`, async () => {
        const answer = await ai.run(id, input);
        assert.match(JSON.stringify(answer), has);
        const value = asPublished(answer, input);
        assertMentioned(value, types[id], answers.definitions, isChat ? "chat" : "response");
        const fits = validatorOf(types[id]);
        assert.ok(fits(value), `${JSON.stringify(answer)}: ${ajv.errorsText(fits.errors)}`);
      });

      test(`so do the events of the stream of ${name}`, async () => {
        const events = await readValues(await ai.run(id, { ...input, stream: true }));
        assert.ok(events.length > 1);
        for (const event of events) {
          if (!isChat) {
            assert.equal(typeof event.response, "string", JSON.stringify(event));
          } else if (completesText && input.prompt) {
            // OpenAI's client has no type for these chunks.
            assert.equal(event.object, "text_completion");
            for (const { text } of event.choices) assert.equal(typeof text, "string");
          } else {
            assert.ok(fitsChunk(event), `${JSON.stringify(event)}: ${ajv.errorsText(fitsChunk.errors)}`);
            assertMentioned(event, chunk, chunk.definitions, "chunk");
          }
        }
      });
    }
  });
}

test("an answer of another shape, or with a wrong value, does not fit", async () => {
  const [older, newer] = await Promise.all(["@cf/qwen/qwq-32b", "@cf/zai-org/glm-5.3"].map((id) => plain.run(id, { messages })));
  for (const { id, isChat } of models) {
    const fits = validatorOf(types[id]);
    // A type of which every field is optional takes every object: the fields themselves say that it is another one.
    const other = isChat ? older : newer;
    assert.ok(!fits(other) || unmentioned(other, [types[id]], answers.definitions).length > 1, id);
    assert.ok(!fits(isChat ? { ...newer, choices: "none" } : { ...older, response: 5 }), id);
  }
  const [event] = await readValues(await plain.run("@cf/zai-org/glm-5.3", { messages, stream: true }));
  assert.ok(fitsChunk(event));
  for (const wrong of [{ ...event, choices: undefined }, { ...event, object: "chat.completion" }, { ...event, choices: [{ index: 0, delta: {} }] }]) {
    assert.ok(!fitsChunk(JSON.parse(JSON.stringify(wrong))), JSON.stringify(wrong));
  }
});

test("every listed field and difference occurs", () => {
  assert.deepEqual([...Object.keys(FURTHER_FIELDS), ...DIFFERENCES].filter((each) => !seen.has(each)), []);
});
