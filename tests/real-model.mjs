// The real model of the tests: SmolLM2-135M-Instruct, from the folder into which `npm test` downloads it.

import { homedir } from "node:os";
import path from "node:path";
import { DEFAULT_MODEL, modelFolder } from "../pkg/default-model.js";

/** The default model's own id in the catalogue. */
export const MODEL = "@cf/huggingface/smollm2-135m-instruct";

/** The path of its file. */
export const MODEL_PATH = process.env.WORKERS_AI_LOCAL_MODEL || path.join(modelFolder(process.env, homedir()), DEFAULT_MODEL.file);

/** A short raw prompt, without a chat template. */
export const PARIS = { prompt: "The capital of France is", raw: true, temperature: 0 };

/** A user turn in this model's chat template, followed by the start of the assistant's turn. For raw prompts; has no system turn. */
export const chatTurn = (text) => `<|im_start|>user\n${text}<|im_end|>\n<|im_start|>assistant\n`;
