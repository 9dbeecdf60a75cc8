// Tests the contract row by row on each surface, and checks that docs/conformance.md states the results. `UPDATE=1` writes that page.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { before, describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { PAGE, pageOf } from "../../scripts/conformance.mjs";
import { ggufAdapter, randomAdapter } from "../adapters.mjs";
import { ELSEWHERE, MODELS, ROUTES, SECTIONS, SURFACES, computed } from "../conformance.mjs";
import { headOf } from "../gguf-fixtures.mjs";
import { MODEL, MODEL_PATH } from "../real-model.mjs";
import { surfacesOf } from "../surfaces.mjs";

const loras = { "made-up": { source: ggufAdapter(randomAdapter(await headOf(MODEL_PATH), { size: 0.1 })) } };
const ai = new Ai({ models: MODELS, loras, onWarning() {} });
const surfaces = surfacesOf(ai);
/** The result of each row on each surface: `marks.get(row)[surface]`. */
const marks = new Map();

before(() => ai.load());

for (const { title, rows } of SECTIONS) {
  describe(title, () => {
    for (const row of rows) {
      const found = {};
      marks.set(row, found);
      for (const surface of row.on) {
        test(`${row.field}: ${row.meaning || row.note} (${SURFACES[surface]})`, async () => {
          found[surface] = row.refused ? await refusal(row, surface) : await proof(row, surface);
        });
      }
    }
  });
}

async function proof(row, surface) {
  await row.prove({ ...surfaces[surface], ai, surface });
  return "✓";
}

/** Checks that every input of a row causes the row's error, and that 5006 computes no tokens. Returns the code as a string. */
async function refusal({ inputs, model, refused, says, busy }, surface) {
  const { ask, leave } = busy ? await busyAsk(surface) : surfaces[surface];
  const before = await computed(ai);
  try {
    for (const input of inputs) {
      const { code, message } = await ask(typeof input === "function" ? input() : input, model);
      assert.equal(code, refused, message ?? `an answer, not an error: ${JSON.stringify(input).slice(0, 300)}`);
      if (says) assert.match(message, says);
    }
    if (refused === 5006) assert.equal(await computed(ai), before);
  } finally {
    await leave?.();
  }
  return String(refused);
}

/** An `Ai` with a full queue: its only place is taken by a stream that is not read. */
async function busyAsk(surface) {
  const busy = new Ai({ queue: 1, onWarning() {} });
  const stream = await busy.run(MODEL, { prompt: "Wait", stream: true });
  return { ask: surfacesOf(busy)[surface].ask, leave: () => stream.cancel() };
}

describe("Routes", () => {
  for (const row of ROUTES) {
    test(`${row.route}: ${row.what}`, async () => {
      for (const sent of row.also ? [row.sent, row.also] : [row.sent]) {
        const response = await ai.fetch(...(typeof sent === "function" ? await sent(ai) : sent));
        assert.equal(response.status, row.status ?? 200);
        assert.equal(response.headers.get("content-type"), "application/json");
        row.check(await response.json(), response);
      }
      marks.set(row, String(row.status ?? "✓"));
    });
  }
});

describe("What needs Cloudflare's services", () => {
  for (const { what, service, call } of ELSEWHERE) {
    test(`${what} says so`, async () => {
      const named = new RegExp(`^${service} .*not available locally`);
      await assert.rejects(async () => call(ai), { name: "AiInternalError", message: named });
    });
  }
});

describe("the page", () => {
  test("docs/conformance.md states the results of these tests", async () => {
    for (const { rows } of SECTIONS) {
      for (const row of rows)
        assert.deepEqual(Object.keys(marks.get(row)), row.on, `${row.field}: ${row.meaning} does not hold on every surface`);
    }
    for (const row of ROUTES) assert.ok(marks.has(row), `${row.route} does not hold`);
    const page = pageOf(marks);
    if (process.env.UPDATE) await writeFile(PAGE, page);
    const written = await readFile(PAGE, "utf8").catch(() => "");
    assert.equal(written, page, "the page is not up to date: run `node scripts/conformance.mjs` to write it");
  });
});
