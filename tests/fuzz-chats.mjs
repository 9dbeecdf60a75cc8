// Random conversations, chat templates of the usual shapes, JSON Schemas with anything in them, and the texts of answers that look like tool calls.

import { readFileSync, readdirSync } from "node:fs";
import { JUNK } from "./fuzz-inputs.mjs";
import { boundedSchema, openSchema, parametersSchema, wildSchema } from "./schemas.mjs";
import { CHATML, CONTROL } from "./scripted-model.mjs";

// ── Templates ────────────────────────────────────────────────────────────────────────────────────────────────

const FOLDER = new URL("fixtures/templates/", import.meta.url);

/** Templates in the styles of the model families: what they look at in messages and tools, and what they refuse. Each ends with a line end. */
const TEMPLATES = [CHATML, ...readdirSync(FOLDER).sort().map((name) => readFileSync(new URL(name, FOLDER), "utf8"))];

/** A template: one of `more` or of the usual shapes, sometimes with a few characters or a whole part changed. */
export function template(random, more = []) {
  let text = random.pick([...TEMPLATES, ...more]);
  if (random.chance(0.6)) return text;
  for (let count = random.int(1, 3); count > 0; count -= 1) {
    const at = random.int(0, text.length);
    const end = random.chance(0.5) ? at : Math.min(text.length, at + random.int(0, 40));
    const other = random.pick(TEMPLATES);
    const from = random.int(0, other.length);
    text = text.slice(0, at) + random.pick([random.pick(JINJA), other.slice(from, from + random.int(0, 60)), ""]) + text.slice(end);
  }
  return text;
}

const JINJA = [
  "{%", "%}", "{{", "}}", "{#", "#}", "-", "'", '"', "\\", "{% endif %}", "{% endfor %}", "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}", "{{ messages[99] }}",
  "{{ messages[-1].content[:-1] }}", "{{ 'a' * 1000000 }}", "{{ range(100000) | list }}", "{% for i in range(1000000) %}{{ i }}{% endfor %}", "{{ 1 / 0 }}", "{{ 2 ** 64 }}", "{{ 9223372036854775807 + 1 }}",
  "{{ -9223372036854775808 // -1 }}", "{{ '%d' % 'a' }}", "{{ '%999999999s' % 'a' }}", "{{ 'é'[1:] }}", "{{ messages | map('upper') | list }}", "{{ self }}", "{{ loop }}", "{% include 'a' %}", "{% extends 'a' %}",
  "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ messages | tojson(indent=1000) }}", "{{ messages | sort }}", "{{ messages.append(messages) }}", "{{ namespace() }}", "{% set messages = none %}",
  "{{ strftime_now('%Q%9999999d') }}", "{{ ''.join(messages) }}", "{{ 'a'.split('') }}", "{{ 'a'.replace('', 'b') }}", "{{ 'x'.center(99999999) }}", "{{ messages[::0] }}", "{{ messages[9223372036854775807::-9223372036854775808] }}",
  "{{ raise_exception(messages) }}", "{{ raise_exception() }}", "{% break %}", "{% continue %}", "{% do messages %}", "{{ " + "(".repeat(300) + "1" + ")".repeat(300) + " }}", "{{ " + "-".repeat(5000) + "1 }}", "{% if 1 %}".repeat(500),
  "{{ messages[0]" + ".a".repeat(2000) + " }}", "{{ [" + "[".repeat(400) + "]".repeat(400) + "] }}", "{{ '' ~ 'a' ".repeat(100), "{% generation %}", "{{ x | default(y) | default(z) }}",
];

/** Control tokens of the usual formats. */
export const CONTROL_TOKENS = ["<|start_header_id|>", "<|eot_id|>", "[INST]", "[/INST]", "[TOOL_CALLS]", "</s>", "<think>"].map((text) => ({ text, kind: CONTROL }));

// ── Conversations ────────────────────────────────────────────────────────────────────────────────────────────

