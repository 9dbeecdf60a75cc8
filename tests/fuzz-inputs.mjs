// Random and damaged requests: what `tests/node/fuzz.test.mjs` and `npm run fuzz` send to `run`, `tokenize` and `fetch`.

import { MODEL } from "./real-model.mjs";

export const ORIGIN = "https://workers-binding.ai";
const API = "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef/ai";

/** The documented error codes that a request can cause, and their HTTP status. */
export const STATUS = { 3003: 400, 3006: 413, 3042: 404, 5004: 400, 5005: 405, 5006: 400, 5007: 400, 5021: 413, 5024: 400 };

/** Has more tokens than any context window, so that it is rejected in every field. */
const LONG = "ab ".repeat(43_691);
const nested = (depth, open, close) => open.repeat(depth) + close.repeat(depth);
export const deep = (depth) => JSON.parse(nested(depth, "[", "]"));

/** Values that are invalid in most fields; all of them have a JSON form. */
export const JUNK = [
  null, true, false, 0, -0, 1, -1, 1.5, 2, 49, 51, 1e10, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 63), 2 ** 64, 1e308, -1e308, 5e-324,
  "", " ", "x", "0", "true", "null", "auto", "required", "stop", "\0", "\uD800", "a\uDFFFb", "é", "👩‍👩‍👧", "<|im_end|>", "{{ x }}",
  "{% if %}", LONG,
  [], [null], [1, "a"], [[]], [{}], ["a", "\uD83D"], {}, { a: 1 }, { "": null }, { type: "object" }, { type: "json_object" },
  { type: "function", function: {} },
  { toString: 1, constructor: 2 }, JSON.parse('{"__proto__": {"polluted": true}}'), { role: "user", content: "a" }, [{ role: "user" }],
  deep(60), deep(126), deep(127), deep(128), deep(3000),
];
/** Like `JUNK`, but for `run`, whose input need not be JSON. */
export const LIVE_JUNK = [
  ...JUNK, undefined, NaN, Infinity, -Infinity, 1n, Symbol("s"), () => "a", new Date(0), new Date(NaN), new Map([["a", 1]]),
  new Uint8Array([1, 2]), new ArrayBuffer(2), /x/,
  new Error("e"), Object(1n), Object("text"), [undefined, () => {}], { toJSON: () => "text" }, { toJSON: () => undefined },
  { toJSON() { throw new Error("no"); } }, Object.create(null), new Proxy([], {}),
];
/** Whether a value of `max_tokens` is rejected or cheap. A longer answer finds nothing, and without a limit it would be long. */
export function isCheapLimit(value) {
  const text = shown(value) ?? "null";
  const limit = Number(text);
  return text !== "null" && !(limit > 2 && limit < 8192);
}

