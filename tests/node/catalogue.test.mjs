// The ids that the package knows, compared with the types that Cloudflare publishes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { scriptedModel } from "../scripted-model.mjs";

const types = await readFile(new URL(import.meta.resolve("@cloudflare/workers-types/index.d.ts")), "utf8");
const known = (await readFile(new URL("../../src/catalog_ids.txt", import.meta.url), "utf8")).trim().split("\n");

/** The text of a declaration, up to the next one. */
function declaration(name) {
  const found = new RegExp(`^(?:export )?(?:declare )?(?:abstract )?(?:type|interface|class) ${name}\\b([^]*?)^(?=(?:export|declare|abstract|type|interface|class)\\b)`, "m").exec(types);
  return found?.[1] ?? "";
}

/** Whether a type, or one that it mentions, has a property `messages`. */
function hasMessages(name, seen = new Set()) {
  if (seen.has(name) || seen.size > 200) return false;
  seen.add(name);
  const text = declaration(name);
  return /\bmessages\??:/.test(text) || [...text.matchAll(/\b[A-Z]\w+/g)].some(([mentioned]) => hasMessages(mentioned, seen));
}

/** Ids whose type is that of text generation, or takes messages. */
function textGeneration() {
  const list = /^interface AiModels \{([^]*?)^\}/m.exec(types)[1];
  const models = [...list.matchAll(/"([^"]+)": (\w+);/g)].map(([, id, type]) => ({ id, type }));
  assert.ok(models.length > 80, `${models.length} models`);
  return models.filter(({ type }) => type === "BaseAiTextGeneration" || (type.startsWith("Base_Ai_Cf_") && hasMessages(type))).map(({ id }) => id);
}

describe("ids of text generation", () => {
  test("are those of the published types", () => {
    assert.deepEqual(known, textGeneration().sort());
  });

  test("all get an answer from the stand-in, with one warning each", async () => {
    const warnings = [];
    const ai = new Ai({ default: scriptedModel().bytes, onWarning: (text) => warnings.push(text) });
    for (const id of known) assert.equal((await ai.run(id, { prompt: "Hi" })).response, "Hello there!", id);
    assert.equal(warnings.length, known.length);
  });

  test("one that is nearly right: the error names the right one", async () => {
    const ai = new Ai({ default: scriptedModel().bytes, onWarning() {} });
    const message = "5007: No such model @cf/meta/llama-3.1-8b-instuct or task. Did you mean @cf/meta/llama-3.1-8b-instruct?";
    await assert.rejects(ai.run("@cf/meta/llama-3.1-8b-instuct", { prompt: "Hi" }), { name: "AiError", message });
  });
});
