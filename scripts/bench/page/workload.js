// What every runtime computes: the same texts for each, so that figures can be compared. Nothing in it is random.

/** The first request of a fresh process or page: a short conversation, as the documentation's sample has it. */
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
 * About 256 tokens of English. Each number gives another text, different from its first word on: none of it can come
 * out of a cache that an earlier one has filled.
 */
export const longPrompt = (number) => `${OPENINGS[number % OPENINGS.length]}${PARAGRAPH.repeat(4)}`;

/** A text that a model goes on with for long: it counts. */
export const DECODE_PROMPT = "1, 2, 3, 4, 5, 6, 7, 8,";

/** Tokens of the measured decoding. With fewer than `FEWEST_TOKENS` of them (a model may stop) there is no figure. */
export const DECODE_TOKENS = 64;
export const FEWEST_TOKENS = 48;

// What the comparison computes. Every contender gets the same texts; `tokens` is how many tokens of the default model
// they have, for a peer that takes no text. Each begins with another word, so that none finds another's in a cache.

const paragraphs = (opening, count) => `${opening}${PARAGRAPH.repeat(count)}`;
const COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,";

export const COMPARE = {
  first: { prompt: "What people like best about the phrase Hello, World is that", tokens: 12, maxTokens: 8 },
  decode: { prompt: COUNTING, tokens: 30, maxTokens: 128 },
  /** Unmeasured, where `deep` is not computed first. */
  warmUp: { prompt: paragraphs("Mountains", 8), tokens: 498, maxTokens: 1 },
  prefill: { prompt: `${paragraphs("Rivers", 8)} And so it goes on and on, every single evening.`, tokens: 510, maxTokens: 1 },
  shallow: { prompt: `Children learn to count early, and they count like this, all day long: ${COUNTING}`, tokens: 47, maxTokens: 32 },
  deep: { prompt: `${paragraphs("Forests", 31)} Children learn to count early, and they count like this, all day long: ${COUNTING}`, tokens: 1971, maxTokens: 32 },
  /** Two requests that share their beginning: the first finds nothing of it, the second all of it. */
  cold: { prompt: `${paragraphs("Islands", 8)} Who opened the door, and what was behind it?`, tokens: 509, maxTokens: 4 },
  warm: { prompt: `${paragraphs("Islands", 8)} Where did they go after that, and who came back?`, tokens: 510, maxTokens: 4 },
};

/** The context after which memory is read, and what stands for what cannot be saved: the file, and its keys and values as f16. */
export const CONTEXT = 2048;
const LAYERS = 30;
const KEY_VALUE_WIDTH = 2 * 192;
export const leastMemory = (fileBytes) => fileBytes + LAYERS * KEY_VALUE_WIDTH * 2 * CONTEXT;
