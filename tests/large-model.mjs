// A model of Llama 3 8B's shape, larger than 4 GiB, that lies on no disk: its server makes the bytes up as they are asked for.
//
// The header is a real file's whose vocabulary has further entries. Every matrix is Q4_0, and its rows are those of a small pool over
// and over; so what the model must answer can be computed plainly, as `large-model-twin.mjs` does.

import { createServer } from "node:http";
import { listening } from "../scripts/lib/ports.mjs";
import { headOf, parseHeader, textsOf, withEntry, writeHeader } from "./gguf-fixtures.mjs";
import { Random } from "./random.mjs";
import { MODEL_PATH } from "./real-model.mjs";

export const LLAMA_8B = { width: 4096, layers: 32, heads: 32, kvHeads: 8, headWidth: 128, ffnWidth: 14_336, vocabulary: 128_256, ropeBase: 100_000 };

const F32 = 0;
const Q4_0 = 2;
/** Weights and bytes of a Q4_0 block: a scale in f16, then 16 bytes of two codes each. */
export const BLOCK = { weights: 32, bytes: 18 };

/** Rows of a pool: a prime, so that it falls in step with none of the sizes. */
export const POOL_ROWS = 251;

/** Rows of so many columns, as bytes. Products with numbers around one are around one, and all of it is twice as much in `loud`. */
function makePool(columns, random) {
  const rowBytes = (columns / BLOCK.weights) * BLOCK.bytes;
  const bytes = Buffer.alloc(POOL_ROWS * rowBytes);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(random.int(0, 2 ** 32 - 1), Math.min(at, bytes.length - 4));
  const loud = Buffer.from(bytes);
  // Codes lie about 4.6 around zero, so scales are about 0.2 / √columns: a power of two, with any fraction and sign.
  const exponent = 15 + Math.round(Math.log2(0.15 / Math.sqrt(columns)));
  for (let at = 0; at < bytes.length; at += BLOCK.bytes) {
    const rest = random.int(0, 1023) | (random.int(0, 1) << 15);
    bytes.writeUInt16LE((exponent << 10) | rest, at);
    loud.writeUInt16LE(((exponent + 1) << 10) | rest, at);
  }
  return { columns, rowBytes, bytes, loud };
}

/** Scales of a norm. */
export const NORM = Float32Array.from({ length: LLAMA_8B.width }, (_, index) => 0.75 + (index % 11) / 20);

/**
 * A matrix: row `r` is row `(shift + r) % POOL_ROWS` of its pool. Its last `loudRows` rows are twice as large.
 *
 * @typedef {{name: string, pool: object, rows: number, shift: number, loudRows: number}} Matrix
 */

/** The whole model: its header with its tensors, the matrices by name, and the texts of its vocabulary. */
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
  // The largest logit stands in the very last rows of the file: without them the answer is another one.
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

/** A vocabulary that goes on with words and endings put together, each with its merge. */
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

/** The file's bytes from an offset on, in pieces that nobody may change. */
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
 * Serves a large model to pages of any origin, by range too. The first connection breaks after `cut` bytes.
 *
 * @returns {Promise<{url: string, ranges: (number | undefined)[], close(): Promise<void>}>} `ranges`: where each request began
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
      // Nor shall a browser lay it on a disk.
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
