// The answers of Workers AI as the packages of Cloudflare and OpenAI declare them. published-shapes.test.mjs makes JSON Schemas of these types.

import type { AiModels } from "@cloudflare/workers-types";
import type OpenAI from "openai";
import type { TextGenerationEvent } from "workers-ai-local";

/** Of each id: the answer as one object. */
export type Answers = { [Id in keyof AiModels]: AiModels[Id]["postProcessedOutputs"] };

/** An event of a stream of chat completions. */
export type Chunk = OpenAI.Chat.Completions.ChatCompletionChunk;

type WithAnyResponse<Event> = Event extends { response: unknown } ? Omit<Event, "response"> & { response: object } : Event;
/** An event of a stream of the Responses API, as OpenAI's client knows it. Its response has Cloudflare's type. */
export type ResponsesEvent = WithAnyResponse<OpenAI.Responses.ResponseStreamEvent>;

/** An event of an older id's stream, which nobody else publishes a type of. */
export type OlderEvent = TextGenerationEvent;
