// A reference implementation of the model of `large-model.mjs`, in f64: computes the logits that the model must return.
//
// A product with a matrix is computed once per row of its pool, because the matrix only repeats these rows.

import assert from "node:assert/strict";
import { BLOCK, NORM, POOL_ROWS, TYPES } from "./large-model.mjs";

const EPSILON = 1e-5;

/** The value of an f16, which must be a normal number (not subnormal, infinite or NaN). */
const half = (bits) => (bits >> 15 ? -1 : 1) * (1 + (bits & 1023) / 1024) * 2 ** (((bits >> 10) & 31) - 15);

/** The dequantised weights of a pool, `[POOL_ROWS, columns]`. */
const numbersOf = memoised(({ bytes, columns, type }) => {
  const numbers = new Float32Array(POOL_ROWS * columns);
  const codeOf = {
    Q4_0: (at, index) => (index < 16 ? bytes[at + index] & 15 : bytes[at + index - 16] >> 4) - 8,
    Q8_0: (at, index) => bytes.readInt8(at + index),
  }[type];
  for (let block = 0; block * TYPES[type].bytes < bytes.length; block += 1) {
    const at = block * TYPES[type].bytes;
    const scale = half(bytes.readUInt16LE(at));
    for (let index = 0; index < BLOCK; index += 1) numbers[block * BLOCK + index] = scale * codeOf(at + 2, index);
  }
  return numbers;
});

function memoised(compute) {
  const known = new Map();
  return (key) => known.get(key) ?? known.set(key, compute(key)).get(key);
}

const poolRow = ({ shift }, row) => (shift + row) % POOL_ROWS;
const loudness = ({ rows, loudRows }, row) => (row < rows - loudRows ? 1 : 2);

function embed(matrix, token) {
  const { columns } = matrix.pool;
  const row = poolRow(matrix, token);
  return Float64Array.from(numbersOf(matrix.pool).subarray(row * columns, (row + 1) * columns));
}

function product(matrix, input) {
  const numbers = numbersOf(matrix.pool);
  const sums = new Float64Array(POOL_ROWS);
  for (let row = 0; row < POOL_ROWS; row += 1) {
    let sum = 0;
    for (let column = 0, at = row * input.length; column < input.length; column += 1, at += 1) sum += numbers[at] * input[column];
    sums[row] = sum;
  }
  return Float64Array.from({ length: matrix.rows }, (_, row) => loudness(matrix, row) * sums[poolRow(matrix, row)]);
}

function normed(input) {
  const scale = 1 / Math.sqrt(input.reduce((sum, value) => sum + value * value, 0) / input.length + EPSILON);
  return input.map((value, index) => value * scale * NORM[index]);
}

/** RoPE: rotates each pair of neighbouring values of every head by the angle of that pair at a position. */
function turned(row, position, { headWidth, ropeBase }) {
  const result = new Float64Array(row.length);
  for (let at = 0; at < row.length; at += 2) {
    const angle = position * ropeBase ** (-(at % headWidth) / headWidth);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    result[at] = row[at] * cos - row[at + 1] * sin;
    result[at + 1] = row[at] * sin + row[at + 1] * cos;
  }
  return result;
}

function attention(query, keys, values, { heads, kvHeads, headWidth }) {
  const result = new Float64Array(query.length);
  for (let head = 0; head < heads; head += 1) {
    const first = Math.floor((head * kvHeads) / heads) * headWidth;
    const own = query.subarray(head * headWidth, (head + 1) * headWidth);
    const scores = keys.map((key) => own.reduce((sum, value, index) => sum + value * key[first + index], 0) / Math.sqrt(headWidth));
    const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (const [position, weight] of weights.entries()) {
      for (let index = 0; index < headWidth; index += 1) result[head * headWidth + index] += (weight / total) * values[position][first + index];
    }
  }
  return result;
}

const plus = (a, b) => a.map((value, index) => value + b[index]);

/** The logits after the last of the tokens, `[vocabulary]`. Computes all tokens from position 0. */
function logitsOf({ matrices, shape }, tokens) {
  const cache = Array.from({ length: shape.layers }, () => ({ keys: [], values: [] }));
  let stream;
  for (const [position, token] of tokens.entries()) {
    stream = embed(matrices["token_embd.weight"], token);
    for (const [layer, { keys, values }] of cache.entries()) {
      const times = (part, input) => product(matrices[`blk.${layer}.${part}.weight`], input);
      const input = normed(stream);
      keys.push(turned(times("attn_k", input), position, shape));
      values.push(times("attn_v", input));
      stream = plus(stream, times("attn_output", attention(turned(times("attn_q", input), position, shape), keys, values, shape)));
      const inner = normed(stream);
      const up = times("ffn_up", inner);
      const gated = times("ffn_gate", inner).map((gate, index) => (gate / (1 + Math.exp(-gate))) * up[index]);
      stream = plus(stream, times("ffn_down", gated));
    }
  }
  return product(matrices["output.weight"], normed(stream));
}

/**
 * The text of the token that is likeliest after others, which no rounding can change.
 *
 * @param {object} model from `large-model.mjs`
 * @param {string[]} prompt tokens as its vocabulary spells them
 */
export function likeliestAfter(model, prompt) {
  const logits = logitsOf(model, prompt.map((text) => model.tokens.indexOf(text)));
  const [first, second] = [...logits.keys()].sort((a, b) => logits[b] - logits[a]);
  assert.ok(logits[first] - logits[second] > 0.2, `precondition: rounding cannot change the likeliest token (${logits[first]}, ${logits[second]})`);
  return model.tokens[first].replace("Ġ", " ");
}
