// The program that writes wasm-bindgen's glue (`scripts/bindgen/`). Its version is the crate's own: they share a private format and one Cargo.lock.

import { copyFile, mkdir, readFile, rename } from "node:fs/promises";
import path from "node:path";
import { inProject } from "../lib/project.mjs";
import { isProgram, run, which } from "../lib/process.mjs";
import { UserError, withProgress } from "../lib/report.mjs";
import { hashFiles } from "../lib/stamp.mjs";
import { inUserCache, withCargoTarget } from "../lib/user-cache.mjs";

const CRATE = "scripts/bindgen";
const PROFILE = "tool";

/** The path of the program. `nativeCargo` compiles it for this machine, once for each version and user. */
export async function ensureWasmBindgen({ nativeCargo = which("cargo") } = {}) {
  const version = await lockedVersion();
  const sources = (await hashFiles(`${CRATE}/src`, `${CRATE}/Cargo.toml`)).slice(0, 12);
  const program = inUserCache("tools", `bindgen-${version}-${sources}`);
  if (isProgram(program)) return program;
  if (!nativeCargo) throw new UserError("cargo is missing: install Rust from https://rustup.rs");
  await withProgress(`Compiling wasm-bindgen ${version}`, (note) =>
    withCargoTarget("tools", { cargo: nativeCargo, clean: ["--profile", PROFILE] }, async (folder) => {
      let crates = 0;
      await run(nativeCargo, ["build", "--locked", "--package", "bindgen", "--profile", PROFILE], {
        env: { CARGO_TARGET_DIR: folder },
        onLine: (line) => /^\s*Compiling /.test(line) && note(`${++crates} crates`),
      });
      await mkdir(path.dirname(program), { recursive: true });
      // Under its name only when it is complete.
      const copy = `${program}.${process.pid}`;
      await copyFile(path.join(folder, PROFILE, "bindgen"), copy);
      await rename(copy, program);
    }),
  );
  return program;
}

async function lockedVersion() {
  const lock = await readFile(inProject("Cargo.lock"), "utf8").catch(() => "");
  const version = /^name = "wasm-bindgen"\nversion = "([^"]+)"/m.exec(lock.replaceAll("\r\n", "\n"))?.[1];
  if (!version) throw new UserError("Cargo.lock has no wasm-bindgen: restore it with `git checkout Cargo.lock`");
  return version;
}
