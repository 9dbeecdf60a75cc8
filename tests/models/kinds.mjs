// The kinds of models whose log-probabilities are compared with llama.cpp's: each family, and each of its special cases, as files with small random
// weights. Their numbers are such that every special case changes the log-probabilities: windows and original context lengths are shorter than the
// compared tokens, soft caps are small.

import { flag, float, int, list, string } from "../gguf-fixtures.mjs";
import { Random } from "../random.mjs";
import { modelFile } from "./files.mjs";
import { publishedVocabulary } from "./published.mjs";

/** Tokens that are forced, and the first position whose log-probabilities are compared. */
const TOKENS = 80;
const FIRST = 16;

/** Tokens of the long kinds, and how many are compared. */
const LONG = 8300;
const COMPARED_OF_LONG = 8;

/** What every kind has unless it says otherwise. The four layers have RoPE and windows in every pattern with a period of two or four. */
const USUAL = { architecture: "llama", layers: 4, width: 256, kvHeads: 2, context: 512, seed: 5 };

/** A model that computes long texts fast. */
const SMALL = { architecture: "llama", layers: 2, width: 64, kvHeads: 1, context: 1 << 16, tokens: LONG, first: LONG - COMPARED_OF_LONG };

/** Divisors of the frequencies of RoPE, from 1 to `last`. */
const divisors = (pairs, last) => Array.from({ length: pairs }, (_, pair) => 1 + ((last - 1) * pair) / (pairs - 1));

const flags = (values) => list(values.map(flag));

const GRANITE = { ".embedding_scale": float(12), ".residual_scale": float(0.22), ".attention.scale": float(0.3), ".logit_scale": float(2) };

/** YaRN as the converter writes it; with heads of 64 dimensions, between pairs 3 and 13. */
const YARN = {
  ".rope.freq_base": float(1000),
  ".rope.scaling.type": string("yarn"),
  ".rope.scaling.factor": float(16),
  ".rope.scaling.original_context_length": int(48),
  ".rope.scaling.yarn_beta_fast": float(4),
  ".rope.scaling.yarn_beta_slow": float(0.5),
};

/** Phi-3's converter writes no lengths of keys and values. */
const PHI3 = {
  architecture: "phi3",
  fusedAttention: true,
  fusedGate: true,
  metadata: { ".attention.key_length": undefined, ".attention.value_length": undefined, ".attention.sliding_window": int(16) },
};

const phi3WithFactors = (original, more = {}) => ({
  ...PHI3,
  ownOutput: true,
  vectors: { "rope_factors_long.weight": divisors(16, 20), "rope_factors_short.weight": divisors(16, 1.5) },
  metadata: { ...PHI3.metadata, ".rope.scaling.original_context_length": int(original), ".rope.scaling.attn_factor": float(1.19) },
  ...more,
});

/** The converter writes no number of rotated dimensions for Gemma 2. */
const GEMMA2 = {
  architecture: "gemma2",
  normsBehind: true,
  metadata: {
    ".rope.dimension_count": undefined,
    ".attention.sliding_window": int(16),
    ".attn_logit_softcapping": float(1.5),
    ".final_logit_softcapping": float(2),
  },
};

const GEMMA3 = {
  architecture: "gemma3",
  normsBehind: true,
  queryNorms: "heads",
  metadata: {
    ".rope.freq_base": float(1_000_000),
    ".rope.scaling.type": string("linear"),
    ".rope.scaling.factor": float(8),
    ".attention.sliding_window": int(16),
  },
};

const OLMO2 = { architecture: "olmo2", normsBefore: false, normsBehind: true, queryNorms: "whole", ownOutput: true };
const EXAONE4 = { architecture: "exaone4", normsBefore: false, normsBehind: true, queryNorms: "heads" };
const SEED_OSS = { architecture: "seed_oss", biases: true, ffnNorm: "post_attention_norm" };

