// Random and damaged GGUF files: tiny models of any shape and type of weights, and mutations of valid files.

import { flag, float, ggufFile, int, ints, list, parseHeader, string, u32, u64, writeHeader } from "./gguf-fixtures.mjs";
import { BYTE_CHARACTERS, CHATML, CONTROL, NORMAL, scriptedModel } from "./scripted-model.mjs";

/** GGML type → elements and bytes of a block, of all types that weights can have. */
const BLOCKS = {
  0: [1, 4], 1: [1, 2], 30: [1, 2], 2: [32, 18], 3: [32, 20], 6: [32, 22], 7: [32, 24], 8: [32, 34], 10: [256, 84], 11: [256, 110], 12: [256, 144],
  13: [256, 176], 14: [256, 210],
};
const F32 = 0;
/** GGML type → where the 16-bit scales and offsets of a block are. */
const SCALES = { 1: [0], 30: [0], 2: [0], 3: [0, 2], 6: [0], 7: [0, 2], 8: [0], 10: [80, 82], 11: [108], 12: [0, 2], 13: [0, 2], 14: [208] };

/** The bytes of a valid scripted model; few forms, so that they are made once. */
const SCRIPTED = [{}, { template: null }, { script: ['{"name": "f"', "}"], context: 64 }].map((options) => () => scriptedModel(options).bytes);
const made = new Map();
function scripted(random) {
  const make = random.pick(SCRIPTED);
  if (!made.has(make)) made.set(make, make());
  return made.get(make);
}

/**
 * A model whose header is consistent, of random sizes and types of weights. Its weights are small random numbers, or random bytes: then scales,
 * norms and logits are any number, among them infinite ones and NaN.
 */
export function tinyModel(random) {
  const layers = random.int(1, 3);
  const kvHeads = random.int(1, 3);
  const heads = kvHeads * random.int(1, 4);
  const headWidth = 2 * random.int(1, 40);
  const width = random.chance(0.4) ? 256 * random.int(1, 2) : random.chance(0.7) ? 32 * random.int(1, 6) : random.int(1, 100);
  const ffnWidth = random.chance(0.4) ? 256 : random.chance(0.7) ? 32 * random.int(1, 8) : random.int(1, 100);
  const further = Array.from({ length: random.int(0, 40) }, (_, index) => BYTE_CHARACTERS[97 + (index % 26)].repeat(2 + Math.floor(index / 26)));
  const tokens = [...BYTE_CHARACTERS, ...further, "ÀÁ", "<|endoftext|>", "<|im_start|>", "<|im_end|>"];
  const kinds = tokens.map((token) => (token.startsWith("<|") ? CONTROL : NORMAL));
  const isWild = random.chance(0.25);

  const tensor = (name, dims) => {
    const [columns, rows = 1] = dims;
    const types = Object.keys(BLOCKS).filter((type) => columns % BLOCKS[type][0] === 0);
    const type = dims.length === 1 ? F32 : Number(random.pick(types));
    const [elements, bytes] = BLOCKS[type];
    if (type === F32 && !isWild) return { name, dims, values: new Float32Array(columns * rows).map(() => (dims.length === 1 ? 1 : random.next() - 0.5)) };
    const length = ((columns * rows) / elements) * bytes;
    const data = new Uint8Array(new Uint32Array(Math.ceil(length / 4)).map(() => random.next() * 2 ** 32).buffer, 0, length);
    // Small and finite scales: the upper bits of their exponents are zero.
    if (!isWild) for (const place of SCALES[type]) for (let at = place + 1; at < data.length; at += bytes) data[at] &= 0xaf;
    return { name, dims, type, bytes: data };
  };
  const [q, kv] = [heads * headWidth, kvHeads * headWidth];
  const tensors = [tensor("token_embd.weight", [width, tokens.length])];
  for (let layer = 0; layer < layers; layer += 1) {
    for (const [name, dims] of Object.entries({
      attn_norm: [width], attn_q: [width, q], attn_k: [width, kv], attn_v: [width, kv], attn_output: [q, width],
      ffn_norm: [width], ffn_gate: [width, ffnWidth], ffn_up: [width, ffnWidth], ffn_down: [ffnWidth, width],
    })) tensors.push(tensor(`blk.${layer}.${name}.weight`, dims));
  }
  tensors.push(tensor("output_norm.weight", [width]));
  if (random.chance(0.7)) tensors.push(tensor("output.weight", [width, tokens.length]));
  const entries = {
    "general.architecture": string("llama"),
    "llama.block_count": int(layers),
    "llama.context_length": int(random.chance(0.9) ? random.pick([40, 100, 2048, 1 << 20, 2 ** 24]) : random.pick([1, 2, 2 ** 31, 2 ** 32 - 1])),
    "llama.embedding_length": int(width),
    "llama.feed_forward_length": int(ffnWidth),
    "llama.attention.head_count": int(heads),
    "llama.attention.head_count_kv": int(kvHeads),
    "llama.attention.key_length": int(headWidth),
    "llama.attention.value_length": int(headWidth),
    "llama.attention.layer_norm_rms_epsilon": float(random.pick([1e-5, 1e-6, 0, 1])),
    "llama.rope.dimension_count": int(random.chance(0.7) ? headWidth : 2 * random.int(1, headWidth / 2)),
    ...(random.chance(0.3) && { "llama.rope.freq_base": float(random.pick([1, 10_000, 500_000, 1e30, 0, -1, NaN])) }),
    "llama.vocab_size": int(tokens.length),
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.pre": string(random.pick(["gpt-2", "llama-bpe", "smollm", "tekken", "default", "qwen2"])),
    "tokenizer.ggml.tokens": list(tokens.map(string)),
    "tokenizer.ggml.token_type": ints(kinds),
    // The last one makes no token of a text in UTF-8; the format requires one merge at least.
    "tokenizer.ggml.merges": list([...further.filter((token) => token.length === 2).map(([letter]) => `${letter} ${letter}`), "À Á"].map(string)),
    "tokenizer.ggml.bos_token_id": int(tokens.indexOf("<|endoftext|>")),
    "tokenizer.ggml.eos_token_id": int(tokens.indexOf("<|im_end|>")),
    "tokenizer.ggml.add_bos_token": flag(random.chance(0.5)),
    "tokenizer.chat_template": string(CHATML),
  };
  return ggufFile(entries, tensors);
}

