// llama.cpp, through node-llama-cpp: the oracle of the tests of this folder.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureLlamaCpp } from "../../scripts/setup/llama-cpp.mjs";
import { partName } from "../gguf-fixtures.mjs";

/** llama.cpp rounds the sizes of contexts up to a multiple of this. */
const CONTEXT_MULTIPLE = 256;

/** Starts it. `release`: of llama.cpp; `close` ends it. */
export async function openLlamaCpp() {
  const { getLlama } = await import(pathToFileURL(await ensureLlamaCpp()).href);
  const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: "error" });
  return { release: llama.llamaCppRelease.release, llama, close: () => llama.dispose() };
}

/**
 * The tokens of texts, in which names of control tokens become these tokens, without BOS; and whether llama.cpp puts BOS before a prompt.
 *
 * @returns {Promise<{tokens: number[][], addsBos: boolean}>}
 */
export const tokensOf = (llamaCpp, file, texts) =>
  withModel(llamaCpp, file, { vocabOnly: true }, (model) => ({
    tokens: texts.map((text) => model.tokenize(text, true)),
    addsBos: model.tokens.shouldPrependBosToken,
  }));

/**
 * The most likely token after each of these prompts; `null` if the second one's logit is nearer than `margin`. `adapter`: the bytes of a LoRA adapter.
 *
 * @returns {Promise<(number | null)[]>}
 */
export const nextOf = (llamaCpp, file, prompts, margin, adapter) =>
  withModel(llamaCpp, file, {}, async (model, folder) => {
    const lora = adapter && join(folder, "adapter.gguf");
    if (lora) await writeFile(lora, adapter);
    const next = [];
    for (const prompt of prompts) {
      const tokens = model.tokenize(prompt, true);
      // Templates may write it themselves.
      if (model.tokens.shouldPrependBosToken && tokens[0] !== model.tokens.bos) tokens.unshift(model.tokens.bos);
      const [[[first, largest], [, second]]] = await evaluate(model, tokens, tokens.length - 1, (logits) => logits.slice(0, 2), { lora });
      next.push(largest - second < margin ? null : first);
    }
    return next;
  });

/**
 * The vectors of texts, computed by an embedding model: not of length 1. `ends`: texts end with EOS. (node-llama-cpp adds it only where there is a BOS
 * too, unlike llama.cpp.)
 *
 * @returns {Promise<number[][]>}
 */
export const vectorsOf = (llamaCpp, file, texts, { contextSize, ends }) =>
  withModel(llamaCpp, file, {}, async (model) => {
    const context = await model.createEmbeddingContext({ contextSize, batchSize: contextSize, threads: 1 });
    const vectors = [];
    for (const text of texts) {
      const tokens = [...model.tokenize(text), ...(ends ? [model.tokens.eos] : [])];
      vectors.push([...(await context.getEmbeddingFor(tokens)).vector]);
    }
    await context.dispose();
    return vectors;
  });

/**
 * The most likely tokens after each of these tokens from position `first` on, most likely first, with their log-probabilities.
 *
 * @returns {Promise<{best: number[], logs: number[]}[]>}
 */
export const mostLikelyOf = (llamaCpp, file, tokens, first, count) =>
  withModel(llamaCpp, file, {}, (model) =>
    evaluate(model, tokens, first, (logits) => {
      const [[, largest]] = logits;
      const total = largest + Math.log(logits.reduce((sum, [, logit]) => sum + Math.exp(logit - largest), 0));
      const best = logits.slice(0, count);
      return { best: best.map(([token]) => token), logs: best.map(([, logit]) => logit - total) };
    }),
  );

/**
 * What is made of the tokens and their logits, largest first, at each position from `first` on. Keys and values are cached as F32, so that little but
 * the order of additions distinguishes them from exact arithmetic.
 *
 * @template T
 * @param {(logits: [number, number][]) => T} make called for one position after the other: all logits of a large vocabulary take much memory
 * @param {{lora?: string}} [options] of the context
 * @returns {Promise<T[]>}
 */
async function evaluate(model, tokens, first, make, options = {}) {
  const context = await model.createContext({
    ...options,
    contextSize: Math.ceil(tokens.length / CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE,
    threads: 1,
    flashAttention: false,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32",
  });
  const sequence = context.getSequence();
  if (first > 0) await sequence.controlledEvaluate(tokens.slice(0, first));
  const made = [];
  for (const token of tokens.slice(first)) {
    const [{ next }] = await sequence.controlledEvaluate([[token, { generateNext: { logits: true } }]]);
    made.push(make([...next.logits]));
  }
  await context.dispose();
  return made;
}

/** `file`: the bytes of a model, or those of each part of a split one. */
async function withModel({ llama }, file, options, work) {
  const folder = await mkdtemp(join(tmpdir(), "workers-ai-local-model-"));
  try {
    const files = [file].flat();
    const paths = files.map((_, part) => join(folder, files.length > 1 ? partName("model", part, files.length) : "model.gguf"));
    for (const [part, path] of paths.entries()) await writeFile(path, files[part]);
    const [modelPath] = paths;
    const model = await llama.loadModel({ modelPath, ...options });
    const result = await work(model, folder);
    await model.dispose();
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
