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
