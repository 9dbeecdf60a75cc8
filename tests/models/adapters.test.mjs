// With a LoRA adapter the package computes what llama.cpp computes with it: the most likely tokens (`adapters.mjs`).

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ai } from "workers-ai-local";
import { ggufAdapter, peftAdapter } from "../adapters.mjs";
import { intsOf, parseHeader, textsOf } from "../gguf-fixtures.mjs";
import { BYTE, BYTE_CHARACTERS, CONTROL } from "../scripted-model.mjs";
import { ADAPTED, caseOf, readAdapters } from "./adapters.mjs";
import { PROMPTS } from "./families.mjs";

const MODEL = "@cf/own/adapted";
const { next } = await readAdapters();

/** Random tokens cut characters; what replaces them is not compared. */
const withoutCuts = (text) => text.replaceAll("\ufffd", "");

/** The texts of a file's tokens. */
function vocabularyOf(file) {
  const header = parseHeader(file);
  const [tokens, kinds] = [textsOf(header, "tokenizer.ggml.tokens"), intsOf(header, "tokenizer.ggml.token_type")];
  const isBytes = Buffer.from(header.entries.find(({ key }) => key === "tokenizer.ggml.model").value).includes("gpt2");
  return (id) => {
    if (kinds[id] === CONTROL) return "";
    if (isBytes) return new TextDecoder().decode(Uint8Array.from([...tokens[id]].map((character) => BYTE_CHARACTERS.indexOf(character))));
    return kinds[id] === BYTE ? new TextDecoder().decode(Uint8Array.of(Number(tokens[id].slice(1, -1)))) : tokens[id].replaceAll("▁", " ");
  };
}

for (const [name, { head, architecture }] of Object.entries(ADAPTED)) {
  test(name, async () => {
    assert.equal(next[name]?.length, PROMPTS.length, "run `npm run oracle -- adapters`");
    const { file, adapter } = await caseOf(name);
    const textOf = vocabularyOf(file);
    const loras = { gguf: { source: ggufAdapter(adapter) }, ...(architecture !== "phi3" && { peft: { source: peftAdapter(adapter, { head }) } }) };
    const ai = new Ai({ models: { [MODEL]: file }, loras, backend: "cpu" });
    try {
      let [changed, compared] = [0, 0];
      for (const [index, prompt] of PROMPTS.entries()) {
        if (next[name][index] === null) continue;
        const answer = async (lora) => withoutCuts((await ai.run(MODEL, { prompt, raw: true, temperature: 0, max_tokens: 1, lora })).response);
        const expected = withoutCuts(textOf(next[name][index]));
        for (const lora of Object.keys(loras)) assert.equal(await answer(lora), expected, `${lora}: ${prompt}`);
        changed += Number((await answer(undefined)) !== expected);
        compared += 1;
      }
      assert.ok(compared >= PROMPTS.length / 2, `${compared} of ${PROMPTS.length} were compared`);
      assert.ok(changed > compared / 3, `the adapter changes ${changed} of ${compared} tokens`);
    } finally {
      await ai.close();
    }
  });
}
