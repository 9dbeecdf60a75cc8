// With which vocabulary and chat template the models of each architecture are published, as far as npm packages and llama.cpp's repository have them.

import { CONTROL } from "../scripted-model.mjs";
import { further } from "./cases.mjs";
import { readTemplates } from "./jinja2.mjs";
import { sourcesOf } from "./templates.mjs";
import { vocabularyOf } from "./vocabularies.mjs";

/**
 * By architecture. `vocabulary`: its name in `vocabularies.mjs`; `template`: its name in `templates.mjs`, absent if it is to be had nowhere. `markers`:
 * the vocabulary is in no package; another real one of about its size stands in, with these control tokens of it.
 */
const PUBLISHED = {
  llama: { vocabulary: "llama-3.1", template: "Llama 3.1" },
  qwen2: { vocabulary: "qwen-2.5", template: "Qwen 2.5" },
  qwen3: { vocabulary: "qwen-3", template: "Qwen 3" },
  granite: { vocabulary: "smollm2", template: "Granite 3.3", markers: ["<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"] },
  smollm3: { vocabulary: "smollm3", template: "SmolLM3" },
  mistral3: { vocabulary: "mistral-nemo", template: "Mistral Nemo" },
  phi3: { vocabulary: "phi-3", template: "Phi-3.5 mini" },
  gemma2: { vocabulary: "gemma-2", template: "Gemma 2" },
  gemma3: { vocabulary: "gemma-3", template: "Gemma 3" },
  olmo2: { vocabulary: "olmo-2" },
  exaone4: { vocabulary: "olmo-2", markers: ["[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"] },
  glm4: { vocabulary: "qwen-3", template: "GLM-4", markers: ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"] },
  seed_oss: { vocabulary: "qwen-3", template: "Seed-OSS", markers: ["<seed:bos>", "<seed:eos>"] },
};

export const templateNameOf = (architecture) => PUBLISHED[architecture].template;

const made = new Map();

/**
 * The vocabulary of an architecture, with its template.
 *
 * @returns {Promise<import("./vocabularies.mjs").Vocabulary>} one for all who ask: not to be changed
 */
export function publishedVocabulary(architecture) {
  if (!made.has(architecture)) made.set(architecture, make(PUBLISHED[architecture]));
  return made.get(architecture);
}

async function make({ vocabulary: name, template, markers = [] }) {
  const vocabulary = await vocabularyOf(name);
  const more = further(vocabulary, Object.fromEntries(markers.map((marker) => [marker, CONTROL])));
  return { ...vocabulary, ...more, template: (await templates)[template] };
}

const templates = readTemplates().then(({ sources }) => sourcesOf((name) => sources[name]));
