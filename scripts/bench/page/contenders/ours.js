// The package as a contender, through its public API. The same code runs in a page and in Node.

import { MODEL, streamed } from "../ours.js";

/**
 * Imports the package and loads the model.
 *
 * @param {object} options
 * @param {string} options.entry the module to import
 * @param {string} options.model the URL or path of the model file
 * @param {string} options.build
 * @param {number} options.threads
 * @throws if another build runs
 */
export async function open({ entry, model, build, threads }) {
  const { Ai } = await import(entry);
  const ai = new Ai({ default: model, build, threads, onWarning() {} });
  await ai.load(MODEL);
  const stats = await ai.stats();
  if (stats.build && stats.build !== build) throw new Error(`requested the build ${build}, but the package runs ${stats.build}`);
  return {
    prefixCache: true,
    ran: stats.build ? `${stats.build}, ${stats.threads ?? 1} thread${stats.threads > 1 ? "s" : ""}` : "the package does not report its build",
    generate: ({ prompt, maxTokens }) => streamed(ai, { prompt, raw: true, max_tokens: maxTokens }),
    memoryBytes: async () => (await ai.stats()).memoryBytes,
  };
}
