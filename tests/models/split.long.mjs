// The split files of the tests are such as llama.cpp reads: with them the same tokens follow prompts as with the whole file, and it refuses them where one is wrong.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { splitFile } from "../gguf-fixtures.mjs";
import { familyFile, PROMPTS } from "./families.mjs";
import { nextOf, openLlamaCpp } from "./llama-cpp.mjs";

let llamaCpp;
let whole;
before(async () => {
  llamaCpp = await openLlamaCpp();
  whole = await familyFile("llama");
});
after(() => llamaCpp.close());

const ask = (files) => nextOf(llamaCpp, files, PROMPTS, 0);

for (const counts of [[10], [0, 20], [1, 1, 1, 1]]) {
  test(`${counts} tensors, and the rest`, async () => assert.deepEqual(await ask(splitFile(whole, counts)), await ask(whole)));
}

test("it refuses a file out of order, or of another model", async () => {
  const [first, second, third] = splitFile(whole, [10, 10]);
  await assert.rejects(ask([first, third, second]));
  await assert.rejects(ask([first, second, splitFile(whole, [10, 12])[2]]));
});
