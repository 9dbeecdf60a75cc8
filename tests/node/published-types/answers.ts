// The answers of Workers AI as the packages of Cloudflare and OpenAI declare them. published-shapes.test.mjs makes JSON Schemas of these types.

import type { AiModels } from "@cloudflare/workers-types";
import type OpenAI from "openai";

/** Of each id: the answer as one object. */
export type Answers = { [Id in keyof AiModels]: AiModels[Id]["postProcessedOutputs"] };

/** An event of a stream of chat completions. */
export type Chunk = OpenAI.Chat.Completions.ChatCompletionChunk;
