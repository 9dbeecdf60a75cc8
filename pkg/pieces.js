// What an event of a stream adds to the answer, in either shape: the binding's own, or chunks of a completion.

/** @import { ChatCompletionChunk, FinishReason, TextGenerationEvent, TextGenerationUsage } from "./index.d.ts" */

/**
 * @typedef {object} Piece
 * @property {string} text the next piece of the text; often empty
 * @property {string} thought the next piece of what the model thinks before it answers; often empty
 * @property {FinishReason} [finish_reason]
 * @property {TextGenerationUsage} [usage]
 */

/**
 * The first choice only.
 *
 * @param {string} data an event's data, but not the last one's, which is no JSON
 * @returns {Piece}
 */
export function pieceOf(data) {
  /** @type {Partial<TextGenerationEvent> & Partial<Omit<ChatCompletionChunk, "choices">> & {choices?: (ChatCompletionChunk["choices"][number] & {text?: string})[]}} */
  const event = JSON.parse(data);
  const choice = event.choices?.find(({ index }) => index === 0);
  return {
    text: event.response ?? choice?.delta?.content ?? choice?.text ?? "",
    thought: event.reasoning_content ?? choice?.delta?.reasoning_content ?? "",
    finish_reason: event.finish_reason ?? choice?.finish_reason ?? undefined,
    usage: event.usage ?? undefined,
  };
}
