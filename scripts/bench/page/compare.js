// One run of one contender of the comparison, in a fresh page or a fresh process.

import { COMPARE, CONTEXT } from "./workload.js";

/**
 * A contender that has loaded its model.
 *
 * @typedef {object} Contender
 * @property {boolean} prefixCache whether it finds a prompt's beginning again without being asked to
 * @property {string} [ran] what computed, in its own words
 * @property {(request: {prompt: string, tokens: number, maxTokens: number}) => Promise<Answer>} generate greedy
 * @property {() => Promise<number | undefined> | number | undefined} memoryBytes of its WebAssembly memory
 *
 * @typedef {object} Answer
 * @property {number[]} times seconds from the call to each token that came
 * @property {number} tokens of the answer
 * @property {number} promptTokens
 * @property {number} cachedTokens of the prompt, which were not computed
 */

/** Of a prompt, as many tokens may be found in a cache although its text is new: a mark of the beginning, not more. */
const SAME_BEGINNING = 2;

/**
 * @param {() => Promise<Contender>} open imports and loads; nothing of it is there yet
 * @param {{deep: boolean}} options without `deep` nothing is computed at 2,000 tokens
 */
export async function measureContender(open, { deep }) {
  const begun = performance.now();
  const contender = await open();
  const loaded = (performance.now() - begun) / 1000;
  const first = await contender.generate(COMPARE.first);
  const figures = { readySeconds: loaded + first.times[0] };

  // A JavaScript engine compiles wasm well only once it has seen what is used often (in Chromium for some 30 tokens): a
  // prompt and an answer unmeasured, and what follows is the speed that lasts.
  let far;
  if (deep) {
    // Before all else, so that the memory is that of one context. It ends at `CONTEXT` tokens.
    far = await fresh(contender, { ...COMPARE.deep, maxTokens: CONTEXT - COMPARE.deep.tokens });
    figures.memoryBytes = await contender.memoryBytes();
  } else {
    await fresh(contender, COMPARE.warmUp);
    await contender.generate(COMPARE.decode);
  }

  const prompt = await fresh(contender, COMPARE.prefill);
  figures.prefillTokensPerSecond = prompt.promptTokens / prompt.times[0];
  figures.decodeTokensPerSecond = rate(await contender.generate(COMPARE.decode), COMPARE.decode.maxTokens);

  if (deep) {
    figures.shallowTokensPerSecond = rate(await contender.generate(COMPARE.shallow), COMPARE.shallow.maxTokens);
    // Where nothing is kept, the prompt would be computed again, which takes minutes: the end of the first answer has
    // the same length, and its beginning was the warm-up.
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

/** Generates from a prompt that no cache may know. */
async function fresh(contender, request) {
  const answer = await contender.generate(request);
  if (answer.cachedTokens > SAME_BEGINNING) throw new Error(`${answer.cachedTokens} tokens of the prompt were in a cache: its time says nothing`);
  return answer;
}

/**
 * Tokens per second over the last `wanted` of an answer. Some hold text back by one token, and give the last two at
 * once; so the last time does not count.
 */
function rate({ times, tokens }, wanted) {
  if (tokens < 0.75 * wanted) throw new Error(`the answer ended after ${tokens} tokens: too few to time`);
  if (times.length < tokens - 2) throw new Error(`${tokens} tokens came in ${times.length} pieces: their times are not known`);
  const [from, to] = [Math.max(0, times.length - wanted), times.length - 2];
  return (to - from) / (times[to] - times[from]);
}
