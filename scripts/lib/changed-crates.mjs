// Crates of which the compiler gets a copy with a few words changed, where the published one does not compile for a build.

import { cp, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { inProject } from "./project.mjs";
import { capture } from "./process.mjs";
import { UserError } from "./report.mjs";

/** By crate: the file, and each text in it, what replaces it, and how often it occurs. */
const CHANGES = {
  // wgpu 30 does not compile where panics unwind: wasm-bindgen then requires that what a callback captures be unwind safe, and four of wgpu's
  // callbacks do not assert it.
  wgpu: {
    file: "src/backend/webgpu.rs",
    texts: [
      ["Closure::once(", "Closure::once_assert_unwind_safe(", 3],
      ["Closure::wrap(", "Closure::wrap_assert_unwind_safe(", 1],
    ],
  },
  // wasm-bindgen 0.2 does not compile for 64-bit memory where panics unwind: one condition names 32-bit memory.
  "wasm-bindgen": {
    file: "src/convert/closures.rs",
    texts: [['target_arch = "wasm32", panic = "unwind"', 'target_family = "wasm", panic = "unwind"', 4]],
  },
};

/** cargo's arguments that make it compile the copy of a crate. */
export async function changedCrate(name, { cargo, env }) {
  const original = await folderOf(name, { cargo, env });
  const { file, texts } = CHANGES[name];
  // With the version: what a newer one has elsewhere must not be missed.
  const copy = inProject("target", path.basename(original));
  let content = await readFile(path.join(original, file), "utf8");
  for (const [text, replacement, count] of texts) {
    const found = content.split(text).length - 1;
    if (found !== count) throw new UserError(`${path.join(original, file)} has ${found} of "${text}", not ${count}: see scripts/lib/changed-crates.mjs`);
    content = content.replaceAll(text, replacement);
  }
  // Written only when it changes, because cargo compares times.
  if ((await readFile(path.join(copy, file), "utf8").catch(() => "")) !== content) {
    await rm(copy, { recursive: true, force: true });
    await cp(original, copy, { recursive: true });
    await writeFile(path.join(copy, file), content);
  }
  // Not [patch], which would change Cargo.lock.
  return ["--config", `paths=[${JSON.stringify(copy)}]`];
}

/** The folder into which cargo has unpacked a crate. */
async function folderOf(wanted, { cargo, env }) {
  const metadata = await capture(cargo, ["metadata", "--format-version", "1", "--locked"], { env });
  const { packages } = JSON.parse(metadata ?? '{"packages": []}');
  const found = packages.find(({ name }) => name === wanted);
  if (!found) throw new UserError(`cargo metadata does not name ${wanted}: run \`cargo metadata --locked\` to see why`);
  return path.dirname(found.manifest_path);
}
