// Random JSON Schemas, and an independent validator (Ajv) that checks answers against them.
//
// Every value of a `bounded` schema has a limited length, so an answer must always be completed. An `open` schema has no such limit:
// strings without a maximum length, arrays without a maximum number of items, additional properties, recursion. A `wild` schema uses
// keywords that need not be supported.

import { isIPv4, isIPv6 } from "node:net";
import Ajv from "ajv";
import Ajv2020 from "ajv/dist/2020.js";

const KEYS = [
  "id",
  "name",
  "value",
  "a b",
  "x-y",
  'say "hi"',
  "größe",
  "日本",
  "emoji 🙂",
  "back\\slash",
  "new\nline",
  "",
  "1",
  "toString",
  "tags",
];
/** Without `toString`: Ajv compares objects by their own `toString` property if they have one. */
const LITERAL_KEYS = KEYS.filter((key) => key !== "toString");
const STRINGS = [
  "",
  "a",
  "red",
  "two words",
  'a "quote"',
  "back\\slash",
  "line\nbreak",
  "tab\t",
  "naïve",
  "日本語",
  "👩‍👩‍👧",
  "return\r",
  "</script>",
  "null",
  "1",
];

/** Patterns that match only strings of limited length. */
const BOUNDED_PATTERNS = [
  "^[a-z]{2,8}$",
  "^\\d{3}-\\d{4}$",
  "^(red|green|blue)$",
  "^[A-Z]{2}\\d{2,4}[a-f]?$",
  "^\\w{1,10}$",
  "^(?:\\d{1,3}\\.){3}\\d{1,3}$",
  "^[^a-z]{1,5}$",
  "^[а-я]{1,6}$",
  '^"\\\\{0,2}"$',
  "^$|^x$",
];
const OPEN_PATTERNS = ["^\\d+$", "[0-9]", "^[a-z]+( [a-z]+)*$", "^\\S+$", "end$"];
const BOUNDED_FORMATS = ["date", "time", "date-time", "uuid", "ipv4", "ipv6"];
const OPEN_FORMATS = ["email", "hostname", "duration", "uri"];

/** A schema whose values all have a limited length. */
export const boundedSchema = (random) => new Maker(random).schema();

/** A schema that allows values of unlimited length. */
export const openSchema = (random) => new Maker(random, { open: true }).schema();

/** The schema of an object, as in the parameters of a tool. */
export const parametersSchema = (random) => new Maker(random, { budget: 5 }).schema("object");

class Maker {
  #random;
  #open;
  /** Number of subschemas that may still be created. */
  #budget;
  #references;
  #definitions = {};

  constructor(random, { open = false, budget = 10, references = true } = {}) {
    this.#random = random;
    this.#open = open;
    this.#budget = budget;
    this.#references = references;
  }

