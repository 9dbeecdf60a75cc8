// JSON that a model or a Worker has written: with line breaks, and whether it fits its schema.

import { messageOf } from "./dom.js";

/** JSON with line breaks; another text as it is. @param {string} text */
export function indented(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/**
 * Whether an answer in JSON mode is JSON and fits its schema.
 *
 * @param {string} text the answer
 * @param {object | true} schema `true`: any JSON
 * @returns {Promise<{valid: boolean, text: string}>} `text`: one sentence
 */
export async function checkJson(text, schema) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return { valid: false, text: "Not complete JSON: raise max_tokens." };
  }
  if (schema === true) return { valid: true, text: "Valid JSON" };
  try {
    const { Validator } = await import("/vendor/json-schema.js");
    const { valid, errors } = new Validator(/** @type {any} */ (schema), "2020-12", false).validate(value);
    if (valid) return { valid, text: "Valid: it fits the schema" };
    const last = errors.at(-1);
    return { valid, text: `Does not fit the schema: ${last?.instanceLocation ?? ""} ${last?.error ?? ""}` };
  } catch (error) {
    // A $ref that leads nowhere, or the server no longer sends the validator.
    return { valid: false, text: `Valid JSON that cannot be checked against the schema: ${messageOf(error)}` };
  }
}
