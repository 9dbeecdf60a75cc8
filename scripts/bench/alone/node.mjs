// Measures the package in Node 22. Each repetition starts a new process.

import { inProject, npmBin } from "../../lib/project.mjs";
import { run } from "../../lib/process.mjs";

export const id = "node";
export const name = "workers-ai-local, Node";

/** @param {{modelPath: string}} setting prepared by bench.mjs */
export async function open({ modelPath }) {
  let version;
  return {
    get version() {
      return version;
    },
    async measure(repetition) {
      let last = "";
      await run(npmBin("node"), [inProject("scripts", "bench", "alone", "node-process.mjs"), String(repetition)], {
        env: { WORKERS_AI_LOCAL_MODEL: modelPath },
        onLine: (line) => (last = line),
      });
      const { node, ...measured } = JSON.parse(last);
      version = node;
      return measured;
    },
    async close() {},
  };
}
