// llama.cpp, through node-llama-cpp: the oracle of the tests of this folder.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureLlamaCpp } from "../../scripts/setup/llama-cpp.mjs";
import { partName } from "../gguf-fixtures.mjs";

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
