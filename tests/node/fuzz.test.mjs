// Fuzzing: whatever input `fetch` or `run` receives, the answer is a documented one, and the instance keeps working.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { epoch } from "../../pkg/instance.js";
import { LocalEngine } from "../../pkg/local-engine.js";
import { SEED, Random, countOf, forEachCase } from "../random.mjs";
import { MODEL, PARIS } from "../real-model.mjs";

const ORIGIN = "https://workers-binding.ai";
const API = "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef/ai";

/** The documented error codes that a request can cause, and their HTTP status. */
const STATUS = { 3003: 400, 3006: 413, 3042: 404, 5004: 400, 5005: 405, 5006: 400, 5007: 400, 5021: 413, 5024: 400 };

const ai = new Ai({ onWarning() {} });
let born;
let computed = 0;

before(async () => {
  await ai.load();
  born = epoch();
});

/** Checks that the same instance still answers, and that no request is left in progress. */
async function works() {
  assert.match((await ai.run(MODEL, { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
  assert.equal(epoch(), born, "the instance trapped and was replaced");
  const { models } = await ai.stats();
  assert.ok(models[0].tokens >= computed, "the engine was restarted");
  computed = models[0].tokens;
  assert.equal(models[0].active, 0, "a request is still in progress");
}

// ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────

/** Has more tokens than any context window, so that it is rejected in every field. */
const LONG = "ab ".repeat(43_691);
const nested = (depth, open, close) => open.repeat(depth) + close.repeat(depth);
const deep = (depth) => JSON.parse(nested(depth, "[", "]"));

/** Values that are invalid in most fields; all of them have a JSON form. */
const JUNK = [
  null, true, false, 0, -0, 1, -1, 1.5, 2, 49, 51, 1e10, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 63), 2 ** 64, 1e308, -1e308, 5e-324,
  "", " ", "x", "0", "true", "null", "auto", "required", "stop", "\0", "\uD800", "a\uDFFFb", "é", "👩‍👩‍👧", "<|im_end|>", "{{ x }}",
  "{% if %}", LONG,
  [], [null], [1, "a"], [[]], [{}], ["a", "\uD83D"], {}, { a: 1 }, { "": null }, { type: "object" }, { type: "json_object" },
  { type: "function", function: {} },
  { toString: 1, constructor: 2 }, JSON.parse('{"__proto__": {"polluted": true}}'), { role: "user", content: "a" }, [{ role: "user" }],
  deep(60), deep(126), deep(127), deep(128), deep(3000),
];
/** Like `JUNK`, but for `run`, whose input need not be JSON. */
const LIVE_JUNK = [
  ...JUNK, undefined, NaN, Infinity, -Infinity, 1n, Symbol("s"), () => "a", new Date(0), new Date(NaN), new Map([["a", 1]]),
  new Uint8Array([1, 2]), new ArrayBuffer(2), /x/,
  new Error("e"), Object(1n), Object("text"), [undefined, () => {}], { toJSON: () => "text" }, { toJSON: () => undefined },
  { toJSON() { throw new Error("no"); } }, Object.create(null), new Proxy([], {}),
];
/** Whether a value of `max_tokens` is rejected or cheap. A longer answer finds nothing, and without a limit it would be long. */
function isCheapLimit(value) {
  const text = shown(value) ?? "null";
  const limit = Number(text);
  return text !== "null" && !(limit > 2 && limit < 8192);
}

const TOOL = { name: "f", description: "d", parameters: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] } };
const HI = { messages: [{ role: "user", content: "Hi" }], max_tokens: 1 };
const RAW = { prompt: "Hi", raw: true, max_tokens: 1 };
const PENALTIES = { repetition_penalty: 1.1, frequency_penalty: 1, presence_penalty: 1 };
const INPUTS = [
  RAW,
  { ...RAW, stream: true },
  { ...RAW, temperature: 1, top_p: 0.9, top_k: 5, seed: 1, stop: ["x"], ...PENALTIES },
  HI,
  { ...HI, messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }], stream: true, stream_options: { include_usage: true } },
  { ...HI, response_format: { type: "json_schema", json_schema: { type: "object", properties: { a: { type: "string" } } } } },
];
const WITH_TOOLS = [
  { ...HI, tools: [TOOL], tool_choice: "required" },
  {
    messages: [
      { role: "user", content: "Hi" },
      { role: "assistant", content: null, tool_calls: [{ id: "a", type: "function", function: { name: "f", arguments: '{"a":1}' } }] },
      { role: "tool", tool_call_id: "a", content: "1" },
    ],
    max_tokens: 1,
    tools: [{ type: "function", function: TOOL }],
  },
];
const FIELDS = [
  "prompt", "messages", "raw", "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed",
  "repetition_penalty", "frequency_penalty",
  "presence_penalty", "lora", "tools", "tool_choice", "functions", "response_format", "stop", "image", "requests", "reasoning_effort",
  "chat_template_kwargs", "n", "logit_bias",
  "logprobs", "top_logprobs", "stream_options", "user", "unknown",
];

