// Reads the streams of answers, in either shape: the binding's own events, or chunks of a completion.

/**
 * @import { FinishReason, TextGenerationUsage, ToolCallMessage } from "../pkg/index.d.ts"
 * @typedef {object} Piece
 * @property {string} text the next piece of the text; often empty
 * @property {string} thought the next piece of what the model thinks; often empty
 * @property {ToolCallMessage[]} calls complete calls of tools
 * @property {FinishReason} [finish_reason]
 * @property {TextGenerationUsage} [usage]
 */

/**
 * The pieces of a stream, as far as it goes.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<Piece>}
 * @throws {Error} if the stream ends before the answer does
 */
export async function* pieces(stream) {
  const { eventData, pieceOf } = await readers();
  for await (const data of eventData(stream)) {
    if (data === "[DONE]") return;
    yield { ...pieceOf(data), calls: callsOf(JSON.parse(data)) };
  }
  // A complete stream ends with [DONE].
  throw new Error("The stream ended before the answer was complete. Ask again; if it happens again, the server’s own messages say why.");
}

/** The package's own readers. @type {Promise<Pick<typeof import("../pkg/sse.js"), "eventData"> & Pick<typeof import("../pkg/pieces.js"), "pieceOf">> | undefined} */
let imported;

function readers() {
  imported ??= Promise.all([import("/pkg/sse.js"), import("/pkg/pieces.js")]).then(
    ([{ eventData }, { pieceOf }]) => ({ eventData, pieceOf }),
    (error) => {
      // The next answer asks for them again.
      imported = undefined;
      throw error;
    },
  );
  return imported;
}

/**
 * @param {any} event
 * @returns {ToolCallMessage[]}
 */
function callsOf(event) {
  const calls = event.tool_calls ?? event.choices?.[0]?.delta?.tool_calls ?? [];
  return calls.map((/** @type {any} */ { id, function: { name, arguments: values } }) => ({ id, type: "function", function: { name, arguments: values } }));
}
