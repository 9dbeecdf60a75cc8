// A model with the shape of Llama 3 8B, larger than 4 GiB, that is not stored on disk: its server generates the bytes on request.
//
// The header is that of a real file, with a larger vocabulary. Every matrix is Q4_0, and its rows repeat those of a small pool. So a simple
// reference implementation can compute the expected logits (`large-model-reference.mjs`).

import { createServer } from "node:http";
import { listening } from "../scripts/lib/ports.mjs";
import { headOf, parseHeader, textsOf, withEntry, writeHeader } from "./gguf-fixtures.mjs";
import { Random } from "./random.mjs";
import { MODEL_PATH } from "./real-model.mjs";

export const LLAMA_8B = { width: 4096, layers: 32, heads: 32, kvHeads: 8, headWidth: 128, ffnWidth: 14_336, vocabulary: 128_256, ropeBase: 100_000 };

const F32 = 0;
const Q4_0 = 2;
/** Weights and bytes of a Q4_0 block: an f16 scale, then 16 bytes with two 4-bit codes each. */
export const BLOCK = { weights: 32, bytes: 18 };

/** Rows of a pool: a prime number, so that no matrix size is a multiple of it. */
export const POOL_ROWS = 251;

/**
 * A pool of `POOL_ROWS` Q4_0 rows with n columns each, as bytes. The product of a row with inputs of magnitude 1 also has a magnitude of
 * about 1. In `loud` all weights are twice as large.
 */
function makePool(columns, random) {
  const rowBytes = (columns / BLOCK.weights) * BLOCK.bytes;
  const bytes = Buffer.alloc(POOL_ROWS * rowBytes);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(random.int(0, 2 ** 32 - 1), Math.min(at, bytes.length - 4));
  const loud = Buffer.from(bytes);
  // Codes are about 4.6 away from zero, so scales should be about 0.2 / √columns: one power of two, with a random fraction and sign.
  const exponent = 15 + Math.round(Math.log2(0.15 / Math.sqrt(columns)));
  for (let at = 0; at < bytes.length; at += BLOCK.bytes) {
    const rest = random.int(0, 1023) | (random.int(0, 1) << 15);
    bytes.writeUInt16LE((exponent << 10) | rest, at);
    loud.writeUInt16LE(((exponent + 1) << 10) | rest, at);
  }
  return { columns, rowBytes, bytes, loud };
}

/** The weights of every RMSNorm, `[width]`. */
export const NORM = Float32Array.from({ length: LLAMA_8B.width }, (_, index) => 0.75 + (index % 11) / 20);

/**
 * A matrix. Its row `r` is row `(shift + r) % POOL_ROWS` of its pool; the weights of its last `loudRows` rows are twice as large.
 *
 * @typedef {{name: string, pool: object, rows: number, shift: number, loudRows: number}} Matrix
 */

/** The whole model: the bytes of its header, its tensors, its matrices by name, the texts of its vocabulary, and the file size in bytes. */
export async function largeModel() {
  const { width, layers, heads, kvHeads, headWidth, ffnWidth, vocabulary } = LLAMA_8B;
  const random = new Random(1);
  const [narrow, wide] = [makePool(width, random), makePool(ffnWidth, random)];
  const tensors = [];
  const matrices = {};
  let end = 0;
  const place = (name, dims, type, length, content) => {
    tensors.push({ name, dims, type, offset: end, length, ...content });
    end += length;
  };
  const matrix = (name, pool, rows, loudRows = 0) => {
    matrices[name] = { name, pool, rows, shift: random.int(0, POOL_ROWS - 1), loudRows };
    place(name, [pool.columns, rows], Q4_0, rows * pool.rowBytes, { matrix: matrices[name] });
  };
  const norm = (name) => place(name, [width], F32, 4 * width, { bytes: Buffer.from(NORM.buffer) });

  matrix("token_embd.weight", narrow, vocabulary);
  for (let layer = 0; layer < layers; layer += 1) {
    norm(`blk.${layer}.attn_norm.weight`);
    matrix(`blk.${layer}.ffn_down.weight`, wide, width);
    matrix(`blk.${layer}.ffn_gate.weight`, narrow, ffnWidth);
    matrix(`blk.${layer}.ffn_up.weight`, narrow, ffnWidth);
    norm(`blk.${layer}.ffn_norm.weight`);
    matrix(`blk.${layer}.attn_k.weight`, narrow, kvHeads * headWidth);
    matrix(`blk.${layer}.attn_output.weight`, narrow, width);
    matrix(`blk.${layer}.attn_q.weight`, narrow, heads * headWidth);
    matrix(`blk.${layer}.attn_v.weight`, narrow, kvHeads * headWidth);
  }
  norm("output_norm.weight");
  // The largest logit comes from the last rows of the file: if these are missing, the answer differs.
  matrix("output.weight", narrow, vocabulary, POOL_ROWS);

  const real = parseHeader(await headOf(MODEL_PATH));
  const { tokens, merges } = largerVocabulary(textsOf(real, "tokenizer.ggml.tokens"), textsOf(real, "tokenizer.ggml.merges"));
  const changes = {
    "general.name": "Llama 3 8B's shape",
    "llama.block_count": layers,
    "llama.embedding_length": width,
    "llama.feed_forward_length": ffnWidth,
    "llama.attention.head_count": heads,
    "llama.attention.head_count_kv": kvHeads,
    "llama.rope.dimension_count": headWidth,
    "llama.vocab_size": vocabulary,
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.merges": merges,
    "tokenizer.ggml.token_type": tokens.map((token) => (/^<.+>$/.test(token) ? CONTROL : NORMAL)),
  };
  const header = Object.entries(changes).reduce((header, [key, value]) => withEntry(header, key, value), real);
  const head = writeHeader({ ...header, tensors });
  return { head, tensors, matrices, tokens, size: head.length + end };
}

const NORMAL = 1;
const CONTROL = 3;

/** Extends a vocabulary with combinations of its words and endings, each with its merge. */
function largerVocabulary(tokens, merges) {
  const all = new Set(tokens);
  const further = [];
  const [words, endings] = [/^Ġ[a-z]{3,}$/, /^[a-z]{2,5}$/].map((pattern) => tokens.filter((token) => pattern.test(token)));
  for (const ending of endings) {
    for (const word of words) {
      if (all.size === LLAMA_8B.vocabulary) return { tokens: [...all], merges: [...merges, ...further] };
      if (!all.has(word + ending)) further.push(`${word} ${ending}`);
      all.add(word + ending);
    }
  }
  throw new Error("the real vocabulary has too few words");
}

/** The bytes of the file from an offset to the end, in pieces. The caller must not modify them. */
function* bytesFrom({ head, tensors }, offset) {
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
 * Serves a large model to pages of any origin; accepts range requests. The first connection is cut after `cut` bytes.
 *
 * @returns {Promise<{url: string, ranges: (number | undefined)[], close(): Promise<void>}>} `ranges`: the first byte that each request
 *   asked for; undefined for a request without a range
 */
export async function startLargeModelServer(model, { cut }) {
  const ranges = [];
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
      const rest = ranges.length === 1 ? cut - sent : piece.length;
      if (rest <= 0) return void response.destroy();
      await new Promise((resolve) => response.write(piece.subarray(0, rest), resolve));
      sent += piece.length;
    }
    response.end();
  });
  return { ...(await listening(server)), ranges };
}