/** A copy of a JSON value with junk somewhere in it; `max_tokens` stays cheap. */
function mutated(random, value, key, junk = JUNK) {
  const inside = typeof value === "object" && value !== null ? Object.keys(value) : [];
  if (inside.length === 0 || random.chance(0.25)) {
    if (key === "max_tokens") return random.pick(junk.filter(isCheapLimit));
    if (key !== undefined) return random.pick(junk);
  }
  const copy = Array.isArray(value) ? [...value] : { ...value };
  const chosen = random.chance(0.2) ? random.pick(FIELDS) : random.pick(inside);
  if (chosen !== "max_tokens" && random.chance(0.1)) delete copy[chosen];
  else if (Array.isArray(copy) && random.chance(0.2)) copy.push(random.pick(junk));
  else if (chosen in copy || !Array.isArray(copy)) copy[chosen] = mutated(random, copy[chosen], chosen, junk);
  return copy;
}

/** A copy of a request's bytes with up to three damaged places; `max_tokens` stays intact. */
function damaged(random, bytes) {
  const text = Buffer.from(bytes).toString("latin1");
  const limit = text.indexOf('"max_tokens":1');
  const damagedBytes = [...bytes];
  for (let count = random.int(1, 3); count > 0; count -= 1) {
    const at = random.int(0, damagedBytes.length - 1);
    if (limit >= 0 && at >= limit - 1 && at <= limit + 15) continue;
    const byte = random.pick([0, 0x22, 0x5c, 0x7b, 0x5d, 0x2c, 0x3a, 0x80, 0xc0, 0xed, 0xff, random.int(0, 255)]);
    if (at < limit || limit < 0) damagedBytes[at] = byte;
    // After max_tokens, bytes may also be inserted or removed.
    else damagedBytes.splice(at, random.int(0, 2), ...(random.chance(0.5) ? [byte] : []));
  }
  return Uint8Array.from(damagedBytes);
}

const BODIES = [
  "", " ", "null", "true", "7", '"text"', "[]", "{}", "{", "}", "[", '{"a"', '{"a":}', "{'a':1}", "NaN", "Infinity", "-", "1e999",
  "-1e999", "0x10", "01", '"\\ud800"', '{"prompt":"\\ud800"}',
  '{"prompt":"a","prompt":"b","max_tokens":1}', '{"prompt":"a","max_tokens":1}{}', '\uFEFF{"prompt":"a","max_tokens":1}',
  '{"prompt":"a\u0000b","max_tokens":1}', '{"prompt":"a","max_tokens":1e400}',
  '{"prompt":"a","max_tokens":99999999999999999999999999}', '{"prompt":"a","seed":1.0000000000000000000000001,"max_tokens":1}',
  `{"prompt":"a","temperature":0.${"0".repeat(5000)}1,"max_tokens":1}`,
  nested(200_000, "[", "]"), "[".repeat(200_000), '{"a":'.repeat(100_000), `{"prompt":"a","max_tokens":1,"x":${nested(500, "[", "]")}}`,
  `{"inputs":${nested(120, '{"a":', "}").replace("}", "1}")}}`,
  "a=b&c=d", "<xml/>", "--boundary\r\n", Uint8Array.of(0xff, 0xfe, 0x7b, 0x00), Uint8Array.of(0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d),
  Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22), new Uint8Array(100_000),
];

