// The kernels compiled with relaxed SIMD give the bits of their reference implementation, in an engine that has relaxed SIMD. `npm test` makes
// the module and names its folder.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { DOT_PRODUCT } from "../../pkg/dot-products.js";

const folder = process.env.RELAXED_KERNELS;

/** The instruction `i32x4.relaxed_dot_i8x16_i7x16_add_s`: prefix, opcode in LEB128. */
const RELAXED_DOT = Buffer.from([0xfd, 0x93, 0x02]);

test("this engine has relaxed SIMD, and the module uses it", async () => {
  assert.ok(folder, "RELAXED_KERNELS names the folder of the module: run this by `npm test -- kernels`");
  assert.ok(WebAssembly.validate(DOT_PRODUCT));
  const wasm = await readFile(path.join(folder, "workers_ai_local_kernels_bg.wasm"));
  assert.ok(wasm.includes(RELAXED_DOT));
});

test("every kernel gives the bits of its reference implementation", async () => {
  const { default: init } = await import(pathToFileURL(path.join(folder, "workers_ai_local_kernels.js")).href);
  const { compare } = await init({ module_or_path: await readFile(path.join(folder, "workers_ai_local_kernels_bg.wasm")) });
  for (const seed of [1, 2, 3]) {
    const result = compare(seed, 20);
    const [different, compared] = [Number(result >> 32n), Number(result & 0xffff_ffffn)];
    assert.ok(compared > 10_000, `${compared} results`);
    assert.equal(different, 0, `${different} of ${compared} results differ`);
  }
});
