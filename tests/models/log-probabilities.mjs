// llama.cpp's log-probabilities after forced tokens, for every kind of model, as files of this folder. `npm run oracle` writes them.

import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { brotliCompressSync, brotliDecompressSync } from "node:zlib";
import { KINDS, LONG_KINDS, caseOfKind } from "./kinds.mjs";
import { logitsOf } from "./llama-cpp.mjs";

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
    const positions = (await logitsOf(llamaCpp, file, tokens, first)).map(mostLikely);
    answers[name] = { input: hashOf({ file, tokens }), best: positions.map(({ best }) => best), logs: positions.map(({ logs }) => logs) };
  }
  return answers;
}

function mostLikely(logits) {
  const best = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, STORED);
  const largest = logits[best[0]];
  const total = largest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
  return { best, logs: best.map((token) => Math.round((logits[token] - total) * PRECISION) / PRECISION) };
}

export const writeLogProbabilities = (set, answers) => writeFile(fileOf(set), brotliCompressSync(JSON.stringify(answers)));

/** @returns {Promise<Record<string, Answers>>} */
export const readLogProbabilities = async (set) => JSON.parse(brotliDecompressSync(await readFile(fileOf(set))));
