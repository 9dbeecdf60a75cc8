// wgpu's source for builds that unwind. wgpu 30 does not compile there: wasm-bindgen then requires that what a callback captures be unwind
// safe, and four of wgpu's callbacks do not assert it. The compiler gets a copy in which they do.

import { cp, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { inProject } from "./project.mjs";
import { capture } from "./process.mjs";
import { UserError } from "./report.mjs";

/** The file with the callbacks, each way to make one, what asserts that it is unwind safe, and how often it occurs. */
const FILE = "src/backend/webgpu.rs";
const CALLBACKS = [
  ["Closure::once(", "Closure::once_assert_unwind_safe(", 3],
  ["Closure::wrap(", "Closure::wrap_assert_unwind_safe(", 1],
];

/** cargo's arguments that make it compile the copy. */
export async function unwindingWgpu({ cargo, env }) {
  const original = await folderOfWgpu({ cargo, env });
  const copy = inProject("target", "wgpu");
  const file = path.join(original, FILE);
  let text = await readFile(file, "utf8");
  for (const [callback, asserted, count] of CALLBACKS) {
    const found = text.split(callback).length - 1;
    if (found !== count) throw new UserError(`${file} has ${found} of "${callback}", not ${count}: see scripts/lib/wgpu.mjs`);
    text = text.replaceAll(callback, asserted);
  }
  // Written only when it changes, because cargo compares times.
  if ((await readFile(path.join(copy, FILE), "utf8").catch(() => "")) !== text) {
    await rm(copy, { recursive: true, force: true });
    await cp(original, copy, { recursive: true });
    await writeFile(path.join(copy, FILE), text);
  }
  // Not [patch], which would change Cargo.lock.
  return ["--config", `paths=[${JSON.stringify(copy)}]`];
}

/** The folder into which cargo has unpacked wgpu. */
async function folderOfWgpu({ cargo, env }) {
  const metadata = await capture(cargo, ["metadata", "--format-version", "1", "--locked"], { env });
  const { packages } = JSON.parse(metadata ?? '{"packages": []}');
  const wgpu = packages.find(({ name }) => name === "wgpu");
  if (!wgpu) throw new UserError("cargo metadata does not name wgpu: run `cargo metadata --locked` to see why");
  return path.dirname(wgpu.manifest_path);
}
