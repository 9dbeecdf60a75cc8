// The real embedding model of the tests, all-MiniLM-L6-v2, and the vectors that two other implementations computed from its weights: candle natively,
// and ONNX Runtime.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { DEFAULT_EMBEDDINGS } from "../pkg/default-embeddings.js";
import { modelFolder } from "../pkg/default-model.js";

/** A catalogue id; the small model answers for it. */
export const EMBEDDING_MODEL = "@cf/baai/bge-base-en-v1.5";

const folder = path.join(modelFolder(process.env, homedir()), DEFAULT_EMBEDDINGS.folder);
/** The paths of its files. */
export const EMBEDDING_FILES = Object.fromEntries(["weights", "config", "tokenizer"].map((name) => [name, path.join(folder, DEFAULT_EMBEDDINGS[name].file)]));

const fixture = (name) => readFile(new URL(`fixtures/${name}`, import.meta.url), "utf8");
const numbers = (base64) => [...new Float32Array(new Uint8Array(Buffer.from(base64, "base64")).buffer)];

/**
 * The texts with their poolings and vectors.
 *
 * @returns {Promise<{text: string, pooling: "mean" | "cls", candle: number[], onnx: number[]}[]>}
 */
export async function expectedVectors() {
  const prose = await fixture("prose.txt");
  return JSON.parse(await fixture("embeddings.json")).map(({ text, prose: length, pooling, candle, onnx }) => {
    return { text: text ?? prose.slice(0, length), pooling, candle: numbers(candle), onnx: numbers(onnx) };
  });
}

export function cosine(a, b) {
  assert.equal(a.length, b.length);
  const product = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  return product(a, b) / Math.sqrt(product(a, a) * product(b, b));
}

/** What a small shop's help says, and questions with the number of the answer. */
export const HELP = {
  documents: [
    "Parcels within Europe arrive after three to five working days.",
    "You may return unused goods within thirty days and get your money back.",
    "We accept credit cards, bank transfer and cash on delivery.",
    "Wash the wool sweater by hand in cold water and dry it flat.",
    "To change your password, open the settings of your account.",
    "The shop in Lisbon is open from Monday to Saturday, ten to seven.",
  ],
  questions: [
    ["How long does delivery take?", 0],
    ["I don't like it, can I get a refund?", 1],
    ["Can I pay with Visa?", 2],
    ["How do I clean my pullover?", 3],
    ["I forgot my login", 4],
    ["At what time do you close?", 5],
  ],
};

/** Checks that each question's nearest document is the one that answers it. `embed` resolves to the vectors of texts. */
export async function assertFinds(embed) {
  const documents = await embed(HELP.documents);
  const questions = await embed(HELP.questions.map(([question]) => question));
  for (const [index, [question, answer]] of HELP.questions.entries()) {
    const scores = documents.map((document) => cosine(document, questions[index]));
    assert.equal(scores.indexOf(Math.max(...scores)), answer, `${question}: ${scores}`);
  }
}
