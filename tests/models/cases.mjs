// What is compared with llama.cpp: vocabularies, and everything in a file's metadata that decides how a text becomes tokens.

import { flag, string } from "../gguf-fixtures.mjs";
import { CONTROL, NORMAL, UNUSED, USER_DEFINED } from "../scripted-model.mjs";
import { vocabularyOf } from "./vocabularies.mjs";

/**
 * The values of `tokenizer.ggml.pre` that llama.cpp knows for byte-level BPE; on one line, those that it splits alike. Without those of models
 * that generate no text and need further entries (`roberta-bpe`, `jina-v1-en`, `jina-v2-code`) and those of other kinds of vocabulary
 * (`gemma4`, `granite-embed-multi-311m`, `sarvam-moe`, `whitespace`).
 */
export const SPLITTINGS = [
  ["default"],
  ["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
  ["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"],
  ["jais-2"],
  ["deepseek-llm"],
  ["deepseek-coder"],
  ["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
  ["spark2_5"],
  ["youtu"],
  ["falcon"],
  ["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
  ["gpt-2", "mpt", "olmo", "jais", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4", "trillion", "granite-docling"],
  ["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2", "kormo", "f2llmv2"],
  ["qwen35"],
  ["bloom", "poro-chat", "gpt3-finnish"],
  ["viking"],
  ["tekken"],
  ["chameleon"],
  ["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
  ["granite-embed-multi-97m"],
  ["tiny_aya", "cohere2moe"],
  ["superbpe"],
  ["bailingmoe", "bailingmoe2", "llada-moe"],
  ["seed-coder"],
  ["ufakzeka"],
  ["afmoe"],
  ["laguna"],
  ["exaone-moe"],
  ["minicpm5"],
  ["kimi-k2"],
];

/** A control token that no text contains. It stands between texts that become tokens in one call. */
export const SEPARATOR = "<|next text|>";

/** Vocabulary → cases by name, each a change of that vocabulary. */
export const CASES = {
  "llama-3.1": { itself: {} },
  "qwen-2.5": { itself: {} },
  "qwen-3": { itself: {} },
  "deepseek-v3": { itself: {} },
  "gpt-4o": { itself: {} },
  "olmo-2": { itself: {} },
  "mistral-nemo": { itself: {} },
  "gemma-2": { itself: {} },
  "gemma-3": { itself: {} },
  mistral: { itself: {} },
  smollm2: {
    itself: {},
    "with user-defined words": (vocabulary) => further(vocabulary, { "<think>": USER_DEFINED, "  ": USER_DEFINED, "\n\n": USER_DEFINED, " World": USER_DEFINED }),
    "with an end of turn of the kind normal": (vocabulary) => ofKind(vocabulary, NORMAL, ["<|im_end|>"]),
    "with an unused token": (vocabulary) => ofKind(vocabulary, UNUSED, ["<|im_start|>"]),
  },
  "llama-2": {
    itself: {},
    "without a space in front": { addSpacePrefix: false },
    "with superfluous white space removed": { metadata: { "tokenizer.ggml.remove_extra_whitespaces": flag(true) } },
    "with the default ids": { bos: undefined, eos: undefined, unknown: undefined },
    "without BOS": { addBos: false },
    "with user-defined words": (vocabulary) => further(vocabulary, { "<think>": USER_DEFINED, "  ": USER_DEFINED, "\n\n": USER_DEFINED, " World": USER_DEFINED }),
    "of a Phi-3, whose control tokens take the white space after them": (vocabulary) => ({
      ...further(vocabulary, { "<|endoftext|>": CONTROL, "<|assistant|>": CONTROL, "<|system|>": CONTROL, "<|end|>": CONTROL, "<|user|>": CONTROL }),
      metadata: { "general.name": string("Phi-3 mini") },
    }),
  },
  "code-llama": {
    itself: {},
    "with markers of the kind normal": (vocabulary) => ofKind(vocabulary, NORMAL, ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]),
    "with the pieces of its markers": (vocabulary) => further(vocabulary, { "▁<PRE": NORMAL, SU: NORMAL, SUF: NORMAL, "▁<SUF": NORMAL, ID: NORMAL, MID: NORMAL, "▁<MID": NORMAL }),
  },
  seams: { "without a name": { pre: undefined }, ...Object.fromEntries(SPLITTINGS.flat().map((pre) => [pre, { pre }])) },
};

/** A vocabulary as a case changes it, with the separator. */
export async function caseOf(vocabularyName, name) {
  const vocabulary = await vocabularyOf(vocabularyName);
  const change = CASES[vocabularyName][name];
  const changed = { ...vocabulary, ...(typeof change === "function" ? change(vocabulary) : change) };
  return { ...changed, ...further(changed, { [SEPARATOR]: CONTROL }) };
}

/** More tokens at the end of a vocabulary. Those that the vocabulary has already stay as they are. */
export function further({ tokens, kinds, scores }, added) {
  const entries = Object.entries(added).filter(([token]) => !tokens.includes(token));
  return {
    tokens: [...tokens, ...entries.map(([token]) => token)],
    kinds: [...kinds, ...entries.map(([, kind]) => kind)],
    scores: scores && [...scores, ...entries.map((_, index) => -40_000 - index)],
  };
}

function ofKind({ tokens, kinds }, kind, chosen) {
  return { kinds: kinds.map((own, id) => (chosen.includes(tokens[id]) ? kind : own)) };
}
