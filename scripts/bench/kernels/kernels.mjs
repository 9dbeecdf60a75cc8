// Measures only the kernels, in Node with one thread: each build with each type of weights.

import { stat } from "node:fs/promises";
import { inProject, npmBin } from "../../lib/project.mjs";
import { CommandFailed, run } from "../../lib/process.mjs";
import { UserError, say, withProgress } from "../../lib/report.mjs";
import { aligned, onMachine } from "../figures.mjs";

const BUILDS = ["simd128", "relaxed", "threads", "relaxed-threads"];

/**
 * Measures every build that exists.
 *
 * @returns {Promise<{build: string, kernels: {type: string, op: string, bytes: number, multiplyAdds: number, seconds: number}[]}[]>}
 *   `bytes` of weights read and `multiplyAdds` done in `seconds`
 * @throws {UserError} if no build could be measured
 */
export async function measureKernels() {
  const results = [];
  for (const build of BUILDS) {
    const folder = inProject("pkg", "wasm", build);
    if (!(await stat(folder).catch(() => null))) {
      say(`  ${build} is skipped: pkg/wasm/${build} is not built`);
      continue;
    }
    let last = "";
    try {
      await withProgress(`kernels of ${build}`, () =>
        run(npmBin("node"), [inProject("scripts", "bench", "kernels", "kernels-process.mjs"), folder], { onLine: (line) => (last = line) }),
      );
      results.push({ build, kernels: JSON.parse(last) });
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      say(`  ${build} is skipped: ${error.message}`);
    }
  }
  if (results.length === 0) throw new UserError("no build could be measured");
  return results;
}

/**
 * The table of all kernels.
 *
 * @param {{machine: object, builds: Awaited<ReturnType<typeof measureKernels>>}} results
 */
export function kernelTable({ machine, builds }) {
  const keys = [...new Set(builds.flatMap(({ kernels }) => kernels.map(({ type, op }) => `${type} ${op}`)))];
  const rows = [
    ["", ...builds.flatMap(({ build }) => [build, ""])],
    ["", ...builds.flatMap(() => ["GB/s", "10⁹ madd/s"])],
    ...keys.map((key) => [
      key,
      ...builds.flatMap(({ kernels }) => {
        const kernel = kernels.find(({ type, op }) => `${type} ${op}` === key);
        return kernel ? [kernel.bytes, kernel.multiplyAdds].map((count) => (count / kernel.seconds / 1e9).toFixed(2)) : ["-", "-"];
      }),
    ]),
  ];
  return [
    `Kernels in Node 22, one thread, ${onMachine(machine)}`,
    "GB/s: bytes of weights read per second. 10⁹ madd/s: billions of multiply-adds per second.",
    "",
    ...aligned(rows),
  ].join("\n");
}
