// The package's own types. Nothing here runs: `tsc -p tests/types` reads it.

import {
  Ai,
  AiInternalError,
  DEFAULT_MODEL,
  InferenceUpstreamError,
  type AiConfig,
  type ChatMessage,
  type ModelSource,
  type TextGenerationEvent,
  type TextGenerationInput,
  type TextGenerationOutput,
} from "workers-ai-local";

/** Fails to compile where the two types are not the same. */
function same<Expected>() {
  return <Actual>(_value: Actual, ..._proof: [Expected] extends [Actual] ? ([Actual] extends [Expected] ? [] : [never]) : [never]) => {};
}

const MODEL = "@cf/meta/llama-3.1-8b-instruct";

export async function answers(ai: Ai, decided: boolean): Promise<void> {
  // The form follows the input and the options.
  same<TextGenerationOutput>()(await ai.run(MODEL, { prompt: "Hi" }));
  same<TextGenerationOutput>()(await ai.run(MODEL, { prompt: "Hi", stream: false }, {}));
  same<ReadableStream<Uint8Array>>()(await ai.run(MODEL, { prompt: "Hi", stream: true }));
  same<Response>()(await ai.run(MODEL, { prompt: "Hi", stream: true }, { returnRawResponse: true }));
  same<TextGenerationOutput | ReadableStream<Uint8Array> | Response>()(await ai.run(MODEL, { prompt: "Hi", stream: decided }));

  // Literals and variables.
  const messages: ChatMessage[] = [{ role: "user", content: [{ type: "text", text: "Hi" }] }, { role: "assistant", content: null }];
  const widened = [{ role: "user", content: "Hi" }];
  const input: TextGenerationInput = {
    messages,
    max_tokens: 10,
    temperature: 0,
    top_p: 0.9,
    top_k: 40,
    seed: 7,
    repetition_penalty: 1.1,
    frequency_penalty: 0.5,
    presence_penalty: -0.5,
    stop: ["\n"],
    tools: [{ name: "add" }, { type: "function", function: { name: "sub", parameters: { type: "object" } } }],
    tool_choice: { type: "function", function: { name: "add" } },
    response_format: { type: "json_schema", json_schema: { type: "object" } },
  };
  same<TextGenerationOutput>()(await ai.run(MODEL, { messages: widened, raw: false }));
  await ai.run(MODEL, input, { signal: AbortSignal.timeout(1000), tags: ["test"] });
  await ai.run(MODEL, { prompt: "Hi", raw: true, max_completion_tokens: 1, n: 1, user: "me" });

  const { response, usage, finish_reason } = await ai.run(MODEL, { prompt: "Hi" });
  same<string>()(response);
  same<number>()(usage.prompt_tokens_details.cached_tokens);
  same<"stop" | "length" | "tool_calls">()(finish_reason);
  const event: TextGenerationEvent = JSON.parse("{}");
  same<string>()(event.response);

  // @ts-expect-error temperature is a number
  await ai.run(MODEL, { prompt: "Hi", temperature: "0.5" });
  // @ts-expect-error a prompt or messages
  await ai.run(MODEL, { max_tokens: 10 });
  // @ts-expect-error never both
  await ai.run(MODEL, { prompt: "Hi", messages });
  // @ts-expect-error a misspelt field
  await ai.run(MODEL, { prompt: "Hi", max_token: 10 });
  // @ts-expect-error a message has a role
  await ai.run(MODEL, { messages: [{ content: "Hi" }] });
  // @ts-expect-error there is no batch queue here
  await ai.run(MODEL, { prompt: "Hi" }, { queueRequest: true });
  // @ts-expect-error a stream is no object
  (await ai.run(MODEL, { prompt: "Hi", stream: true })).response;
  // @ts-expect-error the model comes first
  await ai.run({ prompt: "Hi" });
}

export function configurations(bucket: R2Bucket, own: { name: string; open(offset: number): Promise<never> }): Ai[] {
  const sources: ModelSource[] = [
    "https://example.com/model.gguf",
    "./model.gguf",
    new URL("https://example.com/model.gguf"),
    { url: "https://example.com/model.gguf", headers: { authorization: "Bearer x" } },
    new Blob([]),
    new ArrayBuffer(8),
    new Uint8Array(8),
    { bucket, key: "model.gguf" },
    own,
  ];
  const config: AiConfig = {
    models: { [MODEL]: { url: "https://example.com/model.gguf" } },
    default: DEFAULT_MODEL.url,
    strict: true,
    caches: 2,
    queue: 8,
    onProgress: ({ model, loaded, total }) => console.log(model, total === null ? loaded : loaded / total),
    onWarning: (text) => console.log(text.length),
  };

  // @ts-expect-error a number is no file
  new Ai({ default: 42 });
  // @ts-expect-error an address is missing
  new Ai({ models: { [MODEL]: { headers: {} } } });
  // @ts-expect-error a bucket without a key
  new Ai({ models: { [MODEL]: { bucket } } });
  // @ts-expect-error a misspelt field
  new Ai({ model: {} });

  return [new Ai(), new Ai(config), ...sources.map((source) => new Ai({ default: source }))];
}

export async function members(ai: Ai): Promise<void> {
  same<string | null>()(ai.lastRequestId);
  same<string | null>()(ai.aiGatewayLogId);
  same<number | null>()(ai.lastRequestHttpStatusCode);
  same<number | null>()(ai.lastRequestInternalStatusCode);
  same<"cpu" | "webgpu" | null>()(ai.backend);
  same<"cpu" | "webgpu">()((await ai.load(MODEL)).backend);
  same<number>()((await ai.stats()).memoryBytes);
  same<number | undefined>()((await ai.stats()).models[0]?.tokens);
  same<string | undefined>()((await ai.models())[0]?.name);
  same<[]>()(ai.getLogs());
  // @ts-expect-error what computes is not chosen so
  ai.backend = "webgpu";

  try {
    await ai.run(MODEL, { prompt: "Hi" });
  } catch (error) {
    if (error instanceof InferenceUpstreamError) same<number | undefined>()(error.internalCode);
    if (error instanceof AiInternalError) same<"AiInternalError">()(error.name);
  }
}
