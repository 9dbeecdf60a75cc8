// The wasm-bindgen command. It must be of exactly the version of the crate in Cargo.lock: the two share a private format.

import { readFile } from "node:fs/promises";
import { inProject } from "../lib/project.mjs";
import { CommandFailed, capture, run, which } from "../lib/process.mjs";
import { UserError, withProgress } from "../lib/report.mjs";

const TOOLS = inProject(".cache", "tools");

/** The path of the command. `nativeCargo` compiles it, for this machine. */
export async function ensureWasmBindgen({ nativeCargo = which("cargo") } = {}) {
  const version = await lockedVersion();
  const ours = `${TOOLS}/bin/wasm-bindgen`;
  for (const command of [ours, which("wasm-bindgen")]) {
    if (command && (await capture(command, ["--version"])) === `wasm-bindgen ${version}`) return command;
  }
  if (!nativeCargo) throw new UserError("cargo is missing: install Rust from https://rustup.rs");
  await withProgress(`Compiling wasm-bindgen-cli ${version}`, async (note) => {
    const install = (...extra) => {
      let crates = 0;
      return run(nativeCargo, ["install", "wasm-bindgen-cli", "--version", version, "--root", TOOLS, ...extra], {
        onLine: (line) => /^\s*Compiling /.test(line) && note(`${++crates} crates`),
      });
    };
    try {
      await install("--locked");
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      // A version that its lock file names may be gone from the registry; newer compatible ones do as well.
      await install();
    }
  });
  return ours;
}

async function lockedVersion() {
  const lock = await readFile(inProject("Cargo.lock"), "utf8").catch(() => "");
  const version = /^name = "wasm-bindgen"\nversion = "([^"]+)"/m.exec(lock.replaceAll("\r\n", "\n"))?.[1];
  if (!version) throw new UserError("Cargo.lock names no wasm-bindgen: restore it with `git checkout Cargo.lock`");
  return version;
}
