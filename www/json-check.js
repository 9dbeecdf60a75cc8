// Whether an answer in JSON mode is JSON and fits its schema.

/**
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
  const { Validator } = await import("/vendor/json-schema.js");
  const { valid, errors } = new Validator(/** @type {any} */ (schema), "2020-12", false).validate(value);
  if (valid) return { valid, text: "Valid: it fits the schema" };
  const last = errors.at(-1);
  return { valid, text: `Does not fit the schema: ${last?.instanceLocation ?? ""} ${last?.error ?? ""}` };
}
