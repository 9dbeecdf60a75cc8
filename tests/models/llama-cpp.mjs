// llama.cpp, through node-llama-cpp: the oracle of the tests of this folder.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureLlamaCpp } from "../../scripts/setup/llama-cpp.mjs";

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
export async function tokensOf({ llama }, file, texts) {
  const folder = await mkdtemp(join(tmpdir(), "workers-ai-local-vocabulary-"));
  try {
    const modelPath = join(folder, "model.gguf");
    await writeFile(modelPath, file);
    const model = await llama.loadModel({ modelPath, vocabOnly: true });
    const tokens = texts.map((text) => model.tokenize(text, true));
    const addsBos = model.tokens.shouldPrependBosToken;
    await model.dispose();
    return { tokens, addsBos };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
