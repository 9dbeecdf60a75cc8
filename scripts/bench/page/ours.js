// The package's public API, as both benchmarks use it: a stream's tokens with their times.

export const MODEL = "@cf/huggingface/smollm2-135m-instruct";

export const seconds = (from, to) => (to - from) / 1000;

/**
 * Reads a greedy stream. `times`: seconds from the call to each piece of text.
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
    // Over a connection events come together or in parts. Each is a piece of text, or at the end the counts.
    for (let next; (next = text.indexOf("\n\n", end)) >= 0; end = next + 2) {
      const event = text.slice(end, next);
      if (!event.includes('"usage"') && !event.includes("[DONE]")) times.push(now);
    }
  }
  const count = (name) => Number(new RegExp(`"${name}":(\\d+)`).exec(text)?.[1]);
  return { times, tokens: count("completion_tokens"), promptTokens: count("prompt_tokens"), cachedTokens: count("cached_tokens") };
}
