// A model of Llama 2 7B's shape in Q8_0, 7.3 GB, on the CPU in Node 24 with threads.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LLAMA_7B, largeModel } from "../large-model.mjs";
import { checkLargeModel } from "./large-model-run.mjs";

test("a model of 7.3 GB answers, and leaves 32 bits to a small model", async (t) => {
  const model = await largeModel(LLAMA_7B);
  assert.ok(model.size > 7.2e9);
  await checkLargeModel(t, model, { prompt: ["Ġsky", "Ġmoon"] });
});