const SURFACES = {
  wire: { url: `${ORIGIN}/run?version=3`, body: (inputs) => ({ inputs, options: {} }) },
  rest: { url: `${API}/run/${MODEL}`, body: (inputs) => inputs },
  openAi: { url: `${API}/v1/chat/completions`, body: (inputs) => ({ model: MODEL, ...inputs }) },
};
const WIRE_HEADERS = { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": MODEL };

const PATHS = [
  "/run", "/run?version=3", "/run?version=2", "/ai-gateway/run?version=3", "/ai-api/models/search",
  "/ai-api/models/search?per_page=2&page=1", "/v1/models", "/v1/chat/completions", "/v1",
  `/v1/models/${MODEL}`, `/v1/models/${encodeURIComponent(MODEL)}`, "/client/v4/accounts/a/ai/run/@cf/x/y",
  `/client/v4/accounts/a/ai/run/${encodeURIComponent(MODEL)}`, "/client/v4/accounts/a/ai/models/search",
  "/client/v4/accounts/a/ai/models/schema", `/client/v4/accounts/a/ai/models/schema?model=${MODEL}`, "/client/v4/accounts/a/ai/v1/models",
  "/client/v4/accounts/a/ai/v1/chat/completions", "/client/v4/accounts", "/",
];
const PATH_JUNK = [
  "%", "%%", "%2", "%zz", "%00", "%2F", "%2f..%2f", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "..", "//", "/./", ";a=b", "\\", "é", "日本",
  "👩‍👩‍👧", "+", "@cf", ":", "*", "'\"", "{}", "x".repeat(5000),
];
const QUERIES = [
  "", "?", "?&&&", "?=", "?a", "?a=%", "?a=%zz&b=%ff", "?page=-1", "?page=1e99&per_page=0", "?per_page=99999999999999999999", "?page=abc",
  "?search=%00", "?search=%ed%a0%80", "?task=👩", "?model=", "?model=%", "?version=", "?version=3&version=4", `?${"a=b&".repeat(2000)}`,
  "?hide_experimental=maybe&source=x&author=%25", "?userInputs=1",
];
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "get", "x"];
const HEADERS = [
  ["cf-consn-model-id", ""], ["cf-consn-model-id", "@cf/x/y"], ["cf-consn-model-id", `prefix:${MODEL}`], ["cf-consn-model-id", ":@"],
  ["cf-consn-model-id", "::::"], ["cf-consn-model-id", "é\u00ff"],
  ["content-type", "text/plain"], ["content-type", "multipart/form-data; boundary="], ["content-type", "application/json; charset=utf-16"],
  ["content-type", ""], ["content-length", "abc"], ["content-length", "-1"],
  ["content-length", "99999999999"], ["content-encoding", "gzip"], ["upgrade", "websocket"], ["origin", "null"],
  ["origin", "https://example.com"], ["access-control-request-method", "POST"], ["authorization", "Bearer \u00e9"],
  ["x-long", "x".repeat(10_000)], ["accept", "text/event-stream"], ["expect", "100-continue"], ["x-session-affinity", "a"],
];

// ── Responses ────────────────────────────────────────────────────────────────────────────────────────────────

