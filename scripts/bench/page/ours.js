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
  for (let read; !(read = await reader.read()).done; ) {
    const now = seconds(begun, performance.now());
    const piece = decoder.decode(read.value, { stream: true });
    text += piece;
    // A read brings one event: a piece of text, or at the end the counts.
    if (!piece.includes('"usage"')) times.push(now);
  }
  const count = (name) => Number(new RegExp(`"${name}":(\\d+)`).exec(text)?.[1]);
  return { times, tokens: count("completion_tokens"), promptTokens: count("prompt_tokens"), cachedTokens: count("cached_tokens") };
}
