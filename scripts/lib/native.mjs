// Native programs of the crate, for the checks that the package cannot make.

import { copyFile } from "node:fs/promises";
import { requireCargo } from "../setup/toolchain.mjs";
import { run } from "./process.mjs";
import { withCargoTarget } from "./user-cache.mjs";

/**
 * Compiles a program and copies it, because cargo's folder is lent to other clones meanwhile.
 *
 * @param {string[]} args of cargo, which select one program
 * @param {string} copy
 */
export async function compileNative(args, copy) {
  const cargo = requireCargo();
  await withCargoTarget("native", { cargo }, async (folder) => {
    let executable;
    await run(cargo, [...args, "--locked", "--message-format=json"], {
      env: { CARGO_TARGET_DIR: folder, CARGO_INCREMENTAL: "0" },
      onLine(line) {
        if (line.startsWith("{")) executable = JSON.parse(line).executable ?? executable;
      },
    });
    await copyFile(executable, copy);
  });
}