/** The error code in the body of an error response, which has the form of one of the three surfaces. */
function codeIn(body, surface) {
  const forms = {
    wire: () => {
      const { name, internalCode, httpCode, message, description } = body;
      assert.deepEqual([name, message, httpCode], ["AiError", `AiError: ${description}`, STATUS[internalCode]]);
      return internalCode;
    },
    rest: () => {
      const { result, success, errors, messages } = body;
      assert.deepEqual({ result, success, messages }, { result: {}, success: false, messages: [] });
      assert.equal(errors.length, 1);
      assert.match(errors[0].message, /^AiError: ./);
      return errors[0].code;
    },
    openAi: () => {
      assert.ok(typeof body.error.message === "string" && body.error.message !== "" && typeof body.error.type === "string");
      assert.equal(String(body.error.code), String(body.errors[0].code));
      return body.errors[0].code;
    },
  };
  const form = surface ?? ("internalCode" in body ? "wire" : "error" in body ? "openAi" : "errors" in body ? "rest" : undefined);
  assert.ok(form, `an error in an unknown form: ${JSON.stringify(body)}`);
  return forms[form]();
}

/** Checks that a response is a documented one: an answer, or an error of the table in the form of its surface. Returns its kind or code. */
async function assertDocumented({ status, headers, text, method }, surface) {
  if (status === 200 || status === 204) {
    if (method === "HEAD" || status === 204) return "empty";
    if (headers.get("content-type") === "text/event-stream") {
      assert.ok(text.startsWith("data: "), text);
      return "stream";
    }
    assert.equal(headers.get("content-type"), "application/json");
    JSON.parse(text);
    return "json";
  }
  assert.ok(status === 405 || Object.values(STATUS).includes(status), `status ${status}: ${text}`);
  if (method === "HEAD") return "empty";
  assert.equal(headers.get("content-type"), "application/json");
  const code = codeIn(JSON.parse(text), surface);
  // For a method that the path does not support, the status is 405 whatever the code.
  if (!headers.has("allow")) assert.equal(status, STATUS[code], `code ${code} with status ${status}`);
  assert.ok(code in STATUS, `code ${code}: ${text}`);
  return code;
}

/** Sends a request to `fetch`, and checks the response; of a stream it reads only the first chunk. */
async function send(url, init, surface) {
  const response = await ai.fetch(url, init);
  const { status, headers, body } = response;
  let text = "";
  let failure;
  if (headers.get("content-type") === "text/event-stream") {
    const reader = body.getReader();
    // The stream itself may fail too: JSON mode with max_tokens 1 cannot complete its JSON.
    text = await reader.read().then(({ value }) => new TextDecoder().decode(value), (error) => void (failure = error));
    await reader.cancel().catch(() => {});
    if (failure) return assertAiError(failure);
  } else {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await response.arrayBuffer());
  }
  return assertDocumented({ status, headers, text, method: init.method?.toUpperCase() }, surface);
}

function assertAiError(error) {
  assert.ok(error instanceof InferenceUpstreamError, `not an AiError: ${error?.stack ?? error}`);
  assert.equal(error.name, "AiError");
  const [, code] = /^(\d{4}): ./s.exec(error.message) ?? [];
  assert.ok(code in STATUS, error.message);
  return Number(code);
}

/** Counts the outcomes, to show whether the fuzzing reaches the different kinds. */
function tally() {
  const counts = {};
  return { add: (outcome) => void (counts[outcome] = (counts[outcome] ?? 0) + 1), text: () => JSON.stringify(counts), counts };
}

const shown = (value) => {
  try {
    return JSON.stringify(value)?.slice(0, 600);
  } catch {
    return String(value);
  }
};

/** Runs `work`, and appends `what`, the request, to the message of an error. */
async function telling(what, work) {
  try {
    return await work();
  } catch (error) {
    error.message += `\n${shown(what)}`;
    throw error;
  }
}

// ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────────

