// Tests of the package's own types. Nothing here runs: `tsc -p tests/types` checks it.

import {
  Ai,
  AiInternalError,
  DEFAULT_MODEL,
  InferenceUpstreamError,
  type AiConfig,
  type ChatCompletion,
  type ChatMessage,
  type ContextScores,
  type ContextsOutput,
  type FunctionTool,
  type LoraAdapter,
  type ModelSource,
  type ResponseFormat,
  type ResponsesOutput,
  type TextCompletion,
  type TextEmbeddingsOutput,
  type TextGenerationEvent,
  type TextGenerationInput,
  type TextGenerationOutput,
  type ToolChoice,
} from "workers-ai-local";
import { Ai as ServiceWorkerAi } from "workers-ai-local/service-worker";
import { eventData } from "workers-ai-local/sse";

/** Fails to compile if the two types differ. */
function same<Expected>() {
  return <Actual>(_value: Actual, ..._proof: [Expected] extends [Actual] ? ([Actual] extends [Expected] ? [] : [never]) : [never]) => {};
}

const MODEL = "@cf/meta/llama-3.1-8b-instruct";

same<typeof Ai>()(ServiceWorkerAi);

export async function answers(ai: Ai, decided: boolean): Promise<void> {
  // The type of the result depends on the input and the options.
  same<TextGenerationOutput>()(await ai.run(MODEL, { prompt: "Hi" }));
  same<TextGenerationOutput>()(await ai.run(MODEL, { prompt: "Hi", stream: false }, {}));
  same<ReadableStream<Uint8Array>>()(await ai.run(MODEL, { prompt: "Hi", stream: true }));
  same<Response>()(await ai.run(MODEL, { prompt: "Hi", stream: true }, { returnRawResponse: true }));
  same<TextGenerationOutput | ChatCompletion | TextCompletion | ReadableStream<Uint8Array> | Response>()(await ai.run(MODEL, { prompt: "Hi", stream: decided }));

  // The shape belongs to the id.
  const completion = await ai.run("@cf/zai-org/glm-5.3", { prompt: "Hi", n: 2, logprobs: true, reasoning_effort: "low" });
  same<ChatCompletion>()(completion);
  same<string | null | undefined>()(completion.choices[0]?.message.content);
  same<TextCompletion>()(await ai.run("@cf/qwen/qwen3-30b-a3b-fp8", { prompt: "Hi" }));
  same<ChatCompletion>()(await ai.run("@cf/qwen/qwen3-30b-a3b-fp8", { messages: [{ role: "user", content: "Hi" }] }));
  same<ReadableStream<Uint8Array>>()(await ai.run("@cf/zai-org/glm-5.3", { prompt: "Hi", stream: true }));
  const responded = await ai.run("@cf/openai/gpt-oss-20b", { input: [{ role: "user", content: "Hi" }], reasoning: { effort: "low" } });
  same<ResponsesOutput>()(responded);
  await ai.run("@cf/openai/gpt-oss-20b", { input: [{ role: "user", content: "Hi" }, ...responded.output] });
  same<ReadableStream<Uint8Array>>()(await ai.run("@cf/openai/gpt-oss-20b", { input: "Hi", stream: true }));
  same<Response>()(await ai.run("@cf/openai/gpt-oss-20b", { input: "Hi", stream: true }, { returnRawResponse: true }));
  same<ResponsesOutput | ReadableStream<Uint8Array> | Response>()(await ai.run("@cf/openai/gpt-oss-20b", { input: "Hi", stream: decided }));
  // @ts-expect-error other models take no such input
  await ai.run("@cf/zai-org/glm-5.3", { input: "Hi" });

  // Embeddings.
  same<TextEmbeddingsOutput>()(await ai.run("@cf/baai/bge-base-en-v1.5", { text: ["a", "b"], pooling: "cls" }));
  same<Response>()(await ai.run("@cf/baai/bge-base-en-v1.5", { text: "a" }, { returnRawResponse: true }));
  const files = { weights: "./model.safetensors", config: new URL("https://example.com/config.json"), tokenizer: new Uint8Array() };
  new Ai({ models: { "@cf/baai/bge-base-en-v1.5": files, "@cf/own/e5": { weights: "./e5.gguf" } }, defaultEmbeddings: "./gte.gguf" });
  const [query, contexts] = ["a", [{ text: "b" }, { text: "c" }]];
  same<ContextScores>()(await ai.run("@cf/baai/bge-m3", { query, contexts }));
  same<ContextsOutput>()(await ai.run("@cf/baai/bge-m3", { contexts }));
  same<TextEmbeddingsOutput | ContextScores | ContextsOutput>()(await ai.run("@cf/baai/bge-m3", decided ? { text: query } : { query, contexts }));
  const embedded = await ai.run("@cf/qwen/qwen3-embedding-0.6b", { queries: "a", documents: ["b"], instruction: "Find" });
  same<TextEmbeddingsOutput>()(embedded);
  same<"mean" | "cls" | undefined>()(embedded.pooling);
  same<Response>()(await ai.run("@cf/baai/bge-m3", { query, contexts }, { returnRawResponse: true }));
  // @ts-expect-error: a context is an object
  await ai.run("@cf/baai/bge-m3", { query, contexts: ["b"] });
  // @ts-expect-error: an instruction needs texts
  await ai.run("@cf/qwen/qwen3-embedding-0.6b", { instruction: "Find" });
  // @ts-expect-error: contexts and texts at once
  await ai.run("@cf/baai/bge-m3", { contexts, text: "a" });
  // @ts-expect-error: there is no such pooling
  await ai.run("@cf/baai/bge-base-en-v1.5", { text: "a", pooling: "max" });

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
  same<string | object | null>()(response);
  same<number>()(usage.prompt_tokens_details.cached_tokens);
  same<"stop" | "length" | "tool_calls">()(finish_reason);
  const event: TextGenerationEvent = JSON.parse("{}");
  same<string>()(event.response);

  // Tools and JSON.
  const tools: FunctionTool[] = [{ type: "function", function: { name: "add", description: "Adds", parameters: { type: "object" } } }];
  const choices: ToolChoice[] = ["auto", "none", "required", { type: "function", function: { name: "add" } }];
  const formats: ResponseFormat[] = [{ type: "json_object" }, { type: "json_schema", json_schema: { name: "sum", schema: {}, strict: true } }];
  for (const tool_choice of choices) {
    const { tool_calls } = await ai.run(MODEL, { prompt: "1 + 2", tools, tool_choice });
    for (const call of tool_calls ?? []) same<Record<string, unknown>>()(call.arguments);
    messages.push({ role: "assistant", content: null, tool_calls: [{ id: "1", type: "function", function: { name: "add", arguments: "{}" } }] });
    messages.push({ role: "tool", tool_call_id: "1", content: "3" }, { role: "tool", name: "add", content: "3" });
  }
  for (const response_format of formats) await ai.run(MODEL, { prompt: "A sum", response_format });
  await ai.run(MODEL, { prompt: "1 + 2", functions: [{ name: "add", code: "(a, b) => a + b" }], tools: [] });
  same<string | undefined>()(event.tool_calls?.[0]?.function.arguments);
  const scout = await ai.run("@cf/meta/llama-4-scout-17b-16e-instruct", { prompt: "1 + 2", tools });
  same<Record<string, unknown> | undefined>()(scout.tool_calls?.[0]?.function.arguments);

  // @ts-expect-error temperature is a number
  await ai.run(MODEL, { prompt: "Hi", temperature: "0.5" });
  // @ts-expect-error a prompt or messages are required
  await ai.run(MODEL, { max_tokens: 10 });
  // @ts-expect-error both at once are not allowed
  await ai.run(MODEL, { prompt: "Hi", messages });
  // @ts-expect-error a misspelt field
  await ai.run(MODEL, { prompt: "Hi", max_token: 10 });
  // @ts-expect-error a message needs a role
  await ai.run(MODEL, { messages: [{ content: "Hi" }] });
  // @ts-expect-error a forced tool needs a name
  await ai.run(MODEL, { prompt: "Hi", tools, tool_choice: { type: "function" } });
  // @ts-expect-error there are only three formats
  await ai.run(MODEL, { prompt: "Hi", response_format: { type: "xml" } });
  // Batches.
  const queued = await ai.run(MODEL, { requests: [{ prompt: "Hi", external_reference: "a" }, { messages }] }, { queueRequest: true });
  same<string>()(queued.request_id);
  const batch = await ai.run(MODEL, { request_id: queued.request_id });
  await ai.run("@cf/baai/bge-m3", { requests: [{ text: "a" }, { query: "a", contexts }] }, { queueRequest: true });
  await ai.run("@cf/openai/gpt-oss-20b", { requests: [{ input: "Hi", external_reference: "a" }] }, { queueRequest: true });
  // @ts-expect-error: a request needs an input
  await ai.run(MODEL, { requests: [{ max_tokens: 1 }] }, { queueRequest: true });
  if ("responses" in batch) same<boolean | undefined>()(batch.responses[0]?.success);
  // @ts-expect-error a stream has no field `response`
  (await ai.run(MODEL, { prompt: "Hi", stream: true })).response;
  // @ts-expect-error the model comes first
  await ai.run({ prompt: "Hi" });
}

