// How many tokens a model's prompt and answer may have together.

/** @import { TextGenerationInput } from "./index.d.ts" */

/** More than any model has. */
const TOO_MANY = 1e8;

/**
 * No interface tells it, but the refusal of an answer that is far too long does (5021), before anything is computed.
 *
 * @param {{run(model: string, input: TextGenerationInput): Promise<unknown>}} ai which computes this model itself
 * @param {string} model
 * @returns {Promise<number | null>} `null` if it cannot be known
 */
export async function contextWindow(ai, model) {
  try {
    await ai.run(model, { prompt: "-", raw: true, max_tokens: TOO_MANY });
  } catch (error) {
    return Number(/limit \((\d+)\)/.exec(/** @type {Error} */ (error).message)?.[1]) || null;
  }
  return null;
}
