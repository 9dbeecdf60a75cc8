// A model of each family, with a real vocabulary and small random weights, and the most likely token that llama.cpp computes with it.

import { readFile, writeFile } from "node:fs/promises";
import { float } from "../gguf-fixtures.mjs";
import { modelFile } from "./files.mjs";
import { continuationsOf } from "./llama-cpp.mjs";
import { vocabularyOf } from "./vocabularies.mjs";

/** What the files of each family have beyond Llama's. Five layers, because SmolLM3 leaves RoPE out in every fourth one. */
const FAMILIES = {
  llama: {},
  qwen2: { biases: true },
  qwen3: { queryNorms: "heads" },
  granite: {
    metadata: {
      ".embedding_scale": float(12),
      ".residual_scale": float(0.22),
      ".attention.scale": float(0.05),
      ".logit_scale": float(8),
    },
  },
  smollm3: {},
};

export const FAMILY_NAMES = Object.keys(FAMILIES);

const STORY = await readFile(new URL("../fixtures/story.txt", import.meta.url), "utf8");

/** Ever longer beginnings of a text. */
export const PROMPTS = Array.from({ length: 48 }, (_, index) => STORY.slice(0, 12 + 17 * index));

/** Tokens of each continuation. A second one would often repeat the first, and the two be about as likely. */
export const LENGTH = 1;

export async function familyFile(name) {
  return modelFile(await vocabularyOf("smollm2"), { architecture: name, layers: 5, width: 256, context: 512, seed: 3, ...FAMILIES[name] });
}

const ANSWERS = new URL("answers/families.json", import.meta.url);

/** Asks llama.cpp. @returns {Promise<{llamaCpp: string, continuations: Record<string, number[][]>}>} */
export async function askForFamilies(llamaCpp) {
  const continuations = {};
  for (const name of FAMILY_NAMES) continuations[name] = await continuationsOf(llamaCpp, await familyFile(name), PROMPTS, LENGTH);
  return { llamaCpp: llamaCpp.release, continuations };
}

export const readFamilies = async () => JSON.parse(await readFile(ANSWERS, "utf8"));

export const writeFamilies = (answers) => writeFile(ANSWERS, `${JSON.stringify(answers)}\n`);
