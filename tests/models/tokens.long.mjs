// The stored answers are those that llama.cpp gives.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { askFor, readAnswers } from "./answers.mjs";
import { CASES } from "./cases.mjs";
import { askForFamilies, readFamilies } from "./families.mjs";
import { openLlamaCpp } from "./llama-cpp.mjs";

let llamaCpp;
before(async () => void (llamaCpp = await openLlamaCpp()));
after(() => llamaCpp.close());

for (const vocabulary of Object.keys(CASES)) {
  test(vocabulary, async () => {
    assert.deepEqual(await askFor(llamaCpp, vocabulary), await readAnswers(vocabulary));
  });
}

test("families", async () => {
  assert.deepEqual(await askForFamilies(llamaCpp), await readFamilies());
});
