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
 * The most likely token after each of these prompts; `null` if the second one's logit is nearer than `margin`.
 *
 * @returns {Promise<(number | null)[]>}
 */
export const nextOf = (llamaCpp, file, prompts, margin) =>
  withModel(llamaCpp, file, {}, async (model) => {
    const next = [];
    for (const prompt of prompts) {
      const bos = model.tokens.shouldPrependBosToken ? [model.tokens.bos] : [];
      const tokens = [...bos, ...model.tokenize(prompt, true)];
      const [logits] = await evaluate(model, tokens, tokens.length - 1);
      const [[first, largest], [, second]] = logits;
      next.push(largest - second < margin ? null : first);
    }
    return next;
  });

/**
 * The logits after each of these tokens from position `first` on, in the order of the vocabulary.
 *
 * @returns {Promise<Float32Array[]>}
 */
export const logitsOf = (llamaCpp, file, tokens, first) =>
  withModel(llamaCpp, file, {}, async (model) =>
    (await evaluate(model, tokens, first)).map((logits) => {
      const inOrder = new Float32Array(logits.length);
      for (const [token, logit] of logits) inOrder[token] = logit;
      return inOrder;
    }),
  );

/**
 * Tokens and their logits, largest first, at each position from `first` on. Keys and values are cached as F32, so that little but the order of
 * additions distinguishes them from exact arithmetic.
 *
 * @returns {Promise<[number, number][][]>}
 */
async function evaluate(model, tokens, first) {
  const context = await model.createContext({
    contextSize: Math.ceil(tokens.length / CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE,
    threads: 1,
    flashAttention: false,
    experimentalKvCacheKeyType: "F32",
    experimentalKvCacheValueType: "F32",
  });
  const input = tokens.map((token, position) => (position < first ? token : [token, { generateNext: { logits: true } }]));
  const outputs = await context.getSequence().controlledEvaluate(input);
  await context.dispose();
  return outputs.slice(first).map(({ next }) => [...next.logits]);
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
    const result = await work(model);
    await model.dispose();
    return result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
