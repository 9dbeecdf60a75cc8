// The tokens of 2,000 texts, with real vocabularies and every splitting, are those of llama.cpp (`answers.mjs`).

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { HASH_OF_TEXTS, TEXTS, readAnswers } from "./answers.mjs";
import { CASES, SEPARATOR, caseOf } from "./cases.mjs";
import { modelFile } from "./files.mjs";
import { COMPOSED, STRINGS } from "./strings.mjs";

const MODEL = "@cf/own/tokens";

/**
 * Splittings of models whose own tokenizer composes characters first (NFC), which llama.cpp leaves out. We do as those models were trained:
 * the tokens are those that llama.cpp gives the composed text.
 */
const COMPOSES = ["qwen2", "deepseek-r1-qwen", "megrez"];

/** A letter since Unicode 16, which llama.cpp's tables do not know: for it the letter stands apart. */
const NEWER_LETTERS = /\u{134bc}/u;

/** Cases in which some texts differ on purpose: how many, and why. */
const EXPLAINED = {
  // Of "  " and " World" in "  World", ours finds the one that begins first, as the tokenizers crate does. llama.cpp looks for the longest of all first.
  "with user-defined words": 3,
  // llama.cpp merges the letters of a control token to that token, also where a user wrote them. Ours never does: a text would give orders.
  "with the pieces of its markers": 5,
};

/** A control token takes the white space after it, and the separator is one. So each text is asked for alone. */
const ONE_BY_ONE = "of a Phi-3, whose control tokens take the white space after them";

/** White space that a control token of Phi-3 takes in the tokenizers crate, and not in llama.cpp. */
const WIDE_SPACE = /[\x1c-\x1f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** The ids that llama.cpp takes for the beginning of a text if the file has none. */
const DEFAULT_BOS = { gpt2: 11, llama: 1 };

/** So many texts, the first of which are the shortest, are also asked for one by one. */
const ALONE = 60;

for (const [vocabularyName, cases] of Object.entries(CASES)) {
  describe(vocabularyName, async () => {
    const answers = await readAnswers(vocabularyName);

    test("the answers are those to these texts", () => {
      assert.equal(answers.texts, HASH_OF_TEXTS, "run `npm run oracle`");
      assert.deepEqual(Object.keys(answers.cases), Object.keys(cases), "run `npm run oracle`");
    });

    for (const name of Object.keys(cases)) {
      test(name, async () => {
        const vocabulary = await caseOf(vocabularyName, name);
        const { addsBos, tokens } = answers.cases[name];
        const bos = addsBos ? (vocabulary.bos ?? DEFAULT_BOS[vocabulary.model]) : null;
        const composes = COMPOSES.includes(vocabulary.pre);
        const expected = STRINGS.map((text, index) => tokens[composes && COMPOSED.has(text) ? TEXTS.indexOf(COMPOSED.get(text)) : index]);
        const compared = STRINGS.map((text, index) => ({ text, expected: expected[index] })).filter(({ text }) => !NEWER_LETTERS.test(text));

        const ai = new Ai({ models: { [MODEL]: modelFile(vocabulary, { width: 32, context: 1 << 17 }) }, backend: "cpu" });
        try {
          if (name !== ONE_BY_ONE) {
            const ours = await inOneCall(ai, compared.map(({ text }) => text), { bos, separator: vocabulary.tokens.indexOf(SEPARATOR) });
            assertSame(compared, ours, vocabulary, EXPLAINED[name]);
          }
          for (const { text, expected } of name === ONE_BY_ONE ? compared.filter(({ text }) => !WIDE_SPACE.test(text)) : compared.slice(0, EXPLAINED[name] ? 0 : ALONE)) {
            const { tokens } = await ai.tokenize(MODEL, { prompt: text, raw: true });
            assert.deepEqual(tokens, withBos(expected, bos), `${JSON.stringify(text)}, alone`);
          }
        } finally {
          await ai.close();
        }
      });
    }
  });
}

/** BOS is put before a prompt that does not begin with it. */
function withBos(tokens, bos) {
  return bos === null || tokens[0] === bos ? tokens : [bos, ...tokens];
}

/** The tokens of each text, from one call with separators between the texts: a control token ends whatever is left of it. */
async function inOneCall(ai, texts, { bos, separator }) {
  const { tokens } = await ai.tokenize(MODEL, { prompt: SEPARATOR + texts.join(SEPARATOR), raw: true });
  const before = tokens.indexOf(separator);
  assert.deepEqual(tokens.slice(0, before), bos === null ? [] : [bos]);
  const found = [];
  for (const token of tokens.slice(before)) {
    if (token === separator) found.push([]);
    else found.at(-1).push(token);
  }
  return found;
}

/** `explained`: the number of texts that differ on purpose. */
function assertSame(compared, ours, { tokens }, explained = 0) {
  assert.equal(ours.length, compared.length);
  const spelled = (ids) => ids.map((id) => tokens[id]).join(" ");
  const different = compared.flatMap(({ text, expected }, index) =>
    expected.join() === ours[index].join() ? [] : [`${JSON.stringify(text)}\n  ours      ${spelled(ours[index])}\n  llama.cpp ${spelled(expected)}`],
  );
  const shortest = different.sort((a, b) => a.length - b.length).slice(0, 5);
  assert.ok(different.length === explained, `${different.length} of ${compared.length} texts differ, among them:\n${shortest.join("\n")}`);
}
