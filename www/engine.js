// The page's interface to the package: creates the `Ai`, and formats the progress of loading.

/**
 * @import { Ai, ModelProgress } from "../pkg/index.d.ts"
 * @typedef {{ai: Ai} & Pick<typeof import("../pkg/sse.js"), "eventData"> & Pick<typeof import("../pkg/pieces.js"), "pieceOf">} Engine the `Ai`, and
 *   the readers of its streams
 */

const MEGABYTE = 1e6;

/**
 * Imports the package and creates its `Ai` with this server's model. The import is dynamic: if a static import failed, the page would not
 * run at all.
 *
 * @param {(progress: ModelProgress) => void} onProgress
 * @returns {Promise<Engine>}
 * @throws {Error} with a message for the user, if the package is missing
 */
export async function openEngine(onProgress) {
  try {
    const parts = await Promise.all([import("/pkg/browser.js"), import("/pkg/sse.js"), import("/pkg/pieces.js")]);
    const [{ Ai, DEFAULT_MODEL }, { eventData }, { pieceOf }] = parts;
    return { ai: new Ai({ default: await modelAddress(`/models/${DEFAULT_MODEL.file}`), onProgress }), eventData, pieceOf };
  } catch (error) {
    throw new Error(await reasonOf(error));
  }
}

/**
 * The model's own address. If the model is split, the server says there which part this one is, and the others are found by that.
 *
 * @param {string} address
 */
async function modelAddress(address) {
  const response = await fetch(address, { method: "HEAD", redirect: "manual" }).catch(() => null);
  return response?.headers.get("content-location") ?? address;
}

/**
 * A one-line message for the user: why the engine does not start.
 *
 * @param {any} error whatever was thrown
 * @returns {Promise<string>}
 */
export async function reasonOf(error) {
  if (!(await isBuilt())) return "The package is not built: run `npm run build`, then reload this page.";
  return error.message || String(error);
}

/** Whether the server has the package's compiled part. The rest of the package is source and always exists. */
async function isBuilt() {
  const response = await fetch("/pkg/wasm/builds.js", { method: "HEAD" }).catch(() => null);
  // If the server does not answer at all, that is a different problem.
  return !response || response.ok;
}

/**
 * The text for the current phase of a load.
 *
 * @param {ModelProgress} progress
 */
export function phaseText({ phase, loaded, total }) {
  if (phase === "compile") return "Compiling GPU kernels …";
  if (phase === "check") return "Checking GPU kernels …";
  return loaded === total ? "Preparing the model …" : "Loading the model …";
}

/**
 * Progress between 0 and 1; `null` if the length is unknown.
 *
 * @param {ModelProgress} progress
 */
export function progressShare({ loaded, total, kernels }) {
  if (kernels) return kernels.ready / kernels.total;
  return total ? loaded / total : null;
}

/**
 * For instance "45 of 98 MB · 46 %" (only "45 MB" if the length is unknown) or "3 of 25 kernels".
 *
 * @param {ModelProgress} progress
 */
export function progressText({ loaded, total, kernels }) {
  if (kernels) return `${kernels.ready} of ${kernels.total} kernels`;
  const have = Math.floor(loaded / MEGABYTE);
  if (!total) return `${have} MB`;
  return `${have} of ${Math.floor(total / MEGABYTE)} MB · ${Math.floor((loaded / total) * 100)} %`;
}

/**
 * The file name in a model's URL.
 *
 * @param {string} model
 */
export const fileName = (model) => model.slice(model.lastIndexOf("/") + 1);

/**
 * The name of a backend for the user.
 *
 * @param {import("../pkg/index.d.ts").Backend} backend
 */
export const backendName = (backend) => ({ cpu: "CPU", webgpu: "GPU (WebGPU)" })[backend] ?? backend;
