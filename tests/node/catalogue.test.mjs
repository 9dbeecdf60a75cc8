// The ids that the package knows, compared with the types that Cloudflare publishes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { scriptedModel } from "../scripted-model.mjs";

const types = await readFile(new URL(import.meta.resolve("@cloudflare/workers-types/index.d.ts")), "utf8");
const table = (await readFile(new URL("../../src/catalog.tsv", import.meta.url), "utf8")).trim().split("\n");
/** The models of the table: id and shape of the answers. */
const models = table.filter((line) => !line.startsWith("#")).map((line) => line.split("\t")).map(([id, , , , , shape]) => ({ id, shape }));
const own = new Ai({ default: scriptedModel().bytes, onWarning() {} });

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

/** The shape of a model's answers by its type. */
function shapeOf(name) {
  if (name === "BaseAiTextGeneration") return "response";
  const output = /postProcessedOutputs: ([^;]+);/.exec(declaration(name))[1];
  if (output.includes("ResponsesOutput")) return "chat+responses";
  if (output.includes("ChatCompletionsOutput")) return "chat";
  const text = declaration(output.trim());
  if (text.includes("Text_Completion_Response")) return "chat+text";
  // Elsewhere a call has its arguments beside its name.
  return /\bfunction\?: \{[^}]*\barguments\?: object/.test(text) ? "response+objects" : "response";
}

/** Models whose type is that of text generation, or takes messages. */
function textGeneration() {
  const list = /^interface AiModels \{([^]*?)^\}/m.exec(types)[1];
  const all = [...list.matchAll(/"([^"]+)": (\w+);/g)].map(([, id, type]) => ({ id, type }));
  assert.ok(all.length > 80, `${all.length} models`);
  return all.filter(({ type }) => type === "BaseAiTextGeneration" || (type.startsWith("Base_Ai_Cf_") && hasMessages(type)));
}

describe("ids of text generation", () => {
  test("are all of the published types, with the shapes of these", () => {
    const published = textGeneration();
    assert.ok(published.length > 60, `${published.length} models`);
    const listed = new Map(models.map(({ id, shape }) => [id, shape]));
    for (const { id, type } of published) assert.equal(listed.get(id), shapeOf(type), id);
  });

  test("whose answers are chat completions are those of the package's own types", async () => {
    const declared = /type ChatCompletionsModel =([^;]+);/.exec(await readFile(new URL("../../pkg/index.d.ts", import.meta.url), "utf8"))[1];
    assert.deepEqual([...declared.matchAll(/"([^"]+)"/g)].map(([, id]) => id), models.filter(({ shape }) => shape.startsWith("chat")).map(({ id }) => id));
  });

  test("whose answers are chat completions are those of docs/catalogue.md", async () => {
    const page = await readFile(new URL("../../docs/catalogue.md", import.meta.url), "utf8");
    const list = /^Newer ids are ([^]+?); all others/m.exec(page)[1];
    assert.deepEqual([...list.matchAll(/`([^`]+)`/g)].map(([, id]) => id), models.filter(({ shape }) => shape.startsWith("chat")).map(({ id }) => id));
  });

  test("are listed by models()", async () => {
    assert.deepEqual((await own.models({ task: "Text Generation" })).map(({ name }) => name), models.map(({ id }) => id));
  });

  test("all get an answer from the stand-in, with one warning each", async () => {
    const warnings = [];
    const ai = new Ai({ default: scriptedModel().bytes, onWarning: (text) => warnings.push(text) });
    for (const { id, shape } of models) {
      const { response, choices } = await ai.run(id, { messages: [{ role: "user", content: "Hi" }] });
      assert.equal(shape.startsWith("response") ? response : choices[0].message.content, "Hello there!", id);
    }
    // The stand-in needs no warning about itself.
    assert.equal(warnings.length, models.length - 1);
  });

  test("one that is nearly right: the error names the right one", async () => {
    const ai = new Ai({ default: scriptedModel().bytes, onWarning() {} });
    const message = "5007: No such model @cf/meta/llama-3.1-8b-instuct or task. Did you mean @cf/meta/llama-3.1-8b-instruct?";
    await assert.rejects(ai.run("@cf/meta/llama-3.1-8b-instuct", { prompt: "Hi" }), { name: "AiError", message });
  });
});