const kinds = {
  llama: { ownOutput: true },
  "llama, divided frequencies": { vectors: { "rope_freqs.weight": divisors(16, 32) }, metadata: { ".rope.freq_base": float(500_000) } },
  "llama, scaled positions": { metadata: { ".rope.scaling.type": string("linear"), ".rope.scaling.factor": float(4) } },
  qwen2: { architecture: "qwen2", biases: true },
  "qwen2, YaRN": { architecture: "qwen2", biases: true, metadata: { ...YARN, ".rope.freq_base": float(10_000) } },
  qwen3: { architecture: "qwen3", queryNorms: "heads", heads: 6, headWidth: 64, ownOutput: true },
  granite: { architecture: "granite", metadata: GRANITE },
  smollm3: { architecture: "smollm3", layers: 5 },
  mistral3: {
    architecture: "mistral3",
    headWidth: 64,
    ownOutput: true,
    metadata: { ...YARN, ".rope.scaling.yarn_log_multiplier": float(1), ".attention.temperature_scale": float(0.5) },
  },
  "mistral3, a magnitude of its own": {
    architecture: "mistral3",
    headWidth: 64,
    // llama.cpp ignores the last three.
    metadata: {
      ...YARN,
      ".rope.scaling.attn_factor": float(1.1),
      ".rope.scaling.yarn_ext_factor": float(0.5),
      ".rope.scaling.yarn_attn_factor": float(1.3),
      ".attention.temperature_length": int(20),
    },
  },
  "mistral3, a logarithm's half": { architecture: "mistral3", headWidth: 64, metadata: { ...YARN, ".rope.scaling.yarn_log_multiplier": float(0.5) } },
  phi3: { ...PHI3, turned: 24 },
  "phi3, short factors": phi3WithFactors(512),
  "phi3, long factors": phi3WithFactors(32),
  gemma2: GEMMA2,
  "gemma2 of 27B": { ...GEMMA2, layers: 46, width: 64, heads: 4, kvHeads: 2, metadata: { ...GEMMA2.metadata, ".final_logit_softcapping": undefined } },
  gemma3: { ...GEMMA3, layers: 7 },
  "gemma3, windows by keys": {
    ...GEMMA3,
    metadata: { ...GEMMA3.metadata, ".attention.sliding_window_pattern": int(3), ".rope.freq_base_swa": float(500) },
  },
  "gemma3 without windows": {
    ...GEMMA3,
    ownOutput: true,
    metadata: { ...GEMMA3.metadata, ".attention.sliding_window": undefined, ".final_logit_softcapping": float(2) },
  },
  "gemma3 of 27B": { ...GEMMA3, layers: 62, width: 64, heads: 4, kvHeads: 2 },
  olmo2: OLMO2,
  "olmo2, windows and YaRN": {
    ...OLMO2,
    // llama.cpp ignores the numbers of YaRN that only Mistral 3 has.
    metadata: { ...YARN, ".rope.scaling.attn_factor": float(1.1), ".attention.sliding_window": int(16), ".attention.sliding_window_pattern": flags([true, true, true, false]) },
  },
  exaone4: { ...EXAONE4, vectors: { "rope_freqs.weight": divisors(16, 16) }, metadata: { ".rope.freq_base": float(1_000_000) } },
  "exaone4 of 32B": { ...EXAONE4, layers: 64, width: 64, ownOutput: true, metadata: { ".attention.sliding_window": int(16) } },
  glm4: { architecture: "glm4", normsBehind: true, fusedGate: true, biases: true, turned: 16, ownOutput: true },
  seed_oss: { ...SEED_OSS, heads: 6, headWidth: 64, ownOutput: true },
};

/** Positions as real models have them, for `npm run test:long`. */
const longKinds = {
  "llama beyond 8192": { metadata: { ".rope.scaling.type": string("linear"), ".rope.scaling.factor": float(4) } },
  "llama, divided frequencies, beyond 8192": { vectors: { "rope_freqs.weight": divisors(16, 32) }, metadata: { ".rope.freq_base": float(500_000) } },
  "mistral3 beyond 8192": {
    architecture: "mistral3",
    metadata: {
      ...YARN,
      ".rope.freq_base": float(1_000_000),
      ".rope.scaling.original_context_length": int(4096),
      ".rope.scaling.yarn_beta_fast": float(32),
      ".rope.scaling.yarn_beta_slow": float(1),
      ".rope.scaling.yarn_log_multiplier": float(1),
      ".attention.temperature_scale": float(0.1),
    },
  },
  "phi3 beyond 8192": phi3WithFactors(4096, { ownOutput: false }),
  "gemma2 beyond 8192": { ...GEMMA2, metadata: { ...GEMMA2.metadata, ".attention.sliding_window": undefined } },
  "gemma3 beyond 8192": { ...GEMMA3, metadata: { ...GEMMA3.metadata, ".attention.sliding_window": int(1024), ".attention.sliding_window_pattern": int(2) } },
  "olmo2 beyond 8192": { ...OLMO2, metadata: { ...YARN, ".attention.sliding_window": int(4096), ".attention.sliding_window_pattern": flags([true, false]) } },
};

/**
 * By name: the options of `modelFile`, the number of tokens, and the first position that is compared.
 *
 * @type {Record<string, object>}
 */
export const KINDS = withDefaults(kinds, { ...USUAL, tokens: TOKENS, first: FIRST });
export const LONG_KINDS = withDefaults(longKinds, SMALL);

function withDefaults(kinds, usual) {
  return Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [name, { ...usual, ...kind }]));
}

/** A kind's file, with the vocabulary of its family, and the tokens that are forced: of all of the vocabulary. */
export async function caseOfKind({ tokens: count, first, ...options }) {
  const vocabulary = await publishedVocabulary(options.architecture);
  const random = new Random(7);
  const tokens = Array.from({ length: count }, () => random.int(0, vocabulary.tokens.length - 1));
  return { file: modelFile(vocabulary, options), tokens, first };
}
