// The contender node-llama-cpp, with its completion API. Runs in a separate process.

import { pathToFileURL } from "node:url";

const CONTEXT = 4096;

export async function open({ entry, model: modelPath, threads }) {
  const { LlamaCompletion, getLlama } = await import(pathToFileURL(entry).href);
  const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, progressLogs: false, logLevel: "error" });
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext({ contextSize: CONTEXT, threads });
  const contextSequence = context.getSequence();
  const completion = new LlamaCompletion({ contextSequence });
  return {
    prefixCache: true,
    ran: `llama.cpp ${llama.llamaCppRelease.release}, ${context.currentThreads || context.idealThreads} thread${threads > 1 ? "s" : ""}`,
    // It is not WebAssembly.
    memoryBytes: () => undefined,
    async generate({ prompt, maxTokens }) {
      const begun = performance.now();
      const times = [];
      const input = model.tokenize(prompt);
      const cachedTokens = contextSequence.compareContextTokens(input).firstDifferentIndex;
      await completion.generateCompletion(input, {
        maxTokens,
        temperature: 0,
        onToken: (tokens) => tokens.forEach(() => times.push((performance.now() - begun) / 1000)),
      });
      return { times, tokens: times.length, promptTokens: input.length, cachedTokens };
    },
  };
}
