// Models with the shapes of Llama 3 8B and Llama 2 7B, larger than 4 GiB, that are not stored on disk: their server generates the bytes on request.
//
// The header is that of a real file, with a larger vocabulary. All matrices are of one type, and their rows repeat those of a small pool. So a simple
// reference implementation can compute the expected logits (`large-model-reference.mjs`).

import { createServer } from "node:http";
import { listening } from "../scripts/lib/ports.mjs";
import { headOf, ints, parseHeader, textsOf, withEntry, writeHeader } from "./gguf-fixtures.mjs";
import { Random } from "./random.mjs";
import { MODEL_PATH } from "./real-model.mjs";

/** 4.5 GB in Q4_0. */
export const LLAMA_8B = { width: 4096, layers: 32, heads: 32, kvHeads: 8, headWidth: 128, ffnWidth: 14_336, vocabulary: 128_256, ropeBase: 100_000, type: "Q4_0" };
/** 7.3 GB in Q8_0; the vocabulary is the real file's. */
export const LLAMA_7B = { width: 4096, layers: 32, heads: 32, kvHeads: 32, headWidth: 128, ffnWidth: 11_008, vocabulary: 49_152, ropeBase: 100_000, type: "Q8_0" };

/** 0.3 GB, of which each token of context takes 3.7 MB. */
export const LARGE_CONTEXT = { width: 64, layers: 32, heads: 128, kvHeads: 128, headWidth: 256, ffnWidth: 64, vocabulary: 49_152, ropeBase: 100_000, type: "Q8_0" };

const F32 = 0;
/** Weights per block, of both types. */
export const BLOCK = 32;
/**
 * By type: its number in files, the bytes of a block (an f16 scale, then the codes: two of 4 bits in each byte, less 8; or one of 8 bits), and how far
 * random codes are from 0.
 */
export const TYPES = { Q4_0: { id: 2, bytes: 18, spread: 4.6 }, Q8_0: { id: 8, bytes: 34, spread: 74 } };

/** Rows of a pool: a prime number, so that no matrix size is a multiple of it. */
export const POOL_ROWS = 251;

/**
 * A pool of `POOL_ROWS` rows with n columns each, as bytes. The product of a row with inputs of magnitude 1 also has a magnitude of
 * about 1. In `loud` all weights are twice as large.
 */
function makePool(columns, type, random) {
  const { bytes: blockBytes, spread } = TYPES[type];
  const rowBytes = (columns / BLOCK) * blockBytes;
  const bytes = Buffer.alloc(POOL_ROWS * rowBytes);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(random.int(0, 2 ** 32 - 1), Math.min(at, bytes.length - 4));
  const loud = Buffer.from(bytes);
  // Scales should be about 1 / √columns, divided by the size of a code: one power of two, with a random fraction and sign.
  const exponent = 15 + Math.round(Math.log2(0.69 / spread / Math.sqrt(columns)));
  for (let at = 0; at < bytes.length; at += blockBytes) {
    const rest = random.int(0, 1023) | (random.int(0, 1) << 15);
    bytes.writeUInt16LE((exponent << 10) | rest, at);
    loud.writeUInt16LE(((exponent + 1) << 10) | rest, at);
  }
  return { type, columns, rowBytes, bytes, loud };
}

/** The weights of every RMSNorm, `[width]`. */
export const NORM = Float32Array.from({ length: 4096 }, (_, index) => 0.75 + (index % 11) / 20);

/**
 * A matrix. Its row `r` is row `(shift + r) % POOL_ROWS` of its pool; the weights of its last `loudRows` rows are twice as large.
 *
 * @typedef {{name: string, pool: object, rows: number, shift: number, loudRows: number}} Matrix
 */