const TEXTS = [
  "Hi", "", " ", "\n\n", "a".repeat(300), "日本の首都は?", "👩‍👩‍👧 👋🏽 🇩🇪", "é", "\u0000", "\uFEFFx", "‮abc", "<|im_end|>\n<|im_start|>system\n", "</s>", "[INST]", "<tool_call>", "</think>x", "<think>a</think>b",
  "{{ x }}", "{% raw %}", '{"a": 1}', '{"name": "f", "arguments": {"a": 1}}', "<tool_response>x</tool_response>", "null", "1", "A\u0308\u0301\u0323", "\u200d\u200d",
];

/** A conversation, mostly of valid turns, in any order. */
export function conversation(random) {
  const ids = ["a", "abcdefghi", "call_123456789", "", "x".repeat(100)];
  const content = () => {
    if (random.chance(0.02)) return random.pick([null, [], random.pick(JUNK)]);
    return random.chance(0.8) ? random.pick(TEXTS) : [{ type: "text", text: random.pick(TEXTS) }];
  };
  const call = () => ({
    id: random.pick(ids),
    type: "function",
    function: { name: random.pick(["f", "now", "unknown", ""]), arguments: random.pick(['{"a": 1}', "{}", "", "null", '{"a":', { a: 1 }, [], null, "[1]", '"x"', "1e999", '{"a": 1}{"a": 2}']) },
  });
  const turn = () => {
    switch (random.pick(["user", "user", "assistant", "assistant", "system", "calls", "tool", "other"])) {
      case "calls":
        return { role: "assistant", content: random.chance(0.5) ? null : content(), tool_calls: Array.from({ length: random.int(0, 3) }, call) };
      case "tool":
        return { role: "tool", content: content(), ...(random.chance(0.8) && { tool_call_id: random.pick(ids) }), ...(random.chance(0.4) && { name: "f" }) };
      case "other":
        return { role: random.pick(["developer", "ipython", "function", "", "User", "tool_results", "é"]), content: content() };
      default:
        return { role: random.pick(["user", "assistant", "system"]), content: content(), ...(random.chance(0.1) && { name: random.pick(TEXTS) }) };
    }
  };
  const turns = Array.from({ length: random.int(0, 6) }, turn);
  return random.chance(0.7) ? [{ role: "user", content: "Hi" }, ...turns] : turns;
}

/** Other fields that templates see. */
export const kwargs = (random) =>
  random.chance(0.3)
    ? { chat_template_kwargs: random.pick([{ enable_thinking: false }, { tools: [] }, { messages: [] }, { bos_token: 7 }, { documents: [[1, 2]] }, { add_generation_prompt: false }, { a: random.pick(JUNK) }]), reasoning_effort: random.pick(["low", "", null]) }
    : {};

// ── Schemas ──────────────────────────────────────────────────────────────────────────────────────────────────

const KEYWORDS = [
  "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref", "$defs", "definitions", "$id",
  "$anchor", "$schema", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format", "minProperties", "maxProperties", "patternProperties", "propertyNames", "if",
  "then", "else", "dependentRequired", "unevaluatedProperties", "nullable", "default", "x-guidance", "title",
];
const PATTERNS = [
  "", "(a+)+$", "a{1000}", "(a{100}){100}", "((a{30}){30}){30}", "^(\\w+\\s?)*$", "[", "\\", "(?<=a)b", "^.{0,100000}$", "(?i)x", "\\p{L}+", "^[^\\x00-\\xff]{3}$", "\\u{110000}", "[\\d-z]", "a|", "|", "()", "(?:)", "^$", "$^",
  "\\b\\b", "(?P<a>b)", "x*?y+?", "\\c", "\\0", "[😀-😃]{2}", "^\\S{5,}$", "[[:alpha:]]", "(?=a)", "\\1", "a{2,1}", "^(?:a|b|c|d|e){50}$", ".*.*.*.*=.*", "(" .repeat(200) + ")".repeat(200), "[a-z]{0,4294967296}",
];
const NUMBERS = [0, 1, -1, 2, 0.1, 1e-7, 1e-320, 1e21, -1e21, 1e300, 2 ** 31, 2 ** 53, 2 ** 53 + 2, 2 ** 63, 2 ** 64, 0.30000000000000004, 1 / 3];
const REFERENCES = ["#", "#/", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/anyOf/0", "#a", "http://x/y", "", "#/$defs/%", "#/definitions/a", "##"];
const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];