describe(`fetch (SEED=${SEED})`, () => {
  const headersFor = (surface, random) => {
    const headers = new Headers(surface === "wire" ? WIRE_HEADERS : {});
    for (let count = random.chance(0.3) ? random.int(1, 3) : 0; count > 0; count -= 1) {
      const [name, value] = random.pick(HEADERS);
      headers.set(name, value);
    }
    return headers;
  };

  test("mutated bodies of each surface", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(150), async (random, index) => {
      const surface = random.pick(Object.keys(SURFACES));
      const { url, body } = SURFACES[surface];
      let value = body(random.pick(random.chance(0.12) ? WITH_TOOLS : INPUTS));
      for (let count = random.int(0, 2); count >= 0; count -= 1) value = mutated(random, value);
      const init = { method: "POST", headers: headersFor(surface, random), body: JSON.stringify(value) };
      outcomes.add(await telling({ url, value, headers: [...init.headers] }, () => send(url, init, surface)));
      if (index % 25 === 24) await works();
    });
    await works();
    t.diagnostic(outcomes.text());
  });

  test("damaged bytes, and invalid bodies", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(120), async (random) => {
      const surface = random.pick(Object.keys(SURFACES));
      const { url, body } = SURFACES[surface];
      const valid = new TextEncoder().encode(JSON.stringify(body(random.pick(INPUTS))));
      const bytes = random.chance(0.5) ? damaged(random, valid) : random.pick(BODIES);
      const init = { method: "POST", headers: headersFor(surface, random), body: bytes };
      const what = { url, body: typeof bytes === "string" ? bytes : Buffer.from(bytes).toString("latin1"), headers: [...init.headers] };
      outcomes.add(await telling(what, () => send(url, init, surface)));
    });
    await works();
    t.diagnostic(outcomes.text());
  });

  test("every invalid body, on each surface", async () => {
    for (const [surface, { url }] of Object.entries(SURFACES)) {
      for (const body of BODIES) {
        await telling({ surface, body }, () => send(url, { method: "POST", headers: surface === "wire" ? WIRE_HEADERS : {}, body }, surface));
      }
    }
    await works();
  });

  test("any method, path, query and header", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(400), async (random) => {
      let path = random.pick(PATHS);
      if (random.chance(0.5)) {
        const at = random.int(0, path.length);
        path = path.slice(0, at) + random.pick(PATH_JUNK) + path.slice(random.chance(0.5) ? at : random.int(at, path.length));
      }
      if (random.chance(0.4)) path += random.pick(QUERIES);
      const method = random.pick(METHODS);
      const hasBody = !/^(GET|HEAD)$/i.test(method) && random.chance(0.7);
      const body = hasBody ? JSON.stringify({ ...RAW, model: MODEL, inputs: RAW }) : undefined;
      const init = { method, headers: headersFor(random.pick(Object.keys(SURFACES)), random), body };
      // An absolute URL, because the path may begin with two slashes.
      outcomes.add(await telling({ path, ...init, headers: [...init.headers] }, () => send(new URL(`${ORIGIN}/.${path}`), init)));
    });
    await works();
    t.diagnostic(outcomes.text());
  });
});

