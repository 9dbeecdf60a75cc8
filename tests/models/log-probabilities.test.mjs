// Every kind of model computes what llama.cpp computes: the log-probabilities over the same weights (`kinds.mjs`). `npm test` compiles the program
// that computes ours.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { compare } from "./comparison.mjs";
import { KINDS, caseOfKind } from "./kinds.mjs";
import { hashOf, readLogProbabilities } from "./log-probabilities.mjs";

const program = process.env.LOG_PROBABILITIES;

/** Ours differ by up to 0.003, since keys and values are rounded to 13 and 12 bits. A wrong number of a family makes ten times this. */
const TOLERANCE = 0.02;

test("a program computes ours", () => assert.ok(program, "LOG_PROBABILITIES names it: run this by `npm test -- models`"));

const answers = await readLogProbabilities("short");

// Two at a time: this process makes one file while the program computes with the other.
describe("every kind of model", { concurrency: 2 }, () => {
  for (const [name, kind] of Object.entries(KINDS)) {
    test(name, async () => {
      const input = await caseOfKind(kind);
      assert.equal(answers[name]?.input, hashOf(input), "run `npm run oracle -- log-probabilities`");
      const { difference, others } = await compare(input, answers[name], { program, tolerance: TOLERANCE });
      assert.ok(difference <= TOLERANCE, `a log-probability differs by ${difference}`);
      assert.deepEqual(others, []);
    });
  }
});
