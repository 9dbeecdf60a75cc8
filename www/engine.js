// The engine as the page sees it: the package, its model, and what loading them looks like.

const MEGABYTE = 1e6;

/**
 * The package's `Ai` over this server's model, and the package's reader for its streams. Where the package is not
 * there, an `Error` with a line for people: imported any earlier, it would leave a page that does nothing.
 *
 * @param {(progress: import("../pkg/index.d.ts").ModelProgress) => void} onProgress
 */
export async function openEngine(onProgress) {
  try {
    const [{ Ai, DEFAULT_MODEL }, { eventData }] = await Promise.all([import("/pkg/browser.js"), import("/pkg/sse.js")]);
    return { ai: new Ai({ default: `/models/${DEFAULT_MODEL.file}`, onProgress }), eventData };
  } catch (error) {
    throw new Error(await reasonOf(error));
  }
}

/** Why the engine does not start, in a line. */
export async function reasonOf(error) {
  if (!(await isBuilt())) return "The package is not built: run `npm run build`, then reload this page.";
  return error.message || String(error);
}

/** Whether the compiled part is there; the rest of the package is source. */
async function isBuilt() {
  const response = await fetch("/pkg/wasm/builds.js", { method: "HEAD" }).catch(() => null);
  // A server that is gone is another matter.
  return !response || response.ok;
}

/** What a load is doing. */
export function phaseText({ phase, loaded, total }) {
  if (phase === "compile") return "Compiling the GPU's kernels …";
  if (phase === "check") return "Checking the GPU's kernels …";
  return loaded === total ? "Preparing the model …" : "Loading the model …";
}

/** Between 0 and 1; `null` where the length is not known. */
export function progressShare({ loaded, total, kernels }) {
  if (kernels) return kernels.ready / kernels.total;
  return total ? loaded / total : null;
}

/** "45 of 98 MB · 46 %", the percentage only where the length is known; or "3 of 25 kernels". */
export function progressText({ loaded, total, kernels }) {
  if (kernels) return `${kernels.ready} of ${kernels.total} kernels`;
  const have = Math.floor(loaded / MEGABYTE);
  if (!total) return `${have} MB`;
  return `${have} of ${Math.floor(total / MEGABYTE)} MB · ${Math.floor((loaded / total) * 100)} %`;
}

/** The file's own name, of a model that is known by its address. */
export const fileName = (model) => model.split("/").at(-1);

export const backendName = (backend) => ({ cpu: "CPU", webgpu: "GPU (WebGPU)" })[backend] ?? backend;
