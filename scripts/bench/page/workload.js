// The texts that the benchmarks compute. They are the same for every runtime, so that figures are comparable; nothing is random.

/** The first request of a new process or page: the short conversation of the documentation's sample. */
export const FIRST_MESSAGES = [
  { role: "system", content: "You are a friendly assistant" },
  { role: "user", content: "What is the origin of the phrase Hello, World" },
];

const OPENINGS = ["Rivers", "Mountains", "Forests", "Islands", "Deserts", "Cities", "Gardens", "Bridges", "Harbours", "Valleys"];

const PARAGRAPH =
  " are full of stories that people tell one another in the evening. Some of them are old, and some were made up only " +
  "yesterday, but all of them begin with somebody who leaves home to look for something. On the way there is a door " +
  "that must not be opened, and of course it is opened.";

/**
 * About 256 tokens of English. The texts of two numbers differ from their first word on, so that no prefix of an earlier one can be
 * cached.
 */
export const longPrompt = (number) => `${OPENINGS[number % OPENINGS.length]}${PARAGRAPH.repeat(4)}`;

/** A prompt with a long continuation: the model counts on. */
export const DECODE_PROMPT = "1, 2, 3, 4, 5, 6, 7, 8,";

/** The number of tokens of the measured answer. A model may stop earlier; with fewer than `FEWEST_TOKENS` tokens the run fails. */
export const DECODE_TOKENS = 64;
export const FEWEST_TOKENS = 48;

// The requests of the comparison, the same for every contender. `tokens` is the number of tokens of the prompt in the default model, for
// a contender without a tokenizer. Each prompt begins with a different word, so that no prefix of another one is cached.

const paragraphs = (opening, count) => `${opening}${PARAGRAPH.repeat(count)}`;
const COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,";

export const COMPARE = {
  first: { prompt: "What people like best about the phrase Hello, World is that", tokens: 12, maxTokens: 8 },
  decode: { prompt: COUNTING, tokens: 30, maxTokens: 128 },
  /** The model goes on with the passage that the prompt has three times. */
  repeat: { prompt: `${paragraphs("Gardens", 3)} are full of stories that people`, tokens: 194, maxTokens: 96 },
  /** The warm-up if `deep` is not computed first. Not measured. */
  warmUp: { prompt: paragraphs("Mountains", 8), tokens: 498, maxTokens: 1 },
  prefill: { prompt: `${paragraphs("Rivers", 8)} And so it goes on and on, every single evening.`, tokens: 510, maxTokens: 1 },
  shallow: { prompt: `Children learn to count early, and they count like this, all day long: ${COUNTING}`, tokens: 47, maxTokens: 32 },
  deep: { prompt: `${paragraphs("Forests", 31)} Children learn to count early, and they count like this, all day long: ${COUNTING}`, tokens: 1971, maxTokens: 32 },
  /** Two requests with a common prefix: not cached when the first one runs, completely cached when the second one runs. */
  cold: { prompt: `${paragraphs("Islands", 8)} Who opened the door, and what was behind it?`, tokens: 509, maxTokens: 4 },
  warm: { prompt: `${paragraphs("Islands", 8)} Where did they go after that, and who came back?`, tokens: 510, maxTokens: 4 },
};

/** The number of tokens in the context when memory is measured. */
export const CONTEXT = 2048;
const LAYERS = 30;
const KEY_VALUE_WIDTH = 2 * 192;
/** The memory in bytes to which a contender's memory is compared: the model file and an f16 KV cache of `CONTEXT` tokens. */
export const leastMemory = (fileBytes) => fileBytes + LAYERS * KEY_VALUE_WIDTH * 2 * CONTEXT;