describe(`LocalEngine.fetch (SEED=${SEED})`, () => {
  test("URLs and headers that the Request constructor rejects", async (t) => {
    // No model is needed: the code under test runs before a model is loaded.
    const engine = new LocalEngine(() => {}, { strict: true });
    const outcomes = tally();
    const URLS = [
      "", " ", "?", "#", "/", "//", "///", "http://", "http://[", "http://a", "http://a?b", "://", "run", "\0", "\uD800", "/run\uDFFF",
      "/v1/models/%", "/v1/models/%ed%a0%80", "*", "/client/v4/accounts//ai/run/", "/client/v4/accounts/a/ai/run",
      "/client/v4/accounts/a/ai", "/client/v4/accounts/a/aix/run/b", "/client/v4/accounts/é/ai/run/日本", "/%72un", "/run/", "/run#a?b",
      "http://a/run?b#c?d",
    ];
    await forEachCase(countOf(400), async (random) => {
      const url = random.chance(0.5) ? random.pick(URLS) : random.pick(PATHS) + random.pick(PATH_JUNK) + random.pick(QUERIES);
      const headers = Array.from({ length: random.int(0, 3) }, () => (random.chance(0.7) ? random.pick(HEADERS) : ["\uD800", "a\nb\0\uDC00"]));
      const body = random.pick([undefined, new Uint8Array(), new TextEncoder().encode(random.pick(BODIES.filter((each) => typeof each === "string")))]);
      const request = { method: random.pick([...METHODS, "", " ", "\0", "POST ", "\uD800"]), url, headers, body, tooLarge: random.chance(0.1) };
      const outcome = await telling({ ...request, body: undefined }, async () => {
        const answer = await engine.fetch(request);
        const text = new TextDecoder("utf-8", { fatal: true }).decode(answer.body);
        answer.free();
        return assertDocumented({ ...answer, headers: new Headers(answer.headers), text, method: request.method });
      });
      outcomes.add(outcome);
    });
    await works();
    t.diagnostic(outcomes.text());
  });
});

describe(`run (SEED=${SEED})`, () => {
  /** Runs a request, and returns the code of its documented error or the kind of its answer. */
  async function outcomeOf(model, inputs, options) {
    try {
      const answer = await ai.run(model, inputs, options);
      if (answer instanceof ReadableStream) {
        const reader = answer.getReader();
        await reader.read().catch(assertAiError);
        await reader.cancel().catch(() => {});
        return "stream";
      }
      if (answer instanceof Response) {
        if (answer.headers.get("content-type") === "text/event-stream") return answer.body.cancel().then(() => "stream");
        return assertDocumented({ status: answer.status, headers: answer.headers, text: await answer.text() }, "wire");
      }
      assert.ok(typeof answer === "object" && answer !== null);
      return "object";
    } catch (error) {
      return assertAiError(error);
    }
  }

  test("every field with invalid values", async (t) => {
    const outcomes = tally();
    const random = new Random(SEED);
    for (const field of FIELDS) {
      for (const value of random.some(LIVE_JUNK, 8)) {
        if (/^max_/.test(field) && !isCheapLimit(value)) continue;
        const input = { ...random.pick([RAW, HI]), [field]: value };
        outcomes.add(await telling({ field, value: shown(value) ?? String(value) }, () => outcomeOf(MODEL, input)));
      }
      assert.equal(epoch(), born, `the instance trapped and was replaced: ${field}`);
    }
    await works();
    t.diagnostic(outcomes.text());
  });

  test("mutated input", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(80), async (random) => {
      let input = random.pick(random.chance(0.12) ? WITH_TOOLS : INPUTS);
      for (let count = random.int(0, 2); count >= 0; count -= 1) input = mutated(random, input, undefined, LIVE_JUNK);
      outcomes.add(await telling(input, () => outcomeOf(MODEL, input, random.pick([undefined, null, {}, { returnRawResponse: true }]))));
    });
    await works();
    t.diagnostic(outcomes.text());
  });

  test("arbitrary inputs, model ids and options", async () => {
    for (const inputs of LIVE_JUNK) await telling({ inputs: shown(inputs) }, () => outcomeOf(MODEL, inputs));
    for (const model of LIVE_JUNK) {
      // A value that cannot be converted to a string is not an id.
      if (model !== null && typeof model === "object" && typeof model.toString !== "function") continue;
      assert.equal(await telling({ model: shown(model) }, () => outcomeOf(model, { prompt: "Hi" })), 5007);
    }
    const options = [
      null, 7, "text", [], true, { gateway: 7 }, { extraHeaders: [] }, { tags: {} }, { prefix: [] }, { unknown: deep(3000) },
      { signal: null }, { returnRawResponse: null },
    ];
    for (const option of options) {
      assert.equal(await telling({ option: shown(option) }, () => outcomeOf(MODEL, RAW, option)), "object");
    }
    await works();
  });
});
