// Models with LoRA adapters of random numbers, and the most likely tokens that llama.cpp computes with its own path for adapters.

import { readFile, writeFile } from "node:fs/promises";
import { randomAdapter } from "../adapters.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { PROMPTS, familyFile } from "./families.mjs";
import { nextOf } from "./llama-cpp.mjs";

/** @import { Adapter } from "../adapters.mjs" */

/** Where llama.cpp's first two log-probabilities are nearer to each other, either may come. Quantised activations are rounded differently. */
const MARGIN = 0.02;
const QUANTISED_MARGIN = 0.3;

/**
 * Llama's converter permutes query and key, those of the others do not; Phi-3's tensors have several matrices in one, Gemma has norms behind its
 * products.
 *
 * @type {Record<string, {file: () => Promise<Uint8Array>, architecture: string, size: number, margin: number, head?: number}>} `head`: the width of a
 *   head, where the converter permutes
 */
export const ADAPTED = {
  llama: { file: () => familyFile("llama"), architecture: "llama", size: 0.3, margin: MARGIN, head: 32 },
  qwen2: { file: () => familyFile("qwen2"), architecture: "qwen2", size: 0.3, margin: MARGIN },
  phi3: { file: () => familyFile("phi3"), architecture: "phi3", size: 0.3, margin: MARGIN },
  gemma3: { file: () => familyFile("gemma3"), architecture: "gemma3", size: 0.3, margin: MARGIN },
  "the real model": { file: async () => new Uint8Array(await readFile(MODEL_PATH)), architecture: "llama", size: 0.13, margin: QUANTISED_MARGIN, head: 64 },
};

/**
 * The file and the adapter of a case.
 *
 * @returns {Promise<{file: Uint8Array, adapter: Adapter}>}
 */
export async function caseOf(name) {
  const { file: read, architecture, size } = ADAPTED[name];
  const file = await read();
  return { file, adapter: randomAdapter(file, { architecture, size, rank: 8 }) };
}

const ANSWERS = new URL("answers/adapters.json", import.meta.url);

/** Asks llama.cpp. @returns {Promise<{llamaCpp: string, next: Record<string, (number | null)[]>}>} a token after each prompt, `null` if two are about as likely */
export async function askForAdapters(llamaCpp, asFile) {
  const next = {};
  for (const [name, { margin }] of Object.entries(ADAPTED)) {
    const { file, adapter } = await caseOf(name);
    next[name] = await nextOf(llamaCpp, file, PROMPTS, margin, asFile(adapter));
  }
  return { llamaCpp: llamaCpp.release, next };
}

export const readAdapters = async () => JSON.parse(await readFile(ANSWERS, "utf8"));

export const writeAdapters = (answers) => writeFile(ANSWERS, `${JSON.stringify(answers)}\n`);
