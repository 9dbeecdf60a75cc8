// Does one run of one contender of the comparison, in a new page or process.

import { COMPARE, CONTEXT } from "./workload.js";

/**
 * A contender that has loaded its model.
 *
 * @typedef {object} Contender
 * @property {boolean} prefixCache whether it reuses a cached prefix of a prompt by default
 * @property {string} [ran] its version or build and its number of threads, as it reports them
 * @property {(request: {prompt: string, tokens: number, maxTokens: number}) => Promise<Answer>} generate answers with greedy sampling
 * @property {() => Promise<number | undefined> | number | undefined} memoryBytes size of its WebAssembly memory in bytes
 *
 * @typedef {object} Answer
 * @property {number[]} times seconds from the call to the arrival of each token
 * @property {number} tokens number of tokens of the answer
 * @property {number} promptTokens number of tokens of the prompt
 * @property {number} cachedTokens number of tokens of the prompt that were cached and not computed
 */

/** Number of tokens of a new prompt that may be cached all the same, namely begin-of-text tokens. */
const SAME_BEGINNING = 2;

/**
 * Measures one contender.
 *
 * @param {() => Promise<Contender>} open imports the contender's code, which is not loaded yet, and loads the model
 * @param {{deep: boolean}} options `deep`: also measure with a context of 2,000 tokens
 * @throws if an answer is too short to measure, or a prompt was cached that must not be
 */
export async function measureContender(open, { deep }) {
  const begun = performance.now();
  const contender = await open();
  const loaded = (performance.now() - begun) / 1000;
  const first = await contender.generate(COMPARE.first);
  const figures = { readySeconds: loaded + first.times[0] };

  // A JavaScript engine optimises WebAssembly code only after it has run for a while (in Chromium for about 30 tokens). So compute a
  // prompt and an answer without measuring them; the speed is stable afterwards.
  let far;
  if (deep) {
    // First of all, so that memory contains only this one context, which ends at `CONTEXT` tokens.
    far = await fresh(contender, { ...COMPARE.deep, maxTokens: CONTEXT - COMPARE.deep.tokens });
    figures.memoryBytes = await contender.memoryBytes();
  } else {
    await fresh(contender, COMPARE.warmUp);
    await contender.generate(COMPARE.decode);
  }

  const prompt = await fresh(contender, COMPARE.prefill);
  figures.prefillTokensPerSecond = prompt.promptTokens / prompt.times[0];
  figures.decodeTokensPerSecond = rate(await contender.generate(COMPARE.decode), COMPARE.decode.maxTokens);
  figures.repeatTokensPerSecond = rate(await contender.generate(COMPARE.repeat), COMPARE.repeat.maxTokens);

  if (deep) {
    figures.shallowTokensPerSecond = rate(await contender.generate(COMPARE.shallow), COMPARE.shallow.maxTokens);
    // Without a prefix cache the prompt would be computed again, which takes minutes. Use the end of the first answer instead: its
    // context has the same length, and its beginning was the warm-up.
    const again = contender.prefixCache ? await contender.generate(COMPARE.deep) : far;
    figures.deepTokensPerSecond = rate(again, COMPARE.deep.maxTokens);
    figures.deepShare = figures.deepTokensPerSecond / figures.shallowTokensPerSecond;
  }
  if (contender.prefixCache) {
    const cold = await fresh(contender, COMPARE.cold);
    const warm = await contender.generate(COMPARE.warm);
    figures.coldSeconds = cold.times[0];
    figures.warmSeconds = warm.times[0];
    figures.warmShare = figures.warmSeconds / figures.coldSeconds;
    figures.warmCachedTokens = warm.cachedTokens;
  }
  return { ran: contender.ran, figures };
}

/** Generates from a prompt that must not be cached. */
async function fresh(contender, request) {
  const answer = await contender.generate(request);
  if (answer.cachedTokens > SAME_BEGINNING) throw new Error(`${answer.cachedTokens} tokens of the prompt were cached, so its time is meaningless`);
  return answer;
}

/**
 * Tokens per second over the last `wanted` tokens of an answer. The time of the last token is ignored, because some contenders hold text
 * back by one token and return the last two together.
 */
function rate({ times, tokens }, wanted) {
  if (tokens < 0.75 * wanted) throw new Error(`the answer ended after ${tokens} tokens, which are too few to measure`);
  if (times.length < tokens - 2) throw new Error(`${tokens} tokens arrived in ${times.length} pieces, so their times are unknown`);
  const [from, to] = [Math.max(0, times.length - wanted), times.length - 2];
  return (to - from) / (times[to] - times[from]);
}