/** The whole model: its shape, the bytes of its header, its tensors, its matrices by name, the texts of its vocabulary, and the file size in bytes. */
export async function largeModel(shape = LLAMA_8B) {
  const { width, layers, heads, kvHeads, headWidth, ffnWidth, vocabulary, type } = shape;
  const random = new Random(1);
  const pools = new Map();
  const poolOf = (columns) => pools.get(columns) ?? pools.set(columns, makePool(columns, type, random)).get(columns);
  const [narrow, wide] = [poolOf(width), poolOf(ffnWidth)];
  const tensors = [];
  const matrices = {};
  let end = 0;
  const place = (name, dims, type, length, content) => {
    tensors.push({ name, dims, type, offset: end, length, ...content });
    end += length;
  };
  const matrix = (name, pool, rows, loudRows = 0) => {
    matrices[name] = { name, pool, rows, shift: random.int(0, POOL_ROWS - 1), loudRows };
    place(name, [pool.columns, rows], TYPES[type].id, rows * pool.rowBytes, { matrix: matrices[name] });
  };
  const norm = (name) => place(name, [width], F32, 4 * width, { bytes: Buffer.from(NORM.buffer, 0, 4 * width) });

  matrix("token_embd.weight", narrow, vocabulary);
  for (let layer = 0; layer < layers; layer += 1) {
    norm(`blk.${layer}.attn_norm.weight`);
    matrix(`blk.${layer}.ffn_down.weight`, wide, width);
    matrix(`blk.${layer}.ffn_gate.weight`, narrow, ffnWidth);
    matrix(`blk.${layer}.ffn_up.weight`, narrow, ffnWidth);
    norm(`blk.${layer}.ffn_norm.weight`);
    matrix(`blk.${layer}.attn_k.weight`, narrow, kvHeads * headWidth);
    matrix(`blk.${layer}.attn_output.weight`, poolOf(heads * headWidth), width);
    matrix(`blk.${layer}.attn_q.weight`, narrow, heads * headWidth);
    matrix(`blk.${layer}.attn_v.weight`, narrow, kvHeads * headWidth);
  }
  norm("output_norm.weight");
  // The largest logit comes from the last rows of the file: if these are missing, the answer differs.
  matrix("output.weight", narrow, vocabulary, POOL_ROWS);

  const real = parseHeader(await headOf(MODEL_PATH));
  const { tokens, merges } = largerVocabulary(textsOf(real, "tokenizer.ggml.tokens"), textsOf(real, "tokenizer.ggml.merges"), vocabulary);
  const changes = {
    "general.name": "a large model",
    "llama.block_count": layers,
    "llama.embedding_length": width,
    "llama.feed_forward_length": ffnWidth,
    "llama.attention.head_count": heads,
    "llama.attention.head_count_kv": kvHeads,
    "llama.attention.key_length": headWidth,
    "llama.attention.value_length": headWidth,
    "llama.rope.dimension_count": headWidth,
    "llama.vocab_size": vocabulary,
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.merges": merges,
    "tokenizer.ggml.token_type": ints(tokens.map((token) => (/^<.+>$/.test(token) ? CONTROL : NORMAL))),
  };
  const header = Object.entries(changes).reduce((header, [key, value]) => withEntry(header, key, value), real);
  const head = writeHeader({ ...header, tensors });
  return { shape, head, tensors, matrices, tokens, size: head.length + end };
}

const NORMAL = 1;
const CONTROL = 3;

/** Extends a vocabulary with combinations of its words and endings, each with its merge. */
function largerVocabulary(tokens, merges, size) {
  const all = new Set(tokens);
  const further = [];
  const [words, endings] = [/^Ġ[a-z]{3,}$/, /^[a-z]{2,5}$/].map((pattern) => tokens.filter((token) => pattern.test(token)));
  for (const ending of endings) {
    for (const word of words) {
      if (all.size === size) return { tokens: [...all], merges: [...merges, ...further] };
      if (!all.has(word + ending)) further.push(`${word} ${ending}`);
      all.add(word + ending);
    }
  }
  throw new Error("the real vocabulary has too few words");
}

/** The bytes of the file from an offset to the end, in pieces. The caller must not modify them. */
export function* bytesFrom({ head, tensors }, offset) {
  if (offset < head.length) yield head.subarray(offset);
  for (const tensor of tensors) {
    const { matrix } = tensor;
    let at = Math.max(0, offset - head.length - tensor.offset);
    if (!matrix && at < tensor.length) yield tensor.bytes.subarray(at);
    while (matrix && at < tensor.length) {
      const { pool, shift, rows, loudRows } = matrix;
      const loudFrom = (rows - loudRows) * pool.rowBytes;
      const [bytes, end] = at < loudFrom ? [pool.bytes, loudFrom] : [pool.loud, tensor.length];
      const place = (shift * pool.rowBytes + at) % bytes.length;
      const piece = bytes.subarray(place, place + end - at);
      yield piece;
      at += piece.length;
    }
  }
}

/**
 * Serves a large model to pages of any origin; accepts range requests. The first connection that reads `cut` bytes is cut there.
 *
 * @returns {Promise<{url: string, ranges: (number | undefined)[], close(): Promise<void>}>} `ranges`: the first byte that each request
 *   asked for; undefined for a request without a range
 */
export async function startLargeModelServer(model, { cut }) {
  const ranges = [];
  let wasCut = false;
  const server = createServer(async (request, response) => {
    const start = /^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1];
    ranges.push(start && Number(start));
    const from = Number(start ?? 0);
    response.writeHead(start ? 206 : 200, {
      "access-control-allow-origin": "*",
      "access-control-expose-headers": "content-range",
      "content-length": model.size - from,
      // The browser must not store it on disk either.
      "cache-control": "no-store",
      ...(start && { "content-range": `bytes ${from}-${model.size - 1}/${model.size}` }),
    });
    let sent = 0;
    for (const piece of bytesFrom(model, from)) {
      if (response.destroyed) return;
      const rest = wasCut ? piece.length : cut - sent;
      if (rest <= 0) {
        wasCut = true;
        return void response.destroy();
      }
      await new Promise((resolve) => response.write(piece.subarray(0, rest), resolve));
      sent += piece.length;
    }
    response.end();
  });
  return { ...(await listening(server)), ranges };
}
