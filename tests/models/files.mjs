// Whole GGUF files with a vocabulary of choice and small random weights.

import { Random } from "../random.mjs";
import { float, ggufFile, int, string } from "../gguf-fixtures.mjs";
import { entriesOf } from "./vocabularies.mjs";

/** @import { Vocabulary } from "./vocabularies.mjs" */

const HEAD_WIDTH = 32;

/**
 * A model with F32 weights. Its output matrix is its embedding.
 *
 * @param {Vocabulary} vocabulary
 * @param {object} [options]
 * @param {string} [options.architecture]
 * @param {boolean} [options.biases] of query, key and value
 * @param {boolean} [options.headNorms] of the heads of query and key
 * @param {number} [options.layers]
 * @param {number} [options.width] a multiple of 32
 * @param {number} [options.context] positions
 * @param {number} [options.seed] of the weights
 * @param {Record<string, object>} [options.metadata] entries that are added or replaced
 * @returns {Uint8Array}
 */
export function modelFile(vocabulary, { architecture = "llama", biases = false, headNorms = false, layers = 1, width = 64, context = 4096, seed = 1, metadata = {} } = {}) {
  const random = new Random(seed);
  const hidden = 2 * width;
  const heads = width / HEAD_WIDTH;
  const matrix = (name, rows, columns) => {
    const half = Math.sqrt(3 / columns);
    return { name, dims: [columns, rows], values: new Float32Array(rows * columns).map(() => (2 * random.next() - 1) * half) };
  };
  const norm = (name, length = width) => ({ name, dims: [length], values: new Float32Array(length).map(() => 0.5 + random.next()) });
  const bias = (name) => ({ name, dims: [width], values: new Float32Array(width).map(() => random.next() - 0.5) });
  const layer = (index) => [
    norm(`blk.${index}.attn_norm.weight`),
    matrix(`blk.${index}.attn_q.weight`, width, width),
    matrix(`blk.${index}.attn_k.weight`, width, width),
    matrix(`blk.${index}.attn_v.weight`, width, width),
    ...(biases ? ["q", "k", "v"].map((part) => bias(`blk.${index}.attn_${part}.bias`)) : []),
    ...(headNorms ? ["q", "k"].map((part) => norm(`blk.${index}.attn_${part}_norm.weight`, HEAD_WIDTH)) : []),
    matrix(`blk.${index}.attn_output.weight`, width, width),
    norm(`blk.${index}.ffn_norm.weight`),
    matrix(`blk.${index}.ffn_gate.weight`, hidden, width),
    matrix(`blk.${index}.ffn_up.weight`, hidden, width),
    matrix(`blk.${index}.ffn_down.weight`, width, hidden),
  ];
  const entries = {
    "general.architecture": string(architecture),
    "general.name": string("made by a test"),
    [`${architecture}.block_count`]: int(layers),
    [`${architecture}.context_length`]: int(context),
    [`${architecture}.embedding_length`]: int(width),
    [`${architecture}.feed_forward_length`]: int(hidden),
    [`${architecture}.attention.head_count`]: int(heads),
    [`${architecture}.attention.head_count_kv`]: int(heads),
    [`${architecture}.attention.layer_norm_rms_epsilon`]: float(1e-5),
    [`${architecture}.attention.key_length`]: int(HEAD_WIDTH),
    [`${architecture}.attention.value_length`]: int(HEAD_WIDTH),
    [`${architecture}.rope.dimension_count`]: int(HEAD_WIDTH),
    [`${architecture}.vocab_size`]: int(vocabulary.tokens.length),
    ...entriesOf(vocabulary),
    ...metadata,
  };
  const layerTensors = Array.from({ length: layers }, (_, index) => layer(index)).flat();
  return ggufFile(entries, [matrix("token_embd.weight", vocabulary.tokens.length, width), ...layerTensors, norm("output_norm.weight")]);
}
