// Checks that our `Ai` can be used where a Worker's code expects Cloudflare's type. Nothing here runs: `tsc -p tests/types` checks it.

import { Ai as LocalAi } from "workers-ai-local";
import localAiWorker, { Ai as Entrypoint, type LocalAiEnv } from "workers-ai-local/worker";

interface Env {
  AI: Ai;
}

const env: Env = { AI: new LocalAi() };
const local: { AI: Ai } = { AI: new LocalAi({ strict: true, models: { "@cf/meta/llama-3-8b-instruct": "llama.gguf" } }) };

/** Code of a Worker, with Cloudflare's types, that uses our class. */
export async function worker(): Promise<string> {
  const messages = [
    { role: "system", content: "You are a friendly assistant" },
    { role: "user", content: "What is the origin of the phrase Hello, World" },
  ];

  const object = await env.AI.run("@cf/meta/llama-2-7b-chat-int8", { messages, max_tokens: 10 });
  const text: string | undefined = object.response;
  const tokens: number | undefined = object.usage?.total_tokens;

  const stream: ReadableStream = await env.AI.run("@cf/meta/llama-3-8b-instruct", { prompt: "Hi", stream: true });

  const raw: Response = await env.AI.run("@cf/meta/llama-2-7b-chat-int8", { prompt: "Hi" }, { returnRawResponse: true });

  const unknown: Record<string, unknown> = await local.AI.run("@cf/own/model", { prompt: "Hi" });
  const catalogue: string[] = (await env.AI.models({ author: "meta" })).map(({ name }) => name);

  // @ts-expect-error Cloudflare's types still apply
  await env.AI.run("@cf/meta/llama-2-7b-chat-int8", { prompt: "Hi", temperature: "hot" });

  return [text, tokens, stream, raw, unknown, catalogue, env.AI.aiGatewayLogId].join();
}

/** A Worker whose `env.AI` is our class instead of a binding. */
export default {
  async fetch(_request, { AI }) {
    const stream = await AI.run("@cf/meta/llama-3-8b-instruct", { prompt: "Hi", stream: true });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  },
} satisfies ExportedHandler<Env>;

/** An R2 bucket, with Cloudflare's type, can hold models. */
export const fromBucket = async (bucket: R2Bucket): Promise<LocalAi> => {
  const object = await bucket.get("stand-in.gguf");
  if (!object) throw new Error("no such object");
  return new LocalAi({ models: { "@cf/meta/llama-3-8b-instruct": { bucket, key: "llama.gguf" } }, default: object });
};

/** The entrypoint of `workers-ai-local/worker`, bound by the Worker that exports it. */
export const bound = async ({ AI }: { AI: Service<typeof Entrypoint> }): Promise<Response> => AI.fetch(new Request("https://example.com/v1/models"));

export const whole: ExportedHandler<LocalAiEnv> = localAiWorker;
