// Text in many scripts: no chunk splits a character, even if the character consists of several tokens.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { MODEL } from "../real-model.mjs";
import { answerIn, chunksOf, eventsIn } from "../sse.mjs";

const ai = new Ai();
before(() => ai.load());

/** Finds the boundaries of user-perceived characters (grapheme clusters) independently of the engine's own segmentation. */
const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
const characters = (text) => [...segmenter.segment(text)];

/** Reads a whole stream, and checks the properties that every stream has. Returns the answer. */
async function checked(input) {
  const chunks = await chunksOf(await ai.run(MODEL, { ...input, stream: true }));
  // Each chunk alone is valid UTF-8, and consists of whole events of valid JSON.
  for (const chunk of chunks) for (const event of eventsIn(chunk)) if (event !== "[DONE]") JSON.parse(event);
  const answer = answerIn(...chunks);
  const boundaries = new Set([...characters(answer.text).map(({ index }) => index), answer.text.length]);
  let at = 0;
  for (const piece of answer.pieces) {
    assert.ok(boundaries.has(at), `a piece begins in the middle of a character: ${JSON.stringify(answer.pieces)}`);
    at += piece.length;
  }
  assert.equal(answer.text, (await ai.run(MODEL, input)).response, "the object answer has the same text");
  return answer;
}

describe("a model that copies its prompt", () => {
  /** Prompts repeat `unit` so often that the real model continues with similar text, which must match `shows`. */
  const COPIED = [
    { what: "Chinese", unit: " 中文 字", shows: /\p{Script=Han}/u },
    { what: "combining marks", unit: " e\u0301 a\u0308", shows: /[a-z]\p{Mn}/u },
    { what: "Devanagari, whose letters join", unit: " नमस्ते", shows: /\u094D\p{Script=Devanagari}/u },
    { what: "a family in one emoji", unit: " 👩‍👩‍👧‍👦,", shows: /\u200D\p{Extended_Pictographic}/u },
    { what: "a thumb with its colour", unit: " 👍🏽,", shows: /\p{Emoji_Modifier_Base}\p{Emoji_Modifier}/u },
  ];

  for (const { what, unit, shows } of COPIED) {
    test(`never splits ${what}`, async () => {
      const { text, pieces, finish_reason } = await checked({ prompt: unit.repeat(4), raw: true, temperature: 0, max_tokens: 30 });
      assert.match(text, shows, "precondition: the model copies its prompt");
      assert.ok(pieces.length > 2, "the text arrives in several pieces");
      // Only an answer that max_tokens cuts off may end with an incomplete character.
      const whole = finish_reason === "length" ? text.replace(/\uFFFD$/, "") : text;
      assert.doesNotMatch(whole, /\uFFFD/);
    });
  }
});

describe("a model that writes arbitrary text", () => {
  const prompt = " 👩‍👩‍👧‍👦, 👍🏽, 中文, e\u0301, 🇩🇪,".repeat(2);

  for (const seed of [1, 2, 3, 4]) {
    test(`samples tokens like those of its prompt, seed ${seed}`, () => checked({ prompt, raw: true, temperature: 1.5, top_k: 20, seed, max_tokens: 30 }));
    test(`samples from the whole vocabulary, seed ${seed}`, () => checked({ prompt, raw: true, temperature: 5, seed, max_tokens: 30 }));
  }
});

describe("stop strings", () => {
  test("of several tokens and code points end the answer before them", async () => {
    const input = { prompt: "中文 👍🏽 字, ".repeat(4), raw: true, temperature: 0, max_tokens: 30 };
    const { text } = await checked(input);
    const stop = "👍🏽";
    assert.ok(text.includes(stop), `precondition: the answer contains the stop string: ${JSON.stringify(text)}`);
    const stopped = await checked({ ...input, stop });
    assert.equal(stopped.text, text.slice(0, text.indexOf(stop)));
    assert.equal(stopped.finish_reason, "stop");
  });
});

describe("a prompt", () => {
  test("has the same token count however its characters are escaped", async () => {
    const usageOf = async (prompt) => (await ai.run(MODEL, { prompt, raw: true, max_tokens: 0 })).usage.prompt_tokens;
    assert.equal(await usageOf("\u{1F469}\u200D\u{1F467}"), await usageOf("👩‍👧"));
    assert.ok((await usageOf("👩‍👧")) > (await usageOf("a")));
  });
});
