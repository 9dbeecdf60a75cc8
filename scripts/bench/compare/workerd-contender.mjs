// The package in workerd as a contender: the local Worker, called over REST. The client measures the time, because clocks in Workers do
// not advance during computation.

import { startDevWorker } from "../../dev-worker.mjs";
import { streamed } from "../page/ours.js";

export async function open({ build }) {
  const worker = await startDevWorker({ configs: ["wrangler.toml"], vars: { BUILD: build }, quiet: true });
  const ai = {
    async run(model, input) {
      const response = await fetch(`${worker.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body: JSON.stringify(input) });
      if (!response.ok) throw new Error(`workerd answered ${response.status}: ${await response.text()}`);
      return response.body;
    },
  };
  return {
    prefixCache: true,
    ran: `${build}, 1 thread, over HTTP`,
    generate: ({ prompt, maxTokens }) => streamed(ai, { prompt, raw: true, max_tokens: maxTokens }),
    // Not available over REST.
    memoryBytes: () => undefined,
  };
}
