// The package, through its public API: the same in a page and in Node.

import { MODEL, streamed } from "../ours.js";

/**
 * @param {object} options
 * @param {string} options.entry what is imported
 * @param {string} options.model
 * @param {string} options.build
 * @param {number} options.threads
 */
export async function open({ entry, model, build, threads }) {
  const { Ai } = await import(entry);
  const ai = new Ai({ default: model, build, threads, onWarning() {} });
  await ai.load(MODEL);
  const stats = await ai.stats();
  if (stats.build && stats.build !== build) throw new Error(`asked for the build ${build}, the package runs ${stats.build}`);
  return {
    prefixCache: true,
    ran: stats.build ? `${stats.build}, ${stats.threads ?? 1} thread${stats.threads > 1 ? "s" : ""}` : "the package does not say which build",
    generate: ({ prompt, maxTokens }) => streamed(ai, { prompt, raw: true, max_tokens: maxTokens }),
    memoryBytes: async () => (await ai.stats()).memoryBytes,
  };
}
