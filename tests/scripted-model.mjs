// Tiny GGUF files (about 1 MB) whose answers are known exactly: the next token depends on the current one alone. For tests of everything
// around the arithmetic: templates, tokens, calls, stop strings, errors, files.
//
// How: the embedding of a token is one-hot, all matrices of the only layer are zero, and the output matrix has one large weight for each token, in
// the row of its successor. So the largest logit is the successor's by far, at any temperature.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { flag, float, ggufFile, int, ints, list, string } from "./gguf-fixtures.mjs";

/** @import { Random } from "./random.mjs" */

/** The chat template of SmolLM2 and of many other models, without a default system turn. */
export const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** Kinds of tokens in GGUF. */
export const NORMAL = 1;
export const UNKNOWN = 2;
export const CONTROL = 3;
export const USER_DEFINED = 4;
export const UNUSED = 5;
export const BYTE = 6;

/** A successor's weight. Its logit is √width times that, and all others are 0: at temperature 5 nothing else is ever drawn. */
const LOUD = 100;
/** The same where the other weights are random: less, so that it is not heard through the attention. Never another token up to temperature 1.5. */
const LOUD_IN_NOISE = 3;
/** Half the width of the random weights: of matrices that read the hidden state, of those that add to it, and of the words' logits. */
const NOISE = { reads: 0.09, adds: 0.009, words: 0.35 };

/** GPT-2's characters for the 256 bytes: printable ones stand for themselves. */
export const BYTE_CHARACTERS = (() => {
  const printable = (byte) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
})();

/** A text as the vocabulary spells it. */
export const spelled = (text) => Array.from(Buffer.from(text, "utf8"), (byte) => BYTE_CHARACTERS[byte]).join("");

/**
 * A model that answers every chat turn with `script`, and then ends its turn.
 *
 * @param {object} [options]
 * @param {(string | Uint8Array)[]} [options.script] the tokens of the answer, each a text or bytes; none twice
 * @param {string | null} [options.template] the chat template; `null` for none
 * @param {{text: string, kind: number}[]} [options.tokens] further tokens
 * @param {Record<string, string>} [options.next] further successors, by text: `{ from: to }`
 * @param {string} [options.after] the text of the token that the script follows: the last one of a generation prompt
 * @param {string} [options.eos] the token that ends a turn
 * @param {Record<string, object | null>} [options.metadata] entries that are added, replaced, or with `null` removed
 * @param {number} [options.context] positions
 * @param {number} [options.headWidth] of the only head: the memory that a position takes
 * @param {{random: Random, words: string[]}} [options.noise] random weights: where the script says nothing, the answer is made of these words,
 *   and depends on the whole prompt and on the seed
 * @returns {{bytes: Uint8Array, tokens: string[]}} the file, and its vocabulary as the file spells it
 */
