// Every family computes what llama.cpp computes: the most likely tokens over the same weights (`families.mjs`).

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Ai } from "workers-ai-local";
import { BYTE, BYTE_CHARACTERS, CONTROL } from "../scripted-model.mjs";
import { FAMILY_NAMES, familyFile, questionsOf, readFamilies } from "./families.mjs";
import { NOW } from "./jinja2.mjs";
import { publishedVocabulary } from "./published.mjs";

const MODEL = "@cf/own/family";
const { next } = await readFamilies();

/** Random tokens cut characters; what replaces them is not compared. */
const withoutCuts = (text) => text.replaceAll("\ufffd", "");

function textOf({ model, tokens, kinds }, id) {
  const token = tokens[id];
  if (kinds[id] === CONTROL) return "";
  if (model === "llama") return kinds[id] === BYTE ? new TextDecoder().decode(Uint8Array.of(Number(token.slice(1, -1)))) : token.replaceAll("▁", " ");
  const bytes = [...token].map((character) => BYTE_CHARACTERS.indexOf(character));
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

// Some templates say which day it is.
before((t) => t.mock.method(Date, "now", () => NOW * 1000));

for (const family of FAMILY_NAMES) {
  test(family, async () => {
    const questions = await questionsOf(family);
    assert.equal(next[family]?.length, questions.length, "run `npm run oracle -- families`");
    const vocabulary = await publishedVocabulary(family);
    const ai = new Ai({ models: { [MODEL]: await familyFile(family) }, backend: "cpu" });
    try {
      for (const [index, { input, text }] of questions.entries()) {
        if (next[family][index] === null) continue;
        const { response } = await ai.run(MODEL, { ...input, temperature: 0, max_tokens: 1 });
        const expected = withoutCuts(textOf(vocabulary, next[family][index]));
        // Phi-3's prompts of chats end in a control token, and a space that SentencePiece puts behind one is no part of the text.
        const begins = family === "phi3" && input.messages ? expected.replace(/^ /, "") : expected;
        assert.equal(withoutCuts(response), begins, text);
      }
    } finally {
      await ai.close();
    }
  });
}