export async function events(ai: Ai): Promise<void> {
  for await (const data of eventData(await ai.run(MODEL, { prompt: "Hi", stream: true }))) same<string>()(data);
  // @ts-expect-error an object has no events
  eventData(await ai.run(MODEL, { prompt: "Hi" }));
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
    ["a.gguf", { url: "https://example.com/b.gguf", sha256: "" }, new Blob([]), { bucket, key: "c.gguf" }, own],
  ];
  const config: AiConfig = {
    models: { [MODEL]: { url: "https://example.com/model.gguf" } },
    default: DEFAULT_MODEL.url,
    hub: { endpoint: "https://hub.example.com", token: "secret" },
    cache: false,
    strict: true,
    caches: 2,
    queue: 8,
    cors: ["http://localhost:5173"],
    onProgress: ({ model, phase, loaded, total, kernels }) =>
      console.log(model, phase, total === null ? loaded : loaded / total, kernels && kernels.ready / kernels.total),
    onWarning: (text) => console.log(text.length),
    script: [
      { model: MODEL, input: /weather/, text: "Let me see.", calls: [{ name: "weather", arguments: { city: "Oslo" } }], times: 1 },
      { input: { messages: [{ role: "user", content: /busy/ }] }, error: 3040 },
      { input: ({ prompt }) => prompt === "Hi", json: { a: 1 }, delay: 5 },
      async (model, input) => (input.seed === 1 ? { text: [model, " again"], error: { code: 3036, message: "no more" } } : undefined),
    ],
    record: { folder: "fixtures/", mode: "replay" },
    remote: { [MODEL]: "when-missing", "*": "always" },
    account: { id: "a", token: "b" },
    worker: "/browser-worker.js",
    wasmUrl: { simd128: "/engine.wasm", threads: new URL("https://example.com/threads.wasm") },
  };
  // @ts-expect-error an answer's text is a text
  config.script = [{ text: 3 }];

  // @ts-expect-error a number is not a model source
  new Ai({ default: 42 });
  // @ts-expect-error the files of a split model are one list
  new Ai({ default: [["a.gguf"], "b.gguf"] });
  // @ts-expect-error the URL is missing
  new Ai({ models: { [MODEL]: { headers: {} } } });
  // @ts-expect-error a bucket without a key
  new Ai({ models: { [MODEL]: { bucket } } });
  // @ts-expect-error a misspelt field
  new Ai({ model: {} });
  // @ts-expect-error several origins must be a list
  new Ai({ cors: "http://a.example, http://b.example" });

  return [new Ai(), new Ai(config), ...sources.map((source) => new Ai({ default: source }))];
}

