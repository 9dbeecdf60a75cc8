// llama.cpp's tokens of all texts in all cases, as files of this folder: so the comparison needs no llama.cpp. `npm run oracle` writes them.

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { CASES, caseOf } from "./cases.mjs";
import { modelFile } from "./files.mjs";
import { tokensOf } from "./llama-cpp.mjs";
import { COMPOSED, STRINGS } from "./strings.mjs";

/**
 * @typedef {object} Answers of one vocabulary
 * @property {string} llamaCpp its release
 * @property {string} texts their hash
 * @property {Record<string, {addsBos: boolean, tokens: number[][]}>} cases the tokens of each text, without BOS
 */

/** What llama.cpp is asked for. */
export const TEXTS = [...STRINGS, ...COMPOSED.values()];

export const HASH_OF_TEXTS = createHash("sha256").update(JSON.stringify(TEXTS)).digest("hex").slice(0, 16);

const fileOf = (vocabulary) => new URL(`answers/${vocabulary}.json.br`, import.meta.url);

/** Asks llama.cpp. @returns {Promise<Answers>} */
export async function askFor(llamaCpp, vocabulary) {
  const cases = {};
  for (const name of Object.keys(CASES[vocabulary])) {
    cases[name] = await tokensOf(llamaCpp, modelFile(await caseOf(vocabulary, name), { width: 32 }), TEXTS);
  }
  return { llamaCpp: llamaCpp.release, texts: HASH_OF_TEXTS, cases };
}

/** Cases mostly agree on a text: each text's different answers are stored once, and each group of equal cases as the numbers of its answers. */
export async function writeAnswers(vocabulary, { cases, ...rest }) {
  const answers = TEXTS.map(() => []);
  const groups = [];
  const compact = {};
  for (const [name, { addsBos, tokens }] of Object.entries(cases)) {
    const numbers = tokens.map((ids, index) => numberOf(answers[index], ids)).join(" ");
    compact[name] = { addsBos, group: numberOf(groups, numbers) };
  }
  const json = Buffer.from(JSON.stringify({ ...rest, cases: compact, groups, answers }));
  await writeFile(fileOf(vocabulary), brotliCompressSync(json, { params: { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: json.length } }));
}

/** @returns {Promise<Answers>} */
export async function readAnswers(vocabulary) {
  const { cases, groups, answers, ...rest } = JSON.parse(brotliDecompressSync(await readFile(fileOf(vocabulary))));
  const tokensOf = groups.map((numbers) => numbers.split(" ").map((number, index) => answers[index][number]));
  const entries = Object.entries(cases).map(([name, { addsBos, group }]) => [name, { addsBos, tokens: tokensOf[group] }]);
  return { ...rest, cases: Object.fromEntries(entries) };
}

/** The index of an equal element, which is added if there is none. */
function numberOf(list, value) {
  const text = JSON.stringify(value);
  const found = list.findIndex((other) => JSON.stringify(other) === text);
  return found >= 0 ? found : list.push(value) - 1;
}
