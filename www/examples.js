// The prompts of the first screen, with the settings that they need.

/**
 * @typedef {object} Example
 * @property {string} title
 * @property {string} prompt
 * @property {"json_schema" | "tool"} [needs]
 */

/** @type {readonly Example[]} */
export const EXAMPLES = [
  { title: "Explain something", prompt: "Explain to a ten-year-old why the sky is blue." },
  { title: "Write code", prompt: "Write a JavaScript function that removes duplicates from an array, with a short example." },
  { title: "Fill a JSON schema", prompt: "Describe a made-up person.", needs: "json_schema" },
  { title: "Call a tool", prompt: "What is the weather in Paris?", needs: "tool" },
];
