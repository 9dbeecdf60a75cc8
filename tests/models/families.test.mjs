// Every family computes what llama.cpp computes: the most likely tokens over the same weights (`families.mjs`).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ai } from "workers-ai-local";
import { BYTE, BYTE_CHARACTERS } from "../scripted-model.mjs";
import { FAMILY_NAMES, PROMPTS, familyFile, readFamilies, vocabularyOfFamily } from "./families.mjs";

const MODEL = "@cf/own/family";
const { next } = await readFamilies();

/** Random tokens cut characters; what replaces them is not compared. */
const withoutCuts = (text) => text.replaceAll("\ufffd", "");

function textOf({ model, tokens, kinds }, id) {
  const token = tokens[id];
  if (model === "llama") return kinds[id] === BYTE ? new TextDecoder().decode(Uint8Array.of(Number(token.slice(1, -1)))) : token.replaceAll("▁", " ");
  const bytes = [...token].map((character) => BYTE_CHARACTERS.indexOf(character));
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

for (const family of FAMILY_NAMES) {
  test(family, async () => {
    assert.equal(next[family]?.length, PROMPTS.length, "run `npm run oracle -- families`");
    const vocabulary = await vocabularyOfFamily(family);
    const ai = new Ai({ models: { [MODEL]: await familyFile(family) }, backend: "cpu" });
    try {
      for (const [index, prompt] of PROMPTS.entries()) {
        if (next[family][index] === null) continue;
        const { response } = await ai.run(MODEL, { prompt, raw: true, temperature: 0, max_tokens: 1 });
        assert.equal(withoutCuts(response), withoutCuts(textOf(vocabulary, next[family][index])), prompt);
      }
    } finally {
      await ai.close();
    }
  });
}
