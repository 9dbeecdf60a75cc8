// Our log-probabilities beside those that llama.cpp gave: from a native program (`examples/log_probabilities.rs`), since the package returns none.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";

/** @import { Answers } from "./log-probabilities.mjs" */

/** Rows of the passes before the compared tokens. If there is more than one, the tokens are many, and computed only once. */
const ROWS = 32;

/** Rows of passes in which a compared token is the last one. It divides no window. */
const SEVERAL = 13;

/**
 * Compares ours with the stored ones: with each compared token in a forward pass of its own, and with passes of several tokens.
 *
 * @param {{file: Uint8Array, tokens: number[], first: number}} input as llama.cpp got it
 * @param {Answers} answers
 * @param {object} options
 * @param {string} options.program
 * @param {"cpu" | "webgpu" | "webgpu-hardware"} [options.backend]
 * @param {number} options.tolerance
 * @returns {Promise<{difference: number, others: string[]}>} the largest difference of a log-probability, and the positions at which the most likely
 *   token is another one although llama.cpp's first two are further apart than `tolerance`
 */
export async function compare({ file, tokens, first }, { best, logs }, { program, backend = "cpu", tolerance }) {
  const runs = [[...chunks(first, ROWS), ...Array(tokens.length - first).fill(1)]];
  if (first < ROWS) runs.push(chunks(tokens.length, SEVERAL));
  const wanted = tokens.map((_, position) => best[position - first] ?? []);
  const outputs = (await ask(program, backend, file, { tokens, runs, wanted })).flat();
  let difference = 0;
  const others = [];
  for (const { position, best: ours, logs: ourLogs } of outputs) {
    const [expected, expectedLogs] = [best[position - first], logs[position - first]];
    // `null` is JSON's NaN.
    difference = Math.max(difference, ...ourLogs.map((log, rank) => Math.abs((log ?? Infinity) - expectedLogs[rank])));
    if (ours !== expected[0] && expectedLogs[0] - expectedLogs[1] > tolerance) others.push(`position ${position}: ${ours} instead of ${expected[0]}`);
  }
  return { difference, others };
}

function chunks(count, size) {
  return Array.from({ length: Math.ceil(count / size) }, (_, index) => Math.min(size, count - index * size));
}

async function ask(program, backend, file, input) {
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-model-"));
  try {
    const modelPath = path.join(folder, "model.gguf");
    await writeFile(modelPath, file);
    const child = spawn(program, [backend]);
    const ended = new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
    child.stdin.end(JSON.stringify({ file: modelPath, ...input }));
    const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (code !== 0) throw new Error(stderr.trim());
    return JSON.parse(stdout);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