export async function members(ai: Ai): Promise<void> {
  same<string | null>()(ai.lastRequestId);
  same<string | null>()(ai.aiGatewayLogId);
  same<number | null>()(ai.lastRequestHttpStatusCode);
  same<number | null>()(ai.lastRequestInternalStatusCode);
  same<"cpu" | "webgpu" | null>()(ai.backend);
  same<"cpu" | "webgpu" | null>()((await ai.load(MODEL)).backend);
  same<number>()((await ai.stats()).memoryBytes);
  same<number | undefined>()((await ai.stats()).models[0]?.tokens);
  same<string | undefined>()((await ai.models())[0]?.name);
  const [model] = await Ai.models.list();
  same<string | undefined>()(model?.name);
  same<number | undefined>()(model?.bytes);
  same<Date | undefined>()(model?.used);
  same<boolean>()(await Ai.models.delete("llama-3.2-1b"));
  same<[]>()(ai.getLogs());
  same<Response>()(await ai.fetch("/v1/models"));
  same<Response>()(await ai.fetch(new Request("https://example.com/v1/models"), { signal: AbortSignal.timeout(1000) }));
  same<Response>()(await ai.fetch(new URL("https://example.com/v1/chat/completions"), { method: "POST", body: "{}" }));
  // @ts-expect-error the URL is missing
  await ai.fetch({ method: "POST" });
  // @ts-expect-error the backend is read-only
  ai.backend = "webgpu";

  try {
    await ai.run(MODEL, { prompt: "Hi" });
  } catch (error) {
    if (error instanceof InferenceUpstreamError) same<number | undefined>()(error.internalCode);
    if (error instanceof AiInternalError) same<"AiInternalError">()(error.name);
  }
}

/** LoRA adapters may be given in these ways. */
export const loras: Record<string, LoraAdapter> = {
  folder: { model: MODEL, source: "./my-adapter/" },
  gguf: { source: new URL("https://models.example/adapter.gguf") },
  peft: { source: { config: { url: "https://models.example/adapter_config.json" }, weights: new Uint8Array(8) } },
};
