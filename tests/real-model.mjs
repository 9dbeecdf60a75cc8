// The real model that the tests run: SmolLM2-135M-Instruct, from the place where `npm test` put it.

import { homedir } from "node:os";
import path from "node:path";
import { DEFAULT_MODEL, modelFolder } from "../pkg/default-model.js";

/** The id under which the default model can be asked for by itself. */
export const MODEL = "@cf/huggingface/smollm2-135m-instruct";

/** Its file. */
export const MODEL_PATH = process.env.WORKERS_AI_LOCAL_MODEL || path.join(modelFolder(process.env, homedir()), DEFAULT_MODEL.file);

/** A short prompt that is continued as it stands. */
export const PARIS = { prompt: "The capital of France is", raw: true, temperature: 0 };

/** A chat turn as this model's template writes it, open for the assistant; for raw prompts without a system turn. */
export const chatTurn = (text) => `<|im_start|>user\n${text}<|im_end|>\n<|im_start|>assistant\n`;
