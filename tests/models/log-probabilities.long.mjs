// Log-probabilities beside llama.cpp's at large positions, and on a GPU; and the stored ones are those that llama.cpp gives.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { compare } from "./comparison.mjs";
import { KINDS, LONG_KINDS, caseOfKind } from "./kinds.mjs";
import { openLlamaCpp } from "./llama-cpp.mjs";
import { askForLogProbabilities, hashOf, readLogProbabilities } from "./log-probabilities.mjs";

const program = process.env.LOG_PROBABILITIES;
const TOLERANCE = 0.02;

/** llama.cpp adds in another order on another processor. */
const TOLERANCE_OF_ITSELF = 0.001;

const COMPARED = [
  { set: "long", kinds: LONG_KINDS, backend: "cpu" },
  { set: "short", kinds: KINDS, backend: "webgpu" },
];

for (const { set, kinds, backend } of COMPARED) {
  describe(`${set} texts, ${backend}`, async () => {
    const answers = await readLogProbabilities(set);
    for (const [name, kind] of Object.entries(kinds)) {
      test(name, async () => {
        const input = await caseOfKind(kind);
        assert.equal(answers[name]?.input, hashOf(input), "run `npm run oracle -- log-probabilities`");
        const { difference, others } = await compare(input, answers[name], { program, backend, tolerance: TOLERANCE });
        assert.ok(difference <= TOLERANCE, `a log-probability differs by ${difference}`);
        assert.deepEqual(others, []);
      });
    }
  });
}

describe("llama.cpp", () => {
  let llamaCpp;
  before(async () => void (llamaCpp = await openLlamaCpp()));
  after(() => llamaCpp.close());

  for (const set of ["short", "long"]) {
    test(`${set} texts`, async () => {
      const [stored, asked] = [await readLogProbabilities(set), await askForLogProbabilities(llamaCpp, set)];
      assert.deepEqual(Object.keys(asked), Object.keys(stored));
      for (const [name, { input, logs }] of Object.entries(asked)) {
        assert.equal(input, stored[name].input, name);
        const differences = logs.flat().map((log, index) => Math.abs(log - stored[name].logs.flat()[index]));
        assert.ok(Math.max(...differences) <= TOLERANCE_OF_ITSELF, name);
      }
    });
  }
});