  schema(kind) {
    const random = this.#random;
    const schema = this.#any(3, kind ?? random.pick(["object", "object", "object", "array", "anyOf", "string", "number", "literal"]));
    if (Object.keys(this.#definitions).length > 0) schema.$defs = this.#definitions;
    return schema;
  }

  #any(depth, kind) {
    const random = this.#random;
    this.#budget -= 1;
    const flat = ["string", "string", "integer", "number", "boolean", "literal", "literal", "null"];
    const deep = [...flat, "object", "object", "array", "anyOf", "nullable", ...(this.#references ? ["reference"] : [])];
    kind ??= random.pick(depth > 0 && this.#budget > 0 ? deep : flat);
    switch (kind) {
      case "object":
        return this.#object(depth);
      case "array":
        return this.#array(depth);
      case "anyOf":
        return { anyOf: this.#several(random.int(2, 3), depth) };
      case "nullable":
        return this.#nullable(depth);
      case "reference":
        return this.#reference(depth);
      case "string":
        return this.#string();
      case "integer":
      case "number":
        return { type: kind, ...range(random, kind) };
      case "literal":
        return this.#literal();
      default:
        return { type: kind };
    }
  }

  #several(count, depth) {
    return Array.from({ length: count }, () => this.#any(depth - 1));
  }

  #object(depth) {
    const random = this.#random;
    const names = random.some(KEYS, random.int(this.#open ? 0 : 1, 4));
    const properties = Object.fromEntries(names.map((name) => [name, this.#any(depth - 1)]));
    const schema = { type: "object", properties };
    if (random.chance(0.8)) schema.required = names.filter(() => random.chance(0.7));
    const further = this.#open
      ? [false, true, undefined, this.#any(0, random.pick(["integer", "boolean", "string"]))]
      : [false, false, undefined];
    const additionalProperties = random.pick(further);
    return additionalProperties === undefined ? schema : { ...schema, additionalProperties };
  }

  #array(depth) {
    const random = this.#random;
    const schema = { type: "array" };
    if (random.chance(0.3)) {
      schema.prefixItems = this.#several(random.int(1, 2), depth);
      schema.items = random.chance(0.5) ? false : this.#any(depth - 1);
      if (random.chance(0.6)) schema.minItems = random.int(0, schema.prefixItems.length);
      if (!this.#open) schema.maxItems = schema.prefixItems.length + random.int(0, 2);
      return schema;
    }
    schema.items = this.#any(depth - 1);
    if (random.chance(0.5)) schema.minItems = random.int(0, 2);
    if (!this.#open || random.chance(0.3)) schema.maxItems = (schema.minItems ?? 0) + random.int(schema.minItems ? 0 : 1, 2);
    return schema;
  }

  #nullable(depth) {
    const random = this.#random;
    if (random.chance(0.5)) return { anyOf: [this.#any(depth - 1), { type: "null" }] };
    const type = random.pick(["integer", "boolean", "string", "object"]);
    if (type === "string") return { ...this.#string(), type: ["string", "null"] };
    if (type === "object") return { ...this.#object(depth), type: ["object", "null"] };
    return {
      type: random.pick([
        [type, "null"],
        ["null", type],
        [type, "null", "number"],
      ]),
    };
  }

  #reference(depth) {
    const random = this.#random;
    const known = Object.keys(this.#definitions);
    if (known.length > 0 && random.chance(0.5)) return { $ref: `#/$defs/${random.pick(known)}` };
    const name = `part${known.length + 1}`;
    const $ref = `#/$defs/${name}`;
    // Reserve the name before the contents are created, so that a nested definition does not use it.
    this.#definitions[name] = {};
    const list = () => {
      const next = { anyOf: [{ type: "null" }, { $ref }] };
      return { type: "object", properties: { value: this.#any(0), next }, required: ["value", "next"], additionalProperties: false };
    };
    this.#definitions[name] =
      this.#open && random.chance(0.5) ? list() : this.#any(depth - 1, random.pick(["object", "string", "literal"]));
    return { $ref };
  }

  #string() {
    const random = this.#random;
    const schema = { type: "string" };
    const kind = random.pick(["plain", "plain", "plain", "pattern", "format"]);
    if (kind === "pattern") schema.pattern = random.pick(this.#open ? [...BOUNDED_PATTERNS, ...OPEN_PATTERNS] : BOUNDED_PATTERNS);
    if (kind === "format") schema.format = random.pick(this.#open ? [...BOUNDED_FORMATS, ...OPEN_FORMATS] : BOUNDED_FORMATS);
    if (kind !== "plain") return schema;
    const minLength = random.int(0, 6);
    if (random.chance(0.5)) schema.minLength = minLength;
    if (!this.#open || random.chance(0.3)) schema.maxLength = minLength + random.int(0, 16);
    return schema;
  }

  #literal() {
    const random = this.#random;
    if (random.chance(0.4)) return { const: literal(random, 2) };
    if (random.chance(0.5)) return { type: "string", enum: random.some(STRINGS, random.int(1, 4)) };
    return { enum: Array.from({ length: random.int(1, 4) }, () => literal(random, 2)) };
  }
}

/** A JSON value. */
function literal(random, depth) {
  switch (random.pick(["null", "boolean", "integer", "number", "string", "string", ...(depth > 0 ? ["array", "object"] : [])])) {
    case "null":
      return null;
    case "boolean":
      return random.chance(0.5);
    case "integer":
      return random.int(-1000, 1000);
    case "number":
      return random.int(-100_000, 100_000) / 1000;
    case "string":
      return random.pick(STRINGS);
    case "array":
      return Array.from({ length: random.int(0, 2) }, () => literal(random, depth - 1));
    default:
      return Object.fromEntries(random.some(LITERAL_KEYS, random.int(0, 2)).map((key) => [key, literal(random, depth - 1)]));
  }
}

/** Bounds and steps that at least one number satisfies. */
function range(random, type) {
  const step = type === "integer" ? 1 : random.pick([1, 0.5, 0.1, 0.001]);
  // Rounded, so that JavaScript prints the intended decimal.
  const at = (count) => Number((count * step).toFixed(3));
  const low = random.int(-1200, 1200);
  const high = low + random.int(3, 2000);
  switch (random.pick(["none", "minimum", "maximum", "both", "both", "exclusive", "mixed", "narrow", "steps"])) {
    case "minimum":
      return random.chance(0.5) ? { minimum: at(low) } : { exclusiveMinimum: at(low) };
    case "maximum":
      return random.chance(0.5) ? { maximum: at(high) } : { exclusiveMaximum: at(high) };
    case "both":
      return { minimum: at(low), maximum: at(high) };
    case "exclusive":
      return { exclusiveMinimum: at(low), exclusiveMaximum: at(high) };
    case "mixed":
      return random.chance(0.5) ? { exclusiveMinimum: at(low), maximum: at(high) } : { minimum: at(low), exclusiveMaximum: at(high) };
    case "narrow":
      return type === "integer" ? { minimum: low, exclusiveMaximum: low + 1 } : { exclusiveMinimum: at(low), maximum: at(low + 1) };
    case "steps": {
      const multipleOf = type === "integer" ? random.int(1, 12) : random.pick([2, 0.5, 0.25, 0.1]);
      const first = random.int(-20, 20);
      return {
        multipleOf,
        minimum: Number((first * multipleOf).toFixed(2)),
        maximum: Number(((first + random.int(0, 40)) * multipleOf).toFixed(2)),
      };
    }
    default:
      return {};
  }
}

/** A schema with keywords that a token mask may be unable to guarantee, or an invalid or contradictory schema. */
export function wildSchema(random) {
  // References are resolved from the root, so a schema that is nested in another one must have none.
  const part = () => new Maker(random, { references: false }).schema();
  const base = part();
  const text = (maxLength) => ({ type: "string", maxLength });
  const object = (more) => ({ type: "object", properties: { a: { type: "integer", minimum: 0, maximum: 9 }, b: text(5) }, ...more });
  const list = (more) => ({ type: "array", items: { type: "integer", minimum: 1, maximum: 3 }, minItems: 2, maxItems: 4, ...more });
  const wild = random.pick([
    () => ({ not: base }),
    () => ({ ...base, not: { type: "object" } }),
    () => ({ oneOf: [base, text(4)] }),
    () => ({
      oneOf: [
        { type: "integer", minimum: 0, maximum: 9 },
        { type: "number", minimum: 5, maximum: 20 },
      ],
    }),
    () => ({ oneOf: [{ type: "integer", maximum: 4 }, { type: "boolean" }] }),
    () => ({ allOf: [base, part()] }),
    () => ({ allOf: [object({ required: ["a"] }), { properties: { c: { type: "boolean" } }, required: ["c"] }] }),
    () => ({ allOf: [text(8), { pattern: "^[a-z]" }, { minLength: 3 }] }),
    () => object({ required: ["a"], anyOf: [{ required: ["b"] }, { properties: { c: { const: 1 } }, required: ["c"] }] }),
    () => list({ uniqueItems: true }),
    () => list({ contains: { const: 3 } }),
    () => list({ contains: { const: 3 }, minContains: 0 }),
    () => list({ unevaluatedItems: false }),
    () => object({ patternProperties: { "^x-": { type: "boolean" } }, additionalProperties: false }),
    () => object({ patternProperties: { "^a": { type: "integer", multipleOf: 3 }, b$: text(2) }, additionalProperties: false }),
    () => object({ propertyNames: { pattern: "^[a-c]$" } }),
    () => object({ minProperties: 1, additionalProperties: false }),
    () => object({ minProperties: 2, additionalProperties: { type: "integer", minimum: 0, maximum: 9 } }),
    () => object({ maxProperties: 1, additionalProperties: { type: "boolean" } }),
    () => ({ type: "object", additionalProperties: { type: "boolean" }, minProperties: 2, maxProperties: 3 }),
    () => object({ if: { required: ["a"] }, then: { required: ["b"] }, else: { maxProperties: 0 } }),
    () => object({ dependentRequired: { a: ["b"] } }),
    () => object({ dependentSchemas: { a: { required: ["b"] } } }),
    () => object({ unevaluatedProperties: false }),
    () => ({ $ref: "#/$defs/nowhere", $defs: {} }),
    () => ({ $ref: "https://example.com/schema.json" }),
    () => ({ $ref: "#/$defs/a%20b", $defs: { "a b": text(3) } }),
    () => ({ $ref: "#/$defs/a~1b", $defs: { "a/b": text(3) } }),
    () => ({ $ref: "#named", $defs: { part: { $anchor: "named", ...text(3) } } }),
    () => ({ $ref: "#/$defs/a", maxLength: 2, $defs: { a: text(9) } }),
    () => ({ $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } }),
    () => ({ type: "array", items: { $ref: "#" }, maxItems: 2 }),
    () => ({ type: "integer", minimum: 5, maximum: 4 }),
    () => ({ type: "integer", exclusiveMinimum: 1, exclusiveMaximum: 2 }),
    () => ({ type: "number", minimum: 1, maximum: 2, multipleOf: 7 }),
    () => ({ type: "number", minimum: 0, maximum: 1, multipleOf: 1e-7 }),
    () => ({ type: "integer", minimum: 1e300 }),
    () => ({ type: "number", minimum: 1e300, maximum: 1e301 }),
    () => ({ type: "string", minLength: 5, maxLength: 4 }),
    () => ({ type: "string", const: "abc", maxLength: 2 }),
    () => ({ type: "string", const: 7 }),
    () => ({ enum: [] }),
    () => ({ type: "array", items: base, minItems: 3, maxItems: 2 }),
    () => object({ required: ["z"], additionalProperties: false }),
    () => object({ required: ["z"] }),
    () => ({ type: "strin" }),
    () => ({ type: 7 }),
    () => ({ type: [] }),
    () => ({ properties: [1] }),
    () => ({ type: "string", pattern: "(" }),
    () => ({ type: "string", pattern: "^(?=a)[a-z]{1,3}$" }),
    () => ({ type: "string", pattern: "^(a|b)\\1$" }),
    () => ({ type: "string", pattern: "^a.b$" }),
    () => ({ type: "string", pattern: "^\\p{Lu}{1,3}$" }),
    () => ({ type: "string", pattern: "^[a-z]\\b$" }),
    () => ({ type: "string", pattern: "^\\s$" }),
    () => ({ type: "string", format: "idn-email", maxLength: 5 }),
    () => ({ type: "string", format: "date", pattern: "^20" }),
    () => ({ type: "string", format: "date", maxLength: 4 }),
    () => ({ ...base, "x-guidance": { lenient: true, whitespace_pattern: "x" } }),
    () => ({ ...base, title: "T", description: "D", default: 1, examples: [2], deprecated: true, $comment: "c" }),
    () => ({
      type: "array",
      items: [{ type: "integer", maximum: 3 }],
      additionalItems: false,
      $schema: "http://json-schema.org/draft-07/schema#",
    }),
    () => false,
  ])();
  if (typeof wild !== "object" || random.chance(0.6)) return wild;
  // These two keywords have a meaning only at the root.
  return /"\$(ref|schema)"/.test(JSON.stringify(wild))
    ? wild
    : { type: "object", properties: { ok: { type: "boolean" }, wild }, required: ["ok", "wild"] };
}

/** Syntax checks of the formats: fields within their ranges, days within their months. 29 February is accepted in every year. */
const FORMATS = {
  date: isDate,
  time: isTime,
  "date-time": (text) => /[Tt]/.test(text[10]) && isDate(text.slice(0, 10)) && isTime(text.slice(11)),
  duration: /^P(?!$)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?$/,
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i,
  ipv4: isIPv4,
  ipv6: isIPv6,
  email: /^[^\s@"]+@[^\s@]+$/,
  hostname: (text) => text.split(".").every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(label)),
  uri: /^[a-z][a-z0-9+.-]*:[^\s<>"{}|\\^`]*$/i,
};

function isDate(text) {
  const [, month, day] = /^\d{4}-(\d\d)-(\d\d)$/.exec(text) ?? [];
  const days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1];
  return day >= 1 && day <= days;
}

function isTime(text) {
  return /^([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(z|[+-]([01]\d|2[0-3]):[0-5]\d)$/i.test(text);
}

const OPTIONS = { strict: false, allErrors: true, ownProperties: true, multipleOfPrecision: 6, logger: false, formats: FORMATS };
const current = new Ajv2020(OPTIONS);
const draft07 = new Ajv(OPTIONS);

/**
 * A validator for a schema: a function that returns null for a valid value, otherwise a description of the errors. Returns undefined if the
 * schema itself is invalid.
 */
export function validatorOf(schema) {
  const ajv = schema?.$schema?.includes?.("draft-07") ? draft07 : current;
  let validate;
  try {
    validate = ajv.compile(schema);
  } catch {
    return undefined;
  }
  return (value) => (validate(value) ? null : ajv.errorsText(validate.errors));
}