/** A valid file with up to four damages: in the structure of its header, in its bytes, or in its length. */
export function mutatedFile(random) {
  let bytes = random.chance(0.7) ? scripted(random) : tinyModel(random);
  if (random.chance(0.75)) {
    const { dataStart, ...header } = parseHeader(bytes);
    let [changed, data] = [header, bytes.subarray(dataStart)];
    for (let count = random.int(1, 3); count > 0; count -= 1) changed = random.chance(0.6) ? withOtherEntry(random, changed) : withOtherTensor(random, changed);
    // Counts and lengths may not be what they say; the rest of the file is where it was.
    bytes = Buffer.concat([writeHeader(changed), data]);
  }
  if (random.chance(0.35)) bytes = withOtherBytes(random, bytes);
  if (random.chance(0.08)) bytes = bytes.subarray(0, random.int(0, random.chance(0.5) ? bytes.length : Math.min(bytes.length, 10_000)));
  return new Uint8Array(bytes);
}

const NUMBERS = [0, 1, 2, 3, 7, 31, 32, 33, 64, 255, 256, 65_535, 65_536, 2 ** 24, 2 ** 24 + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const LONG_NUMBERS = [...NUMBERS.map(BigInt), 2n ** 32n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];
const FLOATS = [0, -0, 1, -1, 1e-45, 1e-5, 1e38, -1e38, NaN, Infinity, -Infinity];
const TEXTS = ["", "llama", "gpt2", "bert", "none", "linear", "yarn", "longrope", "\0", "é", "日本", "a".repeat(5000), "{% for m in messages %}{{ m }}{% endfor %}", "{% if %}", "{{ 1 // 0 }}", CHATML];
/** Entries that the loader reads if they are there. */
const OPTIONAL_KEYS = [
  "general.alignment", "llama.rope.freq_base", "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scaling.original_context_length",
  "llama.expert_count", "llama.attention.sliding_window", "tokenizer.ggml.pre", "tokenizer.ggml.scores", "tokenizer.ggml.unknown_token_id",
  "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eog_token_ids", "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.add_eos_token", "tokenizer.chat_template",
  "tokenizer.chat_template.tool_use", "tokenizer.ggml.model", "split.count", "split.no",
];
/** Value types of GGUF that have a fixed length. */
const SHORT = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

/** A metadata value of any type. */
function anyValue(random, depth = 2) {
  switch (random.pick(["number", "number", "long", "float", "text", "text", "flag", "short", ...(depth > 0 ? ["list", "empty", "nested"] : [])])) {
    case "number":
      return int(random.pick(NUMBERS));
    case "long":
      return { type: random.pick([10, 11]), value: u64(BigInt.asUintN(64, random.pick(LONG_NUMBERS))) };
    case "float":
      return float(random.pick(FLOATS));
    case "text":
      return string(random.pick(TEXTS));
    case "flag":
      return { type: 7, value: Buffer.from([random.pick([0, 1, 2, 255])]) };
    case "short": {
      const type = Number(random.pick(Object.keys(SHORT)));
      return { type, value: Buffer.from(Array.from({ length: SHORT[type] }, () => random.pick([0, 1, 127, 128, 255]))) };
    }
    case "list": {
      const element = anyValue(random, 0);
      return list(Array.from({ length: random.int(1, 300) }, () => element));
    }
    case "empty":
      return { type: 9, value: Buffer.concat([u32(random.pick([4, 5, 6, 8, 9, 99])), u64(random.pick([0, 0, 1, 2n ** 32n, 2n ** 61n]))]) };
    default:
      return list([anyValue(random, depth - 1)]);
  }
}

function withOtherEntry(random, { entries, tensors }) {
  const at = random.int(0, entries.length - 1);
  const entry = entries[at];
  if (!entry) return { entries, tensors };
  const put = (...replacement) => ({ entries: entries.toSpliced(at, 1, ...replacement), tensors });
  switch (random.pick(["value", "value", "value", "remove", "copy", "key", "type", "bytes", "add", "add", "element"])) {
    case "value":
      return put({ ...entry, ...anyValue(random) });
    case "remove":
      return put();
    case "copy":
      return put(entry, { ...entry, ...anyValue(random) });
    case "key":
      return put({ ...entry, key: random.pick([...TEXTS, ...entries.map(({ key }) => key)]) });
    case "type":
      return put({ ...entry, type: random.int(0, 14) });
    case "bytes":
      return put({ ...entry, value: withOtherBytes(random, entry.value) });
    case "element":
      return { entries: entries.map((other) => (other.type === 9 && random.chance(0.5) ? { ...other, value: withOtherBytes(random, other.value) } : other)), tensors };
    default:
      return put(entry, { key: random.pick(OPTIONAL_KEYS), ...anyValue(random) });
  }
}

function withOtherTensor(random, { entries, tensors }) {
  const at = random.int(0, tensors.length - 1);
  const tensor = tensors[at];
  if (!tensor) return { entries, tensors };
  const put = (...replacement) => ({ entries, tensors: tensors.toSpliced(at, 1, ...replacement) });
  const sizes = [...LONG_NUMBERS, ...tensor.dims];
  switch (random.pick(["dim", "dim", "dims", "type", "type", "offset", "remove", "copy", "name", "turn", "swap"])) {
    case "dim":
      return put({ ...tensor, dims: tensor.dims.map((size) => (random.chance(0.5) ? random.pick(sizes) : size)) });
    case "dims":
      return put({ ...tensor, dims: Array.from({ length: random.int(0, 6) }, () => random.pick(sizes)) });
    case "type":
      return put({ ...tensor, type: random.chance(0.6) ? Number(random.pick(Object.keys(BLOCKS))) : random.pick([4, 5, 9, 15, 16, 20, 29, 31, 39, 40, 255, 2 ** 31]) });
    case "offset":
      return put({ ...tensor, offset: random.pick([...LONG_NUMBERS, ...tensors.map(({ offset }) => offset)]) });
    case "remove":
      return put();
    case "copy":
      return put(tensor, tensor);
    case "name":
      return put({ ...tensor, name: random.pick(["", "x", "blk.1.attn_q.weight", "blk.99999999999.attn_q.weight", "rope_freqs.weight", "blk.0.attn_q.bias", ...tensors.map(({ name }) => name)]) });
    case "turn":
      return put({ ...tensor, dims: tensor.dims.toReversed() });
    default: {
      const other = random.int(0, tensors.length - 1);
      return { entries, tensors: tensors.with(at, tensors[other]).with(other, tensor) };
    }
  }
}

/** A copy with up to eight other bytes, most of them near the beginning, where lengths and counts are. */
function withOtherBytes(random, bytes) {
  const copy = Buffer.from(bytes);
  if (copy.length === 0) return copy;
  const reach = random.chance(0.5) ? Math.min(copy.length, 64) : random.chance(0.7) ? Math.min(copy.length, 20_000) : copy.length;
  for (let count = random.int(1, 8); count > 0; count -= 1) copy[random.int(0, reach - 1)] = random.pick([0, 1, 2, 0x7f, 0x80, 0xff, random.int(0, 255)]);
  return copy;
}
