// The builds with relaxed SIMD give the texts of the others. `npm test` compares their kernels alone, which are all that differs.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { builds } from "../../pkg/wasm/builds.js";
import { textsOfBuild } from "./build-texts.mjs";

describe("every build gives the same text", () => {
  let expected;
  before(async () => {
    expected = (await textsOfBuild({ build: "simd128" })).texts;
  });

  for (const build of ["relaxed", "threads", "relaxed-threads"]) {
    const missing = !builds[build] && `the build "${build}" is missing: \`npm run build\` says why`;
    test(build, { skip: missing }, async () => {
      const { texts, ...facts } = await textsOfBuild({ build });
      assert.equal(facts.build, build);
      assert.deepEqual(texts, expected);
    });
  }
});
