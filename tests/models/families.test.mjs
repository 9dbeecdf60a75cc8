// Every family computes what llama.cpp computes: the most likely tokens over the same weights (`families.mjs`).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ai } from "workers-ai-local";
import { BYTE_CHARACTERS } from "../scripted-model.mjs";
import { FAMILY_NAMES, PROMPTS, familyFile, readFamilies } from "./families.mjs";
import { vocabularyOf } from "./vocabularies.mjs";

const MODEL = "@cf/own/family";
const { next } = await readFamilies();
const { tokens } = await vocabularyOf("smollm2");

/** Random tokens cut characters; what replaces them is not compared. */
const withoutCuts = (text) => text.replaceAll("\ufffd", "");

function textOf(id) {
  const bytes = [...tokens[id]].map((character) => BYTE_CHARACTERS.indexOf(character));
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

for (const family of FAMILY_NAMES) {
  test(family, async () => {
    assert.equal(next[family]?.length, PROMPTS.length, "run `npm run oracle -- families`");
    const ai = new Ai({ models: { [MODEL]: await familyFile(family) }, backend: "cpu" });
    try {
      for (const [index, prompt] of PROMPTS.entries()) {
        if (next[family][index] === null) continue;
        const { response } = await ai.run(MODEL, { prompt, raw: true, temperature: 0, max_tokens: 1 });
        assert.equal(withoutCuts(response), withoutCuts(textOf(next[family][index])), prompt);
      }
    } finally {
      await ai.close();
    }
  });
}