export function scriptedModel({
  script = ["Hello", " there", "!"],
  template = CHATML,
  tokens: further = [],
  next = {},
  after = "\n",
  eos = "<|im_end|>",
  metadata = {},
  context = 2048,
  headWidth = 32,
  noise,
} = {}) {
  const tokens = [...BYTE_CHARACTERS];
  const kinds = tokens.map(() => NORMAL);
  const id = (token, kind = NORMAL) => {
    const known = tokens.indexOf(token);
    if (known >= 0) return known;
    kinds.push(kind);
    return tokens.push(token) - 1;
  };
  id("ÀÁ");
  for (const control of ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) id(control, CONTROL);
  for (const { text, kind } of further) id(kind === NORMAL ? spelled(text) : text, kind);
  const end = id(eos, CONTROL);
  const ofText = (text) => (tokens.includes(text) ? tokens.indexOf(text) : id(spelled(text)));
  const answer = script.map((piece) => (typeof piece === "string" ? ofText(piece) : id(Array.from(piece, (byte) => BYTE_CHARACTERS[byte]).join(""))));
  if (new Set(answer).size < answer.length) throw new Error("the script has a token twice: it would never end");
  const successors = new Map();
  [ofText(after), ...answer].forEach((token, index, all) => successors.set(token, all[index + 1] ?? end));
  for (const [from, to] of Object.entries(next)) successors.set(ofText(from), ofText(to));
  const words = noise ? [end, ...noise.words.map(ofText)] : [];

  const width = Math.ceil(tokens.length / 32) * 32;
  const drawn = (length, half) => new Float32Array(length).map(() => (2 * noise.random.next() - 1) * half);
  const matrix = (name, rows, columns, half = 0) => ({
    name,
    dims: [columns, rows],
    values: noise && half > 0 ? drawn(rows * columns, half) : new Float32Array(rows * columns),
  });
  const norm = (name) => ({ name, dims: [width], values: new Float32Array(width).fill(1) });
  const embedding = matrix("token_embd.weight", tokens.length, width);
  const output = matrix("output.weight", tokens.length, width);
  for (const word of words) output.values.set(drawn(width, NOISE.words), word * width);
  tokens.forEach((_, token) => {
    embedding.values[token * width + token] = 1;
    const next = successors.get(token) ?? (noise ? undefined : end);
    if (next !== undefined) output.values[next * width + token] = noise ? LOUD_IN_NOISE : LOUD;
  });
  const tensors = [
    embedding,
    norm("blk.0.attn_norm.weight"),
    matrix("blk.0.attn_q.weight", headWidth, width, NOISE.reads),
    matrix("blk.0.attn_k.weight", headWidth, width, NOISE.reads),
    matrix("blk.0.attn_v.weight", headWidth, width, NOISE.reads),
    matrix("blk.0.attn_output.weight", width, headWidth, NOISE.adds),
    norm("blk.0.ffn_norm.weight"),
    matrix("blk.0.ffn_gate.weight", headWidth, width, NOISE.reads),
    matrix("blk.0.ffn_up.weight", headWidth, width, NOISE.reads),
    matrix("blk.0.ffn_down.weight", width, headWidth, NOISE.adds),
    norm("output_norm.weight"),
    output,
  ];
  const entries = {
    "general.architecture": string("llama"),
    "general.name": string("scripted"),
    "llama.block_count": int(1),
    "llama.context_length": int(context),
    "llama.embedding_length": int(width),
    "llama.feed_forward_length": int(headWidth),
    "llama.attention.head_count": int(1),
    "llama.attention.head_count_kv": int(1),
    "llama.attention.key_length": int(headWidth),
    "llama.attention.value_length": int(headWidth),
    "llama.attention.layer_norm_rms_epsilon": float(1e-5),
    "llama.rope.dimension_count": int(headWidth),
    "llama.vocab_size": int(tokens.length),
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.pre": string("gpt-2"),
    "tokenizer.ggml.tokens": list(tokens.map(string)),
    "tokenizer.ggml.token_type": ints(kinds),
    // These bytes never occur in UTF-8, so a prompt has a token for each byte. The format requires one merge at least.
    "tokenizer.ggml.merges": list([string("À Á")]),
    "tokenizer.ggml.bos_token_id": int(tokens.indexOf("<|endoftext|>")),
    "tokenizer.ggml.eos_token_id": int(end),
    "tokenizer.ggml.add_bos_token": flag(false),
    "tokenizer.chat_template": template === null ? null : string(template),
    ...metadata,
  };
  const present = Object.entries(entries).filter(([, value]) => value !== null);
  return { bytes: ggufFile(Object.fromEntries(present), tensors), tokens };
}

/** A script that is a call of a tool. */
export const callScript = (name, values) => [`{"name": ${JSON.stringify(name)}, `, `"arguments": ${JSON.stringify(values)}}`];

/** Writes a scripted model to a file, for programs and servers that take a path; `remove` deletes it. */
export async function scriptedFile(options) {
  const folder = await mkdtemp(join(tmpdir(), "workers-ai-local-model-"));
  const path = join(folder, "scripted.gguf");
  await writeFile(path, scriptedModel(options).bytes);
  return { path, remove: () => rm(folder, { recursive: true, force: true }) };
}
