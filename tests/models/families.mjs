// A model of each family, with a real vocabulary and small random weights, and the most likely token that llama.cpp computes with it: for the
// package, whose answers are texts.

import { readFile, writeFile } from "node:fs/promises";
import { modelFile } from "./files.mjs";
import { KINDS } from "./kinds.mjs";
import { nextOf } from "./llama-cpp.mjs";
import { vocabularyOf } from "./vocabularies.mjs";

/** Architecture → its first kind, or one with more layers: Gemma's embeddings are large, and after few layers the last token itself is the most likely. */
const FAMILIES = {};
for (const kind of Object.values(KINDS)) FAMILIES[kind.architecture] ??= kind;
Object.assign(FAMILIES, { gemma2: KINDS["gemma2 of 27B"], gemma3: KINDS["gemma3 of 27B"] });

/** Their own vocabularies, where they are published in a package. The embeddings are narrow then, because they have up to 262,144 rows. */
const OWN_VOCABULARIES = { llama: "llama-3.1", qwen3: "qwen-3", gemma3: "gemma-3" };

/** OLMo 2 must have an output matrix. Granite's embeddings are large too. */
const WITH_OUTPUT = ["granite", "olmo2"];

export const FAMILY_NAMES = Object.keys(FAMILIES);

const STORY = await readFile(new URL("../fixtures/story.txt", import.meta.url), "utf8");

/** Ever longer beginnings of a text. */
export const PROMPTS = Array.from({ length: 12 }, (_, index) => STORY.slice(0, 12 + 68 * index));

/** Where llama.cpp's first two log-probabilities are nearer to each other, either may come. */
const MARGIN = 0.02;

export const vocabularyOfFamily = (name) => vocabularyOf(OWN_VOCABULARIES[name] ?? "smollm2");

export async function familyFile(name) {
  const narrow = name in OWN_VOCABULARIES ? { width: 64 } : {};
  return modelFile(await vocabularyOfFamily(name), { ...FAMILIES[name], ...narrow, ownOutput: WITH_OUTPUT.includes(name) });
}

const ANSWERS = new URL("answers/families.json", import.meta.url);

/** Asks llama.cpp. @returns {Promise<{llamaCpp: string, next: Record<string, (number | null)[]>}>} a token after each prompt, `null` if two are about as likely */
export async function askForFamilies(llamaCpp) {
  const next = {};
  for (const name of FAMILY_NAMES) next[name] = await nextOf(llamaCpp, await familyFile(name), PROMPTS, MARGIN);
  return { llamaCpp: llamaCpp.release, next };
}

export const readFamilies = async () => JSON.parse(await readFile(ANSWERS, "utf8"));

export const writeFamilies = (answers) => writeFile(ANSWERS, `${JSON.stringify(answers)}\n`);
