// Requests whose text must be identical, byte for byte, in Node, workerd and Chromium: each has a seed or is greedy.
// This file imports no module of a specific runtime, so a page can import it too.

/** Each `model` is an id in the catalogue; the default model computes the answer. */
export const PARITY_INPUTS = [
  { what: "greedy", model: "@cf/huggingface/smollm2-135m-instruct", input: { prompt: "The capital of France is", raw: true, temperature: 0, max_tokens: 12 } },
  { what: "a seed", model: "@cf/huggingface/smollm2-135m-instruct", input: { prompt: "Once upon a time", raw: true, temperature: 1, seed: 42, max_tokens: 12 } },
  {
    what: "every sampling field",
    model: "@cf/meta/llama-3.1-8b-instruct",
    input: {
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Name a colour." }],
      temperature: 1.3,
      top_p: 0.9,
      top_k: 40,
      seed: 7,
      repetition_penalty: 1.2,
      frequency_penalty: 0.5,
      presence_penalty: 0.25,
      max_tokens: 12,
    },
  },
  { what: "any token at all", model: "@cf/huggingface/smollm2-135m-instruct", input: { prompt: "Ελληνικά 中文 👩‍👩‍👧‍👦 é", raw: true, temperature: 5, seed: 9_999_999_999, max_tokens: 16 } },
];

/** The texts of all requests, by their `what`. `run` is the `run` of an `Ai` in any runtime. */
export async function parityTexts(run) {
  const texts = {};
  for (const { what, model, input } of PARITY_INPUTS) texts[what] = (await run(model, input)).response;
  return texts;
}
