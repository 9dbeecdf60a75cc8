// The types of the entries for development, as configurations use them. Nothing here runs.

import { withLocalAi } from "workers-ai-local/miniflare";
import { getPlatformProxy } from "workers-ai-local/platform-proxy";
import { localAi as vitePlugin } from "workers-ai-local/vite";
import { localAi as testOptions } from "workers-ai-local/vitest";

interface Env {
  AI: Ai;
  KV: KVNamespace;
}

export async function proxy(): Promise<string | null> {
  const { env, ctx, dispose } = await getPlatformProxy<Env>({ environment: "staging", persist: false, ai: { default: "./model.gguf" } });
  ctx.waitUntil(dispose());
  await env.AI.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" });
  return env.KV.get("key");
}

export const miniflare: Promise<{ modules: boolean }> = withLocalAi({ modules: true }, { binding: "MODELS", strict: true });
export const plugins: { name: string }[] = [vitePlugin(), vitePlugin({ threads: 2 })];
export const options: (context: unknown) => Promise<{ main: string }> = testOptions({ main: "./src/index.ts" });
export const later: () => Promise<{ main: string }> = testOptions(async () => ({ main: "./src/index.ts" }), { binding: "MODELS" });

// @ts-expect-error Options of `new Ai`, not others.
vitePlugin({ modell: "./model.gguf" });
// @ts-expect-error
withLocalAi({}, { threads: "two" });
