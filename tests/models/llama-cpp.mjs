// llama.cpp, through node-llama-cpp: the oracle of the tests of this folder.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureLlamaCpp } from "../../scripts/setup/llama-cpp.mjs";

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
 * The most likely tokens after each of these prompts, one after the other.
 *
 * @returns {Promise<number[][]>}
 */
export const continuationsOf = (llamaCpp, file, prompts, count) =>
  withModel(llamaCpp, file, {}, async (model) => {
    const continuations = [];
    for (const prompt of prompts) {
      const context = await model.createContext({ contextSize: 512, threads: 1 });
      const tokens = [];
      for await (const token of context.getSequence().evaluate(model.tokenize(prompt, true), { temperature: 0 })) {
        if (tokens.push(token) === count) break;
      }
      await context.dispose();
      continuations.push(tokens);
    }
    return continuations;
  });

/**
 * The logits after each of these tokens from position `first` on, in the order of the vocabulary. Keys and values are cached as F32, so that nothing
 * but the order of additions distinguishes them from exact arithmetic.
 *
 * @returns {Promise<Float32Array[]>}
 */
export const logitsOf = (llamaCpp, file, tokens, first) =>
  withModel(llamaCpp, file, {}, async (model) => {
    const context = await model.createContext({
      contextSize: Math.ceil(tokens.length / CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE,
      threads: 1,
      flashAttention: false,
      experimentalKvCacheKeyType: "F32",
      experimentalKvCacheValueType: "F32",
    });
    const logits = [];
    const input = tokens.map((token, position) => (position < first ? token : [token, { generateNext: { logits: true } }]));
    await context.getSequence().controlledEvaluate(input, {
      onTokenResult(position, { next }) {
        const ofToken = new Float32Array(next.logits.size);
        for (const [token, logit] of next.logits) ofToken[token] = logit;
        logits[position - first] = ofToken;
      },
    });
    await context.dispose();
    return logits;
  });

async function withModel({ llama }, file, options, work) {
  const folder = await mkdtemp(join(tmpdir(), "workers-ai-local-model-"));
  try {
    const modelPath = join(folder, "model.gguf");
    await writeFile(modelPath, file);
    const model = await llama.loadModel({ modelPath, ...options });
    const result = await work(model);
    await model.dispose();
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
