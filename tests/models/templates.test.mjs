// Real chat templates and conversations, and the constructs of Jinja and Python that such templates use, render as with Jinja2 set up as transformers'
// `apply_chat_template` does it (`jinja2.mjs`).

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { int, string } from "../gguf-fixtures.mjs";
import { CONTROL, scriptedModel } from "../scripted-model.mjs";
import { CONSTRUCTS } from "./constructs.mjs";
import { CONVERSATIONS } from "./conversations.mjs";
import { modelFile } from "./files.mjs";
import { CONSTRUCT_INPUT, NOW, hashOfInputs, readTemplates, templateOfConstruct } from "./jinja2.mjs";
import { TEMPLATES, sourcesOf } from "./templates.mjs";
import { vocabularyOf } from "./vocabularies.mjs";

const MODEL = "@cf/own/template";
const answers = await readTemplates();
const sources = await sourcesOf((name) => answers.sources[name]);

before((t) => t.mock.method(Date, "now", () => NOW * 1000));

test("the answers are those to these templates and conversations", () => {
  assert.equal(answers.inputs, hashOfInputs(sources), "run `npm run oracle`");
  assert.ok(Object.keys(CONVERSATIONS).length >= 50);
});

describe("fifty conversations", () => {
  for (const [name, { bos, eos, without = 0 }] of Object.entries(TEMPLATES)) {
    test(name, async () => {
      const render = renderer(modelWith(sources[name], bos, eos));
      let notRendered = 0;
      for (const [index, [what, input]] of Object.entries(CONVERSATIONS).entries()) {
        const expected = answers.conversations[name][index];
        if (expected.text !== undefined) assert.equal(await render(input), expected.text, what);
        else if (expected.raised) await assert.rejects(render(input), (error) => error.message.startsWith("5004: ") && error.message.includes(expected.error), what);
        else notRendered += 1;
      }
      assert.equal(notRendered, without, "conversations that Jinja2 fails for");
      await render.end();
    });
  }
});

describe("a template's", () => {
  for (const [name, lines] of Object.entries(CONSTRUCTS)) {
    test(name, async () => {
      const render = renderer(scriptedModel({ template: templateOfConstruct(lines) }).bytes);
      assert.equal(answers.constructs[name].error, undefined);
      assert.equal(await render(CONSTRUCT_INPUT), answers.constructs[name].text);
      await render.end();
    });
  }
});

test("a file without a template has one format, whatever id it is asked for by", async () => {
  const expected = { "LLaMA v2": "<s>[INST] Hi [/INST]", "mistralai_mistral-7b-instruct-v0.1": "<s>[INST] Hi [/INST]", "codellama_codellama-7b-hf": "Hi" };
  const { tokens, kinds, scores, ...rest } = await vocabularyOf("llama-2");
  const vocabulary = { ...rest, tokens: tokens.slice(0, 400), kinds: kinds.slice(0, 400), scores: scores.slice(0, 400) };
  for (const [name, text] of Object.entries(expected)) {
    const file = modelFile(vocabulary, { width: 32, metadata: { "general.name": string(name) } });
    const ids = [MODEL, "@cf/meta/llama-3.1-8b-instruct", "@cf/mistral/mistral-7b-instruct-v0.1", "@hf/codellama/codellama-7b-hf"];
    const ai = new Ai({ models: Object.fromEntries(ids.map((id) => [id, file])), backend: "cpu" });
    for (const id of ids) assert.equal((await ai.tokenize(id, { prompt: "Hi" })).text, text, `${name} as ${id}`);
    await ai.close();
  }
});

/** The text of a prompt. A warning, for instance that the template cannot be used, is an error. */
function renderer(file) {
  const ai = new Ai({ models: { [MODEL]: file }, backend: "cpu", onWarning: (text) => assert.fail(text) });
  return Object.assign(async (input) => (await ai.tokenize(MODEL, input)).text, { end: () => ai.close() });
}

/** A model with this template, and with these texts for its first and last token. */
function modelWith(template, bos, eos) {
  const options = { template, eos, tokens: [{ text: bos ?? eos, kind: CONTROL }], context: 1 << 17 };
  const { tokens } = scriptedModel(options);
  return scriptedModel({ ...options, metadata: { "tokenizer.ggml.bos_token_id": bos === null ? null : int(tokens.indexOf(bos)) } }).bytes;
}
