// A model of each family, with a real vocabulary and chat template and small random weights, and the most likely token that llama.cpp computes with it:
// for the package, whose answers are texts.

import { readFile, writeFile } from "node:fs/promises";
import { CONVERSATIONS } from "./conversations.mjs";
import { modelFile } from "./files.mjs";
import { readTemplates } from "./jinja2.mjs";
import { KINDS } from "./kinds.mjs";
import { nextOf } from "./llama-cpp.mjs";
import { publishedVocabulary, templateNameOf } from "./published.mjs";

/** Architecture → its first kind, or one with more layers: Gemma's embeddings are large, and after few layers the last token itself is the most likely. */
const FAMILIES = {};
for (const kind of Object.values(KINDS)) FAMILIES[kind.architecture] ??= kind;
Object.assign(FAMILIES, { gemma2: KINDS["gemma2 of 27B"], gemma3: KINDS["gemma3 of 27B"] });

/** OLMo 2 must have an output matrix. Granite's embeddings are large too. */
const WITH_OUTPUT = ["granite", "olmo2"];

export const FAMILY_NAMES = Object.keys(FAMILIES);

const STORY = await readFile(new URL("../fixtures/story.txt", import.meta.url), "utf8");

/** Ever longer beginnings of a text. */
export const PROMPTS = Array.from({ length: 12 }, (_, index) => STORY.slice(0, 12 + 68 * index));

/** Conversations of `conversations.mjs`, which the family's template makes a prompt of. */
const CHATS = ["a question", "with a system turn", "several turns", "code", "JSON", "many turns"];

/** Where llama.cpp's first two log-probabilities are nearer to each other, either may come. */
const MARGIN = 0.02;

/** The embeddings are narrow, because they have up to 262,144 rows. */
const NARROW = { width: 64, heads: 2 };

export async function familyFile(name) {
  return modelFile(await publishedVocabulary(name), { ...NARROW, ...FAMILIES[name], width: NARROW.width, ownOutput: WITH_OUTPUT.includes(name) });
}

/**
 * What a family is asked for: the binding's input, and the text that it stands for.
 *
 * @returns {Promise<{input: object, text: string}[]>}
 */
export async function questionsOf(name) {
  const { conversations } = await templates;
  const rendered = conversations[templateNameOf(name)];
  const all = Object.keys(CONVERSATIONS);
  const chats = rendered ? CHATS.map((chat) => ({ input: CONVERSATIONS[chat], text: rendered[all.indexOf(chat)].text })) : [];
  // A template may refuse a conversation, for instance one with a system turn.
  return [...PROMPTS.map((text) => ({ input: { prompt: text, raw: true }, text })), ...chats.filter(({ text }) => text !== undefined)];
}

const templates = readTemplates();

const ANSWERS = new URL("answers/families.json", import.meta.url);

/** Asks llama.cpp. @returns {Promise<{llamaCpp: string, next: Record<string, (number | null)[]>}>} a token after each text, `null` if two are about as likely */
export async function askForFamilies(llamaCpp) {
  const next = {};
  for (const name of FAMILY_NAMES) {
    const texts = (await questionsOf(name)).map(({ text }) => text);
    next[name] = await nextOf(llamaCpp, await familyFile(name), texts, MARGIN);
  }
  return { llamaCpp: llamaCpp.release, next };
}

export const readFamilies = async () => JSON.parse(await readFile(ANSWERS, "utf8"));

export const writeFamilies = (answers) => writeFile(ANSWERS, `${JSON.stringify(answers)}\n`);
