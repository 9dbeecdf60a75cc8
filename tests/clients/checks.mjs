// Assertions and inputs that several client test suites share.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Ajv } from "ajv";
import { z } from "zod";
import { callScript } from "../scripted-model.mjs";

/** A catalogue id; the default model computes its answers. */
export const MODEL = "@cf/meta/llama-3.1-8b-instruct";

const ajv = new Ajv({ strict: false });

/** Checks a value against a zod schema with an independent validator (Ajv), which is neither ours nor the client's. */
export function assertFits(value, schema) {
  const validate = ajv.compile(z.toJSONSchema(schema, { target: "draft-7" }));
  assert.ok(validate(value), `${JSON.stringify(value)}: ${ajv.errorsText(validate.errors)}`);
}

/** Every value has a limited length, so that a small model completes it. */
export const PERSON = z.object({
  name: z.string().min(1).max(20),
  age: z.int().min(0).max(120),
  roles: z.array(z.enum(["author", "editor", "reader"])).min(1).max(3),
  address: z.object({ city: z.string().max(20), zip: z.string().regex(/^[0-9]{5}$/) }),
});
export const ASK_PERSON = "Describe a person who writes books.";

export const CITY = z.object({ city: z.string().min(1).max(20) });
export const ORDER = z.object({
  items: z.array(z.object({ name: z.enum(["tea", "coffee", "cake"]), count: z.int().min(1).max(9) })).min(1).max(3),
  size: z.union([z.enum(["small", "large"]), z.int().min(1).max(10)]),
  express: z.boolean().optional(),
});
export const NOTHING = z.object({});
/** The id of a model that always makes the same call of the tool `weather`. */
export const CALLING_MODEL = "@cf/own/calling";
export const ITS_CALL = { city: "Oslo" };
export const CALLER = { script: callScript("weather", ITS_CALL) };
export const ASK_WEATHER = "What is the weather in Oslo?";
/** A `max_tokens` that is enough for the longest call that these schemas allow. */
export const CALL_TOKENS = 400;

/** 60 distinct measurements: at least 60 tokens. */
export const LONG_REPORT = Array.from({ length: 60 }, (_, index) => `${index + 1} mm`).join(", ");

/** Waits until `check` resolves to a truthy value; fails after `patience` milliseconds. `what` names the condition. */
export async function eventually(what, check, patience = 5_000) {
  for (const end = Date.now() + patience; Date.now() < end; await sleep(20)) {
    if (await check()) return;
  }
  assert.fail(`not within ${patience / 1000} s: ${what}`);
}
