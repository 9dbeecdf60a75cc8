// Whole GGUF files with a vocabulary of choice and small random weights.

import { Random } from "../random.mjs";
import { float, ggufFile, int, string } from "../gguf-fixtures.mjs";
import { entriesOf } from "./vocabularies.mjs";

/** @import { Vocabulary } from "./vocabularies.mjs" */

/** So many values of a matrix are random, then they repeat: a prime number, so that no two rows are the same. */
const DRAWN = 999_983;

/**
 * A model with F32 weights.
 *
 * @param {Vocabulary} vocabulary
 * @param {object} [options]
 * @param {string} [options.architecture]
 * @param {number} [options.layers]
 * @param {number} [options.width]
 * @param {number} [options.ffnWidth] of the feed-forward network
 * @param {number} [options.headWidth]
 * @param {number} [options.heads] of queries
 * @param {number} [options.kvHeads] of keys and values
 * @param {number} [options.turned] dimensions of a head that RoPE rotates
 * @param {number} [options.context] positions
 * @param {boolean} [options.ownOutput] the output matrix is not the embedding
 * @param {boolean} [options.fusedAttention] query, key and value are one matrix
 * @param {boolean} [options.fusedGate] the rows of the gate are the first half of `ffn_up`
 * @param {boolean} [options.biases] of query, key and value
 * @param {"heads" | "whole"} [options.queryNorms] norms of query and key: of each head, or of all heads together
 * @param {boolean} [options.normsBefore] attention and feed-forward network
 * @param {boolean} [options.normsBehind] attention and feed-forward network
 * @param {string} [options.ffnNorm] the name of the norm before the feed-forward network
 * @param {Record<string, number[]>} [options.vectors] further tensors
 * @param {Record<string, [rows: number, columns: number]>} [options.matrices] further tensors with random weights
 * @param {number} [options.seed] of the weights
 * @param {Record<string, object | undefined>} [options.metadata] entries that are added, replaced or (if undefined) left out; keys that begin with a
 *   dot follow the architecture's name
 * @returns {Uint8Array}
 */
export function modelFile(
  vocabulary,
  {
    architecture = "llama",
    layers = 1,
    width = 64,
    ffnWidth = 2 * width,
    headWidth = 32,
    heads = width / headWidth,
    kvHeads = heads,
    turned = headWidth,
    context = 4096,
    ownOutput = false,
    fusedAttention = false,
    fusedGate = false,
    biases = false,
    queryNorms,
    normsBefore = true,
    normsBehind = false,
    ffnNorm = "ffn_norm",
    vectors = {},
    matrices = {},
    seed = 1,
    metadata = {},
  } = {},
) {
  const random = new Random(seed);
  const queryWidth = heads * headWidth;
  const kvWidth = kvHeads * headWidth;
  const vector = (name, values) => ({ name, dims: [values.length], values: Float32Array.from(values) });
  const matrix = (name, rows, columns) => {
    const half = Math.sqrt(3 / columns);
    const values = new Float32Array(rows * columns);
    const drawn = values.subarray(0, DRAWN).map(() => (2 * random.next() - 1) * half);
    for (let start = 0; start < values.length; start += DRAWN) values.set(drawn.subarray(0, values.length - start), start);
    return { name, dims: [columns, rows], values };
  };
  const norm = (name, length = width) => vector(name, Array.from({ length }, () => 0.5 + random.next()));
  const bias = (name, length) => vector(name, Array.from({ length }, () => random.next() - 0.5));
  const normOf = (heads) => (queryNorms === "heads" ? headWidth : heads * headWidth);
  const layer = (index) => {
    const name = (part, kind = "weight") => `blk.${index}.${part}.${kind}`;
    return [
      normsBefore && norm(name("attn_norm")),
      ...(fusedAttention
        ? [matrix(name("attn_qkv"), queryWidth + 2 * kvWidth, width)]
        : [matrix(name("attn_q"), queryWidth, width), matrix(name("attn_k"), kvWidth, width), matrix(name("attn_v"), kvWidth, width)]),
      ...(biases ? [bias(name("attn_q", "bias"), queryWidth), bias(name("attn_k", "bias"), kvWidth), bias(name("attn_v", "bias"), kvWidth)] : []),
      ...(queryNorms ? [norm(name("attn_q_norm"), normOf(heads)), norm(name("attn_k_norm"), normOf(kvHeads))] : []),
      matrix(name("attn_output"), width, queryWidth),
      normsBehind && norm(name("post_attention_norm")),
      normsBefore && norm(name(ffnNorm)),
      ...(fusedGate ? [matrix(name("ffn_up"), 2 * ffnWidth, width)] : [matrix(name("ffn_gate"), ffnWidth, width), matrix(name("ffn_up"), ffnWidth, width)]),
      matrix(name("ffn_down"), width, ffnWidth),
      normsBehind && norm(name("post_ffw_norm")),
    ].filter(Boolean);
  };
  const entries = {
    "general.architecture": string(architecture),
    "general.name": string("made by a test"),
    ".block_count": int(layers),
    ".context_length": int(context),
    ".embedding_length": int(width),
    ".feed_forward_length": int(ffnWidth),
    ".attention.head_count": int(heads),
    ".attention.head_count_kv": int(kvHeads),
    ".attention.layer_norm_rms_epsilon": float(1e-5),
    ".attention.key_length": int(headWidth),
    ".attention.value_length": int(headWidth),
    ".rope.dimension_count": int(turned),
    ".vocab_size": int(vocabulary.tokens.length),
    ...entriesOf(vocabulary),
    ...metadata,
  };
  const named = Object.entries(entries).flatMap(([key, value]) => (value ? [[key.startsWith(".") ? architecture + key : key, value]] : []));
  const layerTensors = Array.from({ length: layers }, (_, index) => layer(index)).flat();
  return ggufFile(Object.fromEntries(named), [
    matrix("token_embd.weight", vocabulary.tokens.length, width),
    ...Object.entries(vectors).map(([name, values]) => vector(name, values)),
    ...layerTensors,
    norm("output_norm.weight"),
    ...Object.entries(matrices).map(([name, shape]) => matrix(name, ...shape)),
    ...(ownOutput ? [matrix("output.weight", vocabulary.tokens.length, width)] : []),
  ]);
}
