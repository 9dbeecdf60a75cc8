// Measures a stream through the package's public API, for both benchmarks.

export const MODEL = "@cf/huggingface/smollm2-135m-instruct";

/** Converts a difference of two times in milliseconds to seconds. */
export const seconds = (from, to) => (to - from) / 1000;

/**
 * Streams a greedy answer and reads it to its end. Returns `times`, the seconds from the call to the arrival of each piece of text, and
 * the numbers of tokens of the answer, of the prompt, and of the prompt's cached prefix.
 *
 * @param {import("../../../pkg/index.d.ts").Ai} ai
 * @param {object} input
 */
export async function streamed(ai, input) {
  const begun = performance.now();
  const stream = await ai.run(MODEL, { ...input, stream: true, temperature: 0 });
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  const times = [];
  let text = "";
  let end = 0;
  for (let read; !(read = await reader.read()).done; ) {
    const now = seconds(begun, performance.now());
    text += decoder.decode(read.value, { stream: true });
    // Over a connection, a chunk may contain several events or a part of one. Each event is a piece of text, or at the end the usage or
    // [DONE].
    for (let next; (next = text.indexOf("\n\n", end)) >= 0; end = next + 2) {
      const event = text.slice(end, next);
      if (!event.includes('"usage"') && !event.includes("[DONE]")) times.push(now);
    }
  }
  const count = (name) => Number(new RegExp(`"${name}":(\\d+)`).exec(text)?.[1]);
  return { times, tokens: count("completion_tokens"), promptTokens: count("prompt_tokens"), cachedTokens: count("cached_tokens") };
}