export const TOOL = { name: "f", description: "d", parameters: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] } };
export const HI = { messages: [{ role: "user", content: "Hi" }], max_tokens: 1 };
export const RAW = { prompt: "Hi", raw: true, max_tokens: 1 };
const PENALTIES = { repetition_penalty: 1.1, frequency_penalty: 1, presence_penalty: 1 };
export const INPUTS = [
  RAW,
  { ...RAW, stream: true },
  { ...RAW, temperature: 1, top_p: 0.9, top_k: 5, seed: 1, stop: ["x"], ...PENALTIES },
  HI,
  { ...HI, messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }], stream: true, stream_options: { include_usage: true } },
  { ...HI, response_format: { type: "json_schema", json_schema: { type: "object", properties: { a: { type: "string" } } } } },
];
export const WITH_TOOLS = [
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
export const FIELDS = [
  "prompt", "messages", "raw", "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed",
  "repetition_penalty", "frequency_penalty",
  "presence_penalty", "lora", "tools", "tool_choice", "functions", "response_format", "stop", "image", "requests", "reasoning_effort",
  "chat_template_kwargs", "n", "logit_bias",
  "logprobs", "top_logprobs", "stream_options", "user", "unknown",
];

/** A copy of a JSON value with junk somewhere in it; `max_tokens` stays cheap. */
export function mutated(random, value, key, junk = JUNK) {
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
export function damaged(random, bytes) {
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

export const BODIES = [
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

export const SURFACES = {
  wire: { url: `${ORIGIN}/run?version=3`, body: (inputs) => ({ inputs, options: {} }) },
  rest: { url: `${API}/run/${MODEL}`, body: (inputs) => inputs },
  openAi: { url: `${API}/v1/chat/completions`, body: (inputs) => ({ model: MODEL, ...inputs }) },
};
export const WIRE_HEADERS = { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": MODEL };

export const PATHS = [
  "/run", "/run?version=3", "/run?version=2", "/ai-gateway/run?version=3", "/ai-api/models/search",
  "/ai-api/models/search?per_page=2&page=1", "/v1/models", "/v1/chat/completions", "/v1",
  `/v1/models/${MODEL}`, `/v1/models/${encodeURIComponent(MODEL)}`, "/client/v4/accounts/a/ai/run/@cf/x/y",
  `/client/v4/accounts/a/ai/run/${encodeURIComponent(MODEL)}`, "/client/v4/accounts/a/ai/models/search",
  "/client/v4/accounts/a/ai/models/schema", `/client/v4/accounts/a/ai/models/schema?model=${MODEL}`, "/client/v4/accounts/a/ai/v1/models",
  "/client/v4/accounts/a/ai/v1/chat/completions", "/client/v4/accounts", "/",
];
export const PATH_JUNK = [
  "%", "%%", "%2", "%zz", "%00", "%2F", "%2f..%2f", "%ff%fe", "%ed%a0%80", "%F0%9F%98%80", "..", "//", "/./", ";a=b", "\\", "é", "日本",
  "👩‍👩‍👧", "+", "@cf", ":", "*", "'\"", "{}", "x".repeat(5000),
];
export const QUERIES = [
  "", "?", "?&&&", "?=", "?a", "?a=%", "?a=%zz&b=%ff", "?page=-1", "?page=1e99&per_page=0", "?per_page=99999999999999999999", "?page=abc",
  "?search=%00", "?search=%ed%a0%80", "?task=👩", "?model=", "?model=%", "?version=", "?version=3&version=4", `?${"a=b&".repeat(2000)}`,
  "?hide_experimental=maybe&source=x&author=%25", "?userInputs=1",
];
export const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "QUERY", "get", "x"];
export const HEADERS = [
  ["cf-consn-model-id", ""], ["cf-consn-model-id", "@cf/x/y"], ["cf-consn-model-id", `prefix:${MODEL}`], ["cf-consn-model-id", ":@"],
  ["cf-consn-model-id", "::::"], ["cf-consn-model-id", "é\u00ff"],
  ["content-type", "text/plain"], ["content-type", "multipart/form-data; boundary="], ["content-type", "application/json; charset=utf-16"],
  ["content-type", ""], ["content-length", "abc"], ["content-length", "-1"],
  ["content-length", "99999999999"], ["content-encoding", "gzip"], ["upgrade", "websocket"], ["origin", "null"],
  ["origin", "https://example.com"], ["access-control-request-method", "POST"], ["authorization", "Bearer \u00e9"],
  ["x-long", "x".repeat(10_000)], ["accept", "text/event-stream"], ["expect", "100-continue"], ["x-session-affinity", "a"],
];

// ── Whole requests ───────────────────────────────────────────────────────────────────────────────────────────

/** The headers that a surface needs, sometimes with others. */
const headersFor = (surface, random) => {
  const headers = new Headers(surface === "wire" ? WIRE_HEADERS : {});
  for (let count = random.chance(0.3) ? random.int(1, 3) : 0; count > 0; count -= 1) {
    const [name, value] = random.pick(HEADERS);
    headers.set(name, value);
  }
  return headers;
};

/** The input of an answer with junk in up to three places. */
export function mutatedInput(random, junk) {
  let input = random.pick(random.chance(0.12) ? WITH_TOOLS : INPUTS);
  for (let count = random.int(0, 2); count >= 0; count -= 1) input = mutated(random, input, undefined, junk);
  return input;
}

/** A request whose body has junk in up to three places, to any surface. */
export function mutatedRequest(random) {
  const surface = random.pick(Object.keys(SURFACES));
  const { url, body } = SURFACES[surface];
  let value = body(random.pick(random.chance(0.12) ? WITH_TOOLS : INPUTS));
  for (let count = random.int(0, 2); count >= 0; count -= 1) value = mutated(random, value);
  return { surface, url, init: { method: "POST", headers: headersFor(surface, random), body: JSON.stringify(value) } };
}

/** A request with damaged bytes or an invalid body, to any surface. */
export function damagedRequest(random) {
  const surface = random.pick(Object.keys(SURFACES));
  const { url, body } = SURFACES[surface];
  const valid = new TextEncoder().encode(JSON.stringify(body(random.pick(INPUTS))));
  const bytes = random.chance(0.5) ? damaged(random, valid) : random.pick(BODIES);
  return { surface, url, init: { method: "POST", headers: headersFor(surface, random), body: bytes } };
}

/** A request with any method, path, query and headers. */
export function pathRequest(random) {
  let path = random.pick(PATHS);
  if (random.chance(0.5)) {
    const at = random.int(0, path.length);
    path = path.slice(0, at) + random.pick(PATH_JUNK) + path.slice(random.chance(0.5) ? at : random.int(at, path.length));
  }
  if (random.chance(0.4)) path += random.pick(QUERIES);
  const method = random.pick(METHODS);
  const hasBody = !/^(GET|HEAD)$/i.test(method) && random.chance(0.7);
  const body = hasBody ? JSON.stringify({ ...RAW, model: MODEL, inputs: RAW }) : undefined;
  // An absolute URL, because the path may begin with two slashes.
  return { url: `${ORIGIN}/.${path}`, init: { method, headers: headersFor(random.pick(Object.keys(SURFACES)), random), body } };
}

// ── Reports ──────────────────────────────────────────────────────────────────────────────────────────────────

/** Counts the outcomes, to show whether the fuzzing reaches the different kinds. */
export function tally() {
  const counts = {};
  return { add: (outcome) => void (counts[outcome] = (counts[outcome] ?? 0) + 1), text: () => JSON.stringify(counts), counts };
}

export const shown = (value) => {
  try {
    return JSON.stringify(value)?.slice(0, 600);
  } catch {
    return String(value);
  }
};

/** What shows a request of `fetch` in a message. */
export function shownRequest({ url, init: { method, headers, body } }) {
  return { url, method, headers: [...headers], body: typeof body === "string" || body === undefined ? body : Buffer.from(body).toString("latin1") };
}
