// Settings → the input of a request. Pure: no element of the page.

/**
 * @import { ChatMessage, FlatTool, TextGenerationInput } from "../pkg/index.d.ts"
 *
 * @typedef {FlatTool & {on: boolean}} OfferedTool
 * @typedef {object} Settings
 * @property {string} model the id
 * @property {string} system
 * @property {"text" | "json_object" | "json_schema"} format
 * @property {object} [schema] of the answer
 * @property {OfferedTool[]} tools
 * @property {string} toolChoice "" for the default
 * @property {Record<string, unknown>} sampling the fields that have a value, by their names in the input
 * @property {boolean} raw
 */

/**
 * The input of a request, without `stream`.
 *
 * @param {Settings} settings
 * @param {ChatMessage[]} messages
 * @returns {TextGenerationInput}
 */
export function inputOf({ system, format, schema, tools, toolChoice, sampling, raw }, messages) {
  if (raw) return { prompt: String(messages.findLast(({ role }) => role === "user")?.content ?? ""), raw: true, ...sampling, ...formatOf(format, schema) };
  const offered = tools.filter(({ on }) => on);
  // A model that must call a tool with every answer would never use what it returns.
  const choice = toolChoice === "required" && messages.at(-1)?.role === "tool" ? "" : toolChoice;
  return {
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    ...sampling,
    ...(offered.length > 0 ? { tools: offered.map(({ on, ...tool }) => ({ type: /** @type {const} */ ("function"), function: tool })) } : {}),
    ...(offered.length > 0 && choice ? { tool_choice: /** @type {any} */ (choice) } : {}),
    ...formatOf(format, schema),
  };
}

/**
 * @param {Settings["format"]} format
 * @param {object} [schema]
 * @returns {Pick<TextGenerationInput, "response_format">}
 */
function formatOf(format, schema) {
  if (format === "json_schema" && schema) return { response_format: { type: "json_schema", json_schema: schema } };
  return format === "json_object" ? { response_format: { type: "json_object" } } : {};
}
