// A project whose configuration file names a model and an adapter on the hub, for every entry that reads the file.

import { peftAdapter, successorAdapter } from "../adapters.mjs";
import { startHub } from "../hub-server.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { MODEL } from "./project.mjs";

/** What `ANSWERS_OF` gives: the answer of the model, and the one with the adapter. */
export const NAMED = ["From the hub.", "Bonjour the hub."];
/** Code that asks for both. */
export const ANSWERS_OF = `const answersOf = (ai) => Promise.all([{}, { lora: "french" }].map(async (more) => (await ai.run("${MODEL}", { prompt: "Hi", temperature: 0, ...more })).response));`;

/** Starts the hub. `files`: the configuration file of a project. */
export async function namedModels() {
  const model = scriptedModel({ script: ["From", " the", " hub."], tokens: [{ text: "Bonjour", kind: 1 }], next: { Bonjour: " the" } });
  const adapter = peftAdapter(successorAdapter(model, { "\n": "Bonjour" }));
  const hub = await startHub({
    "owner/model": { files: { "model-Q4_K_M.gguf": Buffer.from(model.bytes) } },
    "owner/adapter": { files: { "adapter_config.json": Buffer.from(adapter.config), "adapter_model.safetensors": Buffer.from(adapter.weights) } },
  });
  const config = { models: { [MODEL]: "hf:owner/model:Q4_K_M" }, loras: { french: { model: MODEL, source: "hf:owner/adapter/" } }, hub: { endpoint: hub.url } };
  return { files: { "workers-ai-local.json": config }, close: hub.close };
}
