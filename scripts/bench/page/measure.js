// One cold run of the package: load, first token, prefill, decode, memory. The same code in Node and in a page.

import { MODEL, seconds, streamed } from "./ours.js";
import { DECODE_PROMPT, DECODE_TOKENS, FEWEST_TOKENS, FIRST_MESSAGES, longPrompt } from "./workload.js";

/**
 * @param {() => Promise<import("../../../pkg/index.d.ts").Ai>} start imports the package and makes an `Ai`; nothing of it is there yet
 * @param {number} repetition counts from 0
 * @returns {Promise<import("../alone/report.mjs").Measured>}
 */
export async function measure(start, repetition) {
  const begun = performance.now();
  const ai = await start();
  const { backend } = await ai.load(MODEL);
  const loadSeconds = seconds(begun, performance.now());
  const loadMemoryBytes = (await ai.stats()).memoryBytes;

  const first = await streamed(ai, { messages: FIRST_MESSAGES, max_tokens: 16 });

  const decode = () => streamed(ai, { prompt: DECODE_PROMPT, raw: true, max_tokens: DECODE_TOKENS });
  // A JavaScript engine compiles wasm well only once it has seen what is used often (in Chromium for some 30 tokens):
  // everything once unmeasured, and what follows is the speed that lasts.
  await prefill(ai, longPrompt(2 * repetition));
  await decode();
  const prompt = await prefill(ai, longPrompt(2 * repetition + 1));
  const answer = await decode();
  if (answer.tokens < FEWEST_TOKENS) throw new Error(`the answer ended after ${answer.tokens} tokens: too few to time`);

  return {
    backend,
    loadSeconds,
    firstTokenSeconds: first.times[0],
    prefillTokensPerSecond: prompt.tokens / prompt.seconds,
    // The first token comes out of the prompt's computation: it counts neither in the time nor in the tokens.
    decodeTokensPerSecond: (answer.tokens - 1) / (answer.times.at(-1) - answer.times[0]),
    loadMemoryBytes,
    peakMemoryBytes: (await ai.stats()).memoryBytes,
    prefillTokens: prompt.tokens,
    decodeTokens: answer.tokens,
  };
}

/** Computes a prompt, and one token of an answer, which comes with it. */
async function prefill(ai, prompt) {
  const begun = performance.now();
  const { usage } = await ai.run(MODEL, { prompt, raw: true, max_tokens: 1, temperature: 0 });
  const took = seconds(begun, performance.now());
  if (usage.prompt_tokens_details.cached_tokens > 0) throw new Error("the prompt was in a cache: its time says nothing");
  return { tokens: usage.prompt_tokens, seconds: took };
}
