// Does one cold run of the package: load, first token, prefill, decode, memory. The same code runs in Node and in a page.

import { MODEL, seconds, streamed } from "./ours.js";
import { DECODE_PROMPT, DECODE_TOKENS, FEWEST_TOKENS, FIRST_MESSAGES, longPrompt } from "./workload.js";

/**
 * Measures one run.
 *
 * @param {() => Promise<import("../../../pkg/index.d.ts").Ai>} start imports the package, which is not loaded yet, and creates an `Ai`
 * @param {number} repetition from 0; selects prompts that are not cached
 * @returns {Promise<import("../alone/report.mjs").Measured>}
 * @throws if the answer is too short to measure, or a prompt was cached
 */
export async function measure(start, repetition) {
  const begun = performance.now();
  const ai = await start();
  const { backend } = await ai.load(MODEL);
  const loadSeconds = seconds(begun, performance.now());
  const loadMemoryBytes = (await ai.stats()).memoryBytes;

  const first = await streamed(ai, { messages: FIRST_MESSAGES, max_tokens: 16 });

  const decode = () => streamed(ai, { prompt: DECODE_PROMPT, raw: true, max_tokens: DECODE_TOKENS });
  // A JavaScript engine optimises WebAssembly code only after it has run for a while (in Chromium for about 30 tokens). So compute
  // everything once without measuring it; the speed is stable afterwards.
  await prefill(ai, longPrompt(2 * repetition));
  await decode();
  const prompt = await prefill(ai, longPrompt(2 * repetition + 1));
  const answer = await decode();
  if (answer.tokens < FEWEST_TOKENS) throw new Error(`the answer ended after ${answer.tokens} tokens, which are too few to measure`);

  return {
    backend,
    loadSeconds,
    firstTokenSeconds: first.times[0],
    prefillTokensPerSecond: prompt.tokens / prompt.seconds,
    // The first token is a result of the prefill, so neither its time nor the token itself counts.
    decodeTokensPerSecond: (answer.tokens - 1) / (answer.times.at(-1) - answer.times[0]),
    loadMemoryBytes,
    peakMemoryBytes: (await ai.stats()).memoryBytes,
    prefillTokens: prompt.tokens,
    decodeTokens: answer.tokens,
  };
}

/** Measures the prefill of a prompt, with one token of an answer, which is a result of the prefill. */
async function prefill(ai, prompt) {
  const begun = performance.now();
  const { usage } = await ai.run(MODEL, { prompt, raw: true, max_tokens: 1, temperature: 0 });
  const took = seconds(begun, performance.now());
  if (usage.prompt_tokens_details.cached_tokens > 0) throw new Error("the prompt was cached, so its time is meaningless");
  return { tokens: usage.prompt_tokens, seconds: took };
}
