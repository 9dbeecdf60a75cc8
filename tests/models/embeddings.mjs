// Embedding models of the engine's own: each kind with a real vocabulary and small random weights, and the vectors that llama.cpp computes with it.

import { readFile, writeFile } from "node:fs/promises";
import { flag, float, int } from "../gguf-fixtures.mjs";
import { modelFile } from "./files.mjs";
import { vectorsOf } from "./llama-cpp.mjs";
import { publishedVocabulary } from "./published.mjs";

const STORY = await readFile(new URL("../fixtures/story.txt", import.meta.url), "utf8");

/** Positions; the longest text has fewer tokens, and more than are computed together. */
const CONTEXT = 512;

/** Short texts, which are computed together, and one that is longer than every window. */
export const TEXTS = ["A cat sleeps.", "Grüße aus 東京 🗼", "a", STORY.slice(0, 240), STORY.slice(0, 1500), "The last one, after the long one."];

const WIDTH = 64;
const USUAL = { layers: 4, width: WIDTH, headWidth: 32, heads: 4, kvHeads: 2, context: CONTEXT, seed: 9, queryNorms: "heads" };
const MEAN = int(1);
const FIRST = int(2);
const LAST = int(3);

const QWEN3 = { ...USUAL, architecture: "qwen3" };
const ENDS = { "tokenizer.ggml.add_eos_token": flag(true) };

/** The seven layers have windows in a period of six. */
const GEMMA = {
  ...USUAL,
  architecture: "gemma-embedding",
  vocabulary: "gemma3",
  layers: 7,
  kvHeads: 1,
  normsBehind: true,
  metadata: { ...ENDS, ".pooling_type": MEAN, ".rope.freq_base": float(1_000_000), ".attention.sliding_window": int(16) },
};

/** By name: the options of `modelFile`. */
export const EMBEDDING_KINDS = {
  "qwen3, the last token": { ...QWEN3, metadata: { ...ENDS, ".pooling_type": LAST } },
  "qwen3, the first token": { ...QWEN3, metadata: { ".pooling_type": FIRST } },
  "qwen3, the mean": { ...QWEN3, metadata: { ".pooling_type": MEAN } },
  "gemma-embedding": GEMMA,
  "gemma-embedding, with dense matrices": {
    ...GEMMA,
    matrices: { "dense_2.weight": [3 * WIDTH, WIDTH], "dense_3.weight": [WIDTH, 3 * WIDTH] },
    metadata: {
      ...GEMMA.metadata,
      ".dense_2_feat_in": int(WIDTH),
      ".dense_2_feat_out": int(3 * WIDTH),
      ".dense_3_feat_in": int(3 * WIDTH),
      ".dense_3_feat_out": int(WIDTH),
    },
  },
};

export async function embeddingFile(kind) {
  const { vocabulary, ...options } = EMBEDDING_KINDS[kind];
  return modelFile(await publishedVocabulary(vocabulary ?? options.architecture), options);
}

const ANSWERS = new URL("answers/embeddings.json", import.meta.url);

/** Asks llama.cpp. @returns {Promise<{llamaCpp: string, vectors: Record<string, string[]>}>} each vector's numbers as base64 */
export async function askForEmbeddings(llamaCpp) {
  const vectors = {};
  for (const kind of Object.keys(EMBEDDING_KINDS)) {
    const ends = "tokenizer.ggml.add_eos_token" in EMBEDDING_KINDS[kind].metadata;
    const numbers = await vectorsOf(llamaCpp, await embeddingFile(kind), TEXTS, { contextSize: CONTEXT, ends });
    vectors[kind] = numbers.map((vector) => Buffer.from(Float32Array.from(vector).buffer).toString("base64"));
  }
  return { llamaCpp: llamaCpp.release, vectors };
}

/** @returns {Promise<Record<string, number[][]>>} the vectors of the texts, by kind */
export async function readEmbeddings() {
  const { vectors } = JSON.parse(await readFile(ANSWERS, "utf8"));
  const numbers = (base64) => [...new Float32Array(new Uint8Array(Buffer.from(base64, "base64")).buffer)];
  return Object.fromEntries(Object.entries(vectors).map(([kind, list]) => [kind, list.map(numbers)]));
}

export const writeEmbeddings = (answers) => writeFile(ANSWERS, `${JSON.stringify(answers)}\n`);
