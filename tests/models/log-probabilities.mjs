// llama.cpp's log-probabilities after forced tokens, for every kind of model, as files of this folder. `npm run oracle` writes them.

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { brotliCompressSync, brotliDecompressSync } from "node:zlib";
import { KINDS, LONG_KINDS, caseOfKind } from "./kinds.mjs";
import { mostLikelyOf } from "./llama-cpp.mjs";

/**
 * @typedef {object} Answers to one kind
 * @property {string} input the hash of the file and the tokens
 * @property {number[][]} best for each position, the most likely tokens, most likely first
 * @property {number[][]} logs their log-probabilities
 */

/** The number of tokens that are stored for a position, the most likely first. */
const STORED = 8;

/** 1 / the precision of the stored log-probabilities. */
const PRECISION = 1e5;

const SETS = { short: KINDS, long: LONG_KINDS };

const fileOf = (set) => new URL(`answers/log-probabilities-${set}.json.br`, import.meta.url);

export const hashOf = ({ file, tokens }) => createHash("sha256").update(file).update(JSON.stringify(tokens)).digest("hex").slice(0, 16);

/** Asks llama.cpp. @returns {Promise<Record<string, Answers>>} */
export async function askForLogProbabilities(llamaCpp, set) {
  const answers = {};
  for (const [name, kind] of Object.entries(SETS[set])) {
    const { file, tokens, first } = await caseOfKind(kind);
    const positions = await mostLikelyOf(llamaCpp, file, tokens, first, STORED);
    const rounded = (log) => Math.round(log * PRECISION) / PRECISION;
    answers[name] = { input: hashOf({ file, tokens }), best: positions.map(({ best }) => best), logs: positions.map(({ logs }) => logs.map(rounded)) };
  }
  return answers;
}

export const writeLogProbabilities = (set, answers) => writeFile(fileOf(set), brotliCompressSync(JSON.stringify(answers)));

/** @returns {Promise<Record<string, Answers>>} */
export const readLogProbabilities = async (set) => JSON.parse(brotliDecompressSync(await readFile(fileOf(set))));
