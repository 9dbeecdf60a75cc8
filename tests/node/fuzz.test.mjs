// Fuzzing: whatever input `fetch` or `run` receives, the answer is a documented one, and the instance keeps working.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { narrow } from "../../pkg/instance.js";
import { LocalEngine } from "../../pkg/local-engine.js";
import {
  BODIES, FIELDS, HEADERS, HI, LIVE_JUNK, METHODS, PATHS, PATH_JUNK, QUERIES, RAW, STATUS, SURFACES, WIRE_HEADERS, damagedRequest, deep, isCheapLimit,
  mutatedInput, mutatedRequest, pathRequest, shown, shownRequest, tally,
} from "../fuzz-inputs.mjs";
import { SEED, Random, countOf, forEachCase } from "../random.mjs";
import { MODEL, PARIS } from "../real-model.mjs";

const ai = new Ai({ onWarning() {} });
let born;
let computed = 0;

before(async () => {
  await ai.load();
  born = narrow.epoch();
});

/** Checks that the same instance still answers, and that no request is left in progress. */
async function works() {
  assert.match((await ai.run(MODEL, { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
  assert.equal(narrow.epoch(), born, "the instance trapped and was replaced");
  const { models } = await ai.stats();
  assert.ok(models[0].tokens >= computed, "the engine was restarted");
  computed = models[0].tokens;
  assert.equal(models[0].active, 0, "a request is still in progress");
}

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
async function send({ url, init, surface }) {
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
  test("mutated bodies of each surface", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(150), async (random, index) => {
      const request = mutatedRequest(random);
      outcomes.add(await telling(shownRequest(request), () => send(request)));
      if (index % 25 === 24) await works();
    });
    await works();
    t.diagnostic(outcomes.text());
  });

  test("damaged bytes, and invalid bodies", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(120), async (random) => {
      const request = damagedRequest(random);
      outcomes.add(await telling(shownRequest(request), () => send(request)));
    });
    await works();
    t.diagnostic(outcomes.text());
  });

  test("every invalid body, on each surface", async () => {
    for (const [surface, { url }] of Object.entries(SURFACES)) {
      for (const body of BODIES) {
        await telling({ surface, body }, () => send({ surface, url, init: { method: "POST", headers: surface === "wire" ? WIRE_HEADERS : {}, body } }));
      }
    }
    await works();
  });

  test("any method, path, query and header", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(400), async (random) => {
      const request = pathRequest(random);
      outcomes.add(await telling(shownRequest(request), () => send(request)));
    });
    await works();
    t.diagnostic(outcomes.text());
  });
});

describe(`LocalEngine.fetch (SEED=${SEED})`, () => {
  test("URLs and headers that the Request constructor rejects", async (t) => {
    // No model is needed: the code under test runs before a model is loaded.
    const engine = new LocalEngine(narrow, () => ({ widens: true }), { strict: true });
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
      assert.equal(narrow.epoch(), born, `the instance trapped and was replaced: ${field}`);
    }
    await works();
    t.diagnostic(outcomes.text());
  });

  test("mutated input", async (t) => {
    const outcomes = tally();
    await forEachCase(countOf(80), async (random) => {
      const input = mutatedInput(random, LIVE_JUNK);
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