/** A JSON Schema: a valid one, or one with anything at up to four of its places. */
export function schema(random) {
  let result = random.pick([boundedSchema, openSchema, parametersSchema, wildSchema])(random);
  if (random.chance(0.35)) return { schema: result, isValid: true };
  for (let count = random.int(1, 4); count > 0; count -= 1) result = withOther(random, result);
  return { schema: result, isValid: false };
}

function withOther(random, node) {
  if (typeof node !== "object" || node === null) return random.chance(0.5) ? random.pick(JUNK) : random.pick(NUMBERS);
  const copy = Array.isArray(node) ? [...node] : { ...node };
  const keys = Object.keys(copy);
  if (keys.length > 0 && random.chance(0.6)) {
    const key = random.pick(keys);
    if (random.chance(0.1)) delete copy[key];
    else copy[key] = withOther(random, copy[key]);
    return copy;
  }
  const keyword = random.pick(KEYWORDS);
  copy[Array.isArray(copy) ? random.int(0, copy.length) : keyword] = keywordValue(random, keyword);
  return copy;
}

function keywordValue(random, keyword) {
  const sub = () => random.pick([{}, true, false, { type: random.pick(TYPES) }, { $ref: random.pick(REFERENCES) }, boundedSchema(random), { enum: [1, "a", null, { a: [] }] }]);
  if (random.chance(0.15)) return random.pick(JUNK);
  if (/^(min|max|exclusive|multiple)/.test(keyword)) return random.pick(NUMBERS);
  if (/^(properties|\$defs|definitions|patternProperties)$/.test(keyword)) {
    return Object.fromEntries(Array.from({ length: random.int(0, 4) }, () => [random.pick(["a", "b", "", "é", ...PATTERNS.slice(0, 5)]), sub()]));
  }
  switch (keyword) {
    case "type":
      return random.chance(0.6) ? random.pick(TYPES) : random.some(TYPES, random.int(0, 7));
    case "pattern":
      return random.pick(PATTERNS);
    case "format":
      return random.pick(["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "hostname", "duration", "uri", "regex", "binary", ""]);
    case "required":
      return random.some(["a", "b", "c", "", "é"], random.int(0, 5));
    case "enum":
    case "const":
      return random.pick([[], [1], ["a", "b"], "a", null, [[[]]], [{ a: 1 }], Array.from({ length: 300 }, (_, index) => `v${index}`), "x".repeat(3000), ["\u0000", "\uD800"]]);
    case "$ref":
      return random.pick(REFERENCES);
    case "anyOf":
    case "oneOf":
    case "allOf":
    case "prefixItems":
      return Array.from({ length: random.int(0, 5) }, sub);
    case "x-guidance":
      return random.pick([{}, { lenient: true }, { item_separator: "(" }, { whitespace_pattern: "(" }, { key_separator: "" }, 7]);
    default:
      return sub();
  }
}

// ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────

/** The tools of the requests whose answers `spokenText` makes. */
export const TOOLS = [
  { name: "f", description: "d", parameters: { type: "object", properties: { a: { type: "integer" }, b: { type: "string" } }, required: ["a"] } },
  { type: "function", function: { name: "now", description: "", parameters: { type: "object", properties: {} } } },
  { name: "get_weather.v2-x", parameters: { type: "object", properties: { city: { type: "string", pattern: "^[A-Z]" }, days: { type: "array", items: { type: "integer" }, maxItems: 3 } }, required: ["city"], additionalProperties: false } },
];

const MARKS = [
  "<tool_call>", "</tool_call>", "<tool_call>\n", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]abcdefghi", "<function=f>", "<function=now>", "</function>", "<function", "<|python_tag|>", "<|tool_call|>", "```json\n", "```", "```tool_call\n", "<tool_calls>",
  "functools", "Action: ", "<think>", "</think>", "<parameter=a>", "</parameter>", "<toolcall>", "<|tool▁calls▁begin|>",
];
const CALLS = [
  '{"name": "f", "arguments": {"a": 1}}', '{"name": "f", "parameters": {"a": 1}}', '{"name":"now"}', '{"name":"now","arguments":{}}', '[{"name": "f", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]', '{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}',
  '{"arguments": {"a": 1}, "name": "f"}', '{"name": "f", "arguments": "{\\"a\\": 1}"}', '{"name": "unknown", "arguments": {}}', '{"name": "f", "arguments": {"a": "x"}}', '{"name": "get_weather.v2-x", "arguments": {"city": "Zürich", "days": [1, 2]}}', "[f(a=1)]", "[f(a=1), now()]",
  "f(a=1, b='x')", "[f(a=1, b=\"it's\")]", "[get_weather.v2-x(city='A')]", '{"a": 1}', "now()", "f{\"a\": 1}", "[f(a={'b': [1, None, True]})]", '{"function": "f", "a": 1}',
];
const BITS = ["{", "}", "[", "]", "(", ")", '"', "'", ":", ",", "\\", "\\u00e9", "\\ud83d", "\\x41", " ", "\n", "\t", "name", "arguments", "f", "null", "None", "1e5", "-0", "0x1f", "1_000", "é", "日本", "👩‍👩‍👧", "🇩🇪", "e\u0301", "\u0000", "\u2028", "a".repeat(200), "[".repeat(150), "{\"a\":".repeat(150), "\u200d", "<", ">", "=", "#", "r'", "b\"", "'''", "lambda: 0", "f(", "**"];

/** The text of an answer: pieces of calls and markers in any order, with a few characters changed. */
export function spokenText(random) {
  let text = "";
  for (let count = random.int(1, 7); count > 0; count -= 1) text += random.pick(random.pick([MARKS, CALLS, CALLS, BITS, ["Hello ", "I will call ", "\n\n", " and "]]));
  for (let count = random.chance(0.5) ? random.int(1, 4) : 0; count > 0; count -= 1) {
    const at = random.int(0, text.length);
    text = text.slice(0, at) + (random.chance(0.6) ? random.pick(BITS) : "") + text.slice(random.chance(0.5) ? at : at + random.int(0, 3));
  }
  return text.toWellFormed?.() ?? Buffer.from(text, "utf8").toString("utf8");
}

/** Tokens of every scripted model that a script cannot have: the one before it, and control tokens. */
const TAKEN = ["\n", "<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/** A text as the tokens of a script, none twice, cut at any bytes. `undefined` if the text is too repetitive for that. */
export function scriptOf(random, text) {
  const bytes = Buffer.from(text, "utf8");
  const used = new Set(TAKEN.map((text) => Buffer.from(text, "utf8").toString("latin1")));
  const most = random.pick([1, 4, 12, 40]);
  const pieces = [];
  for (let at = 0; at < bytes.length; ) {
    let end = Math.min(bytes.length, at + random.int(1, most));
    const word = () => bytes.toString("latin1", at, end);
    while (used.has(word()) && end < bytes.length) end += 1;
    if (used.has(word())) {
      // Only the end of the text can be a token that was there before: it becomes part of the last one.
      const last = pieces.pop();
      if (!last) return undefined;
      at -= last.length;
      if (used.has(word())) return undefined;
    }
    used.add(word());
    pieces.push(new Uint8Array(bytes.subarray(at, end)));
    at = end;
  }
  return pieces;
}
