// What computes the last loaded model, and why: for the playground, of a browser and of `serve`.

/** @import { Ai, Backend, Build } from "./index.d.ts" */

/**
 * @param {Pick<Ai, "stats" | "backend" | "backendReason">} ai
 * @returns {Promise<{backend: Backend | null, why: string | null, build: Build, threads: number, memoryBytes: number}>}
 */
export async function computing(ai) {
  const { wide, models, ...narrow } = await ai.stats();
  const model = models.at(-1);
  const { build, threads, memoryBytes } = wide && model?.build === wide.build ? wide : { ...narrow, build: model?.build ?? narrow.build };
  const why = model?.gpu ? `WebGPU works here and passed the self-check (${model.gpu.adapter}).` : (model?.reason ?? ai.backendReason);
  return { backend: model?.backend ?? ai.backend, why, build, threads, memoryBytes };
}
