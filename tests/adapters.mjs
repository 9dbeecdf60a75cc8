// LoRA adapters for made-up models, in the forms that people have: GGUF, and the two files of PEFT.

import { float, ggufFile, parseHeader, string } from "./gguf-fixtures.mjs";
import { spelled } from "./scripted-model.mjs";
import { Random } from "./random.mjs";

/**
 * The low-rank matrices of an adapter, in the order of the rows of the GGUF file.
 *
 * @typedef {{name: string, outputs: number, inputs: number, a: Float32Array, b: Float32Array}} LowRank `a`: [rank, inputs], `b`: [outputs, rank]
 * @typedef {{architecture: string, rank: number, alpha: number, matrices: LowRank[]}} Adapter
 */

/** More than the weight of a successor in a scripted model. */
const LOUDER = 300;

/**
 * An adapter of a scripted model that gives some tokens another successor.
 *
 * @param {{tokens: string[]}} model as `scriptedModel` returns it
 * @param {Record<string, string>} changes `{ from: to }`, by text
 * @returns {Adapter}
 */
export function successorAdapter({ tokens }, changes) {
  const entries = Object.entries(changes);
  const rank = entries.length;
  const inputs = Math.ceil(tokens.length / 32) * 32;
  const a = new Float32Array(rank * inputs);
  const b = new Float32Array(tokens.length * rank);
  const id = (text) => (tokens.includes(text) ? tokens.indexOf(text) : tokens.indexOf(spelled(text)));
  entries.forEach(([from, to], index) => {
    a[index * inputs + id(from)] = 1;
    b[id(to) * rank + index] = LOUDER;
  });
  return { architecture: "llama", rank, alpha: rank, matrices: [{ name: "output.weight", outputs: tokens.length, inputs, a, b }] };
}

/**
 * An adapter of random numbers.
 *
 * @param {Uint8Array} model a GGUF file
 * @param {object} options
 * @param {string} [options.architecture]
 * @param {RegExp} [options.names] of the adapted tensors
 * @param {number} [options.rank]
 * @param {number} [options.size] half the width of its numbers
 * @param {number} [options.seed]
 * @returns {Adapter}
 */
export function randomAdapter(model, { architecture = "llama", names = /^blk\..*\.(attn_(q|k|v|qkv|output)|ffn_(gate|up|down))\.weight$/, rank = 8, size = 0.3, seed = 1 } = {}) {
  const random = new Random(seed);
  const drawn = (length) => new Float32Array(length).map(() => (2 * random.next() - 1) * size);
  const matrices = parseHeader(model)
    .tensors.filter(({ name, dims }) => dims.length === 2 && names.test(name))
    .map(({ name, dims }) => {
      const [inputs, outputs] = dims.map(Number);
      return { name, outputs, inputs, a: drawn(rank * inputs), b: drawn(outputs * rank) };
    });
  return { architecture, rank, alpha: 2 * rank, matrices };
}

/** An adapter as llama.cpp's `convert_lora_to_gguf.py` writes it. @param {Adapter} adapter */
export function ggufAdapter({ architecture, rank, alpha, matrices }) {
  const entries = {
    "general.architecture": string(architecture),
    "general.type": string("adapter"),
    "adapter.type": string("lora"),
    "adapter.lora.alpha": float(alpha),
  };
  const tensors = matrices.flatMap(({ name, outputs, inputs, a, b }) => [
    { name: `${name}.lora_a`, dims: [inputs, rank], values: a },
    { name: `${name}.lora_b`, dims: [rank, outputs], values: b },
  ]);
  return ggufFile(entries, tensors);
}

/** The modules of Hugging Face's models. */
const MODULES = {
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/**
 * An adapter as PEFT writes it.
 *
 * @param {Adapter} adapter
 * @param {object} [options]
 * @param {number} [options.head] the width of a head, if the converter to GGUF permutes the rows of query and key
 * @param {object} [options.fields] further fields of the configuration
 * @returns {{config: Uint8Array, weights: Uint8Array}}
 */
export function peftAdapter({ rank, alpha, matrices }, { head, fields = {} } = {}) {
  const tensors = matrices.flatMap(({ name, outputs, inputs, a, b }) => {
    const [, layer, part] = /^blk\.(\d+)\.(\w+)\./.exec(name) ?? [];
    const module = `base_model.model.${part ? `model.layers.${layer}.${MODULES[part]}` : "lm_head"}`;
    return [
      { name: `${module}.lora_A.weight`, shape: [rank, inputs], values: a },
      { name: `${module}.lora_B.weight`, shape: [outputs, rank], values: head && /^attn_[qk]$/.test(part) ? unpermuted(b, rank, head) : b },
    ];
  });
  const config = { peft_type: "LORA", r: rank, lora_alpha: alpha, bias: "none", use_rslora: false, use_dora: false, modules_to_save: null, ...fields };
  return { config: new TextEncoder().encode(JSON.stringify(config)), weights: safetensors(tensors) };
}

/** The rows of heads in the order of Hugging Face's models: neighbours become halves. */
function unpermuted(rows, width, head) {
  const result = new Float32Array(rows.length);
  for (let row = 0; row < rows.length / width; row += 1) {
    const within = row % head;
    const to = row - within + (within % 2) * (head / 2) + Math.floor(within / 2);
    result.set(rows.subarray(row * width, (row + 1) * width), to * width);
  }
  return result;
}

/** @param {{name: string, shape: number[], values: Float32Array}[]} tensors */
export function safetensors(tensors) {
  let end = 0;
  const header = { __metadata__: { format: "pt" } };
  for (const { name, shape, values } of tensors) header[name] = { dtype: "F32", shape, data_offsets: [end, (end += values.byteLength)] };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let at = 8 + text.length;
  for (const { values } of tensors) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}
