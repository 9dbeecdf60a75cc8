// The texts of one build of the crate, for comparisons between builds.

import { PARITY_INPUTS } from "../parity-inputs.mjs";
import { inOneProcess } from "./one-process.mjs";

/** Runs in the other process. */
async function textsOf(Ai, { config, inputs }) {
  const ai = new Ai({ ...config, onWarning() {} });
  const texts = {};
  for (const { what, model, input } of inputs) texts[what] = (await ai.run(model, input)).response;
  const { build, threads } = await ai.stats();
  return { texts, build, threads };
}

/** Resolves to the texts of `PARITY_INPUTS` with a configuration, in a process of their own (`options`: of `inOneProcess`), and the build and the threads that computed them. */
export const textsOfBuild = (config, options) => inOneProcess(textsOf, { ...options, argument: { config, inputs: PARITY_INPUTS } });
