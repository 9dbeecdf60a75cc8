// A Rust toolchain that compiles for wasm32-unknown-unknown.
//
// Three ways, of which the first that works is used: a standard library for wasm that is installed (rustup's target);
// the same after `rustup target add`; or a compiler with the sources of std, which cargo then compiles (rustup's rust-src,
// or Debian's packages, which need no download from Rust's own servers). Threads need the third way: the compiled
// standard libraries do not support shared memory.

import { existsSync, readdirSync } from "node:fs";
import { mkdir, mkdtemp, readlink, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { aptInstall } from "../lib/apt.mjs";
import { CommandFailed, capture, isProgram, run, which } from "../lib/process.mjs";
import { UserError, say, withProgress } from "../lib/report.mjs";
import { hashText, isStamped, stamp } from "../lib/stamp.mjs";
import { inUserCache } from "../lib/user-cache.mjs";

export const WASM_TARGET = "wasm32-unknown-unknown";
/** With 64-bit memory. Only with sources of the standard library: nobody distributes it compiled. */
export const WASM64_TARGET = "wasm64-unknown-unknown";
const DEBIAN_PACKAGES = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm"];
const DEBIAN_HELP = `on Debian, as root, \`apt-get install ${DEBIAN_PACKAGES.join(" ")}\``;

/** How to install what `ensureToolchainWithStd` did not find. */
export const STD_SOURCES_HELP = `Get them with \`rustup component add rust-src\`, or ${DEBIAN_HELP}.`;

/** How to call cargo for wasm: `spawn(cargo, ["build", ...args], { env: { ...process.env, ...env } })`. `unwinds`: whether panics unwind. */
export async function ensureToolchain() {
  const route = await firstThatWorks(routes());
  if (route) return route;
  throw new UserError(
    `no Rust compiler for ${WASM_TARGET}: install rustup (https://rustup.rs) and run \`rustup target add ${WASM_TARGET}\`, ` +
      `or ${DEBIAN_HELP}`,
  );
}

/** Like `ensureToolchain`, with a standard library that cargo compiles with the caller's flags; `null` where its sources cannot be installed. */
export const ensureToolchainWithStd = () => (withStd ??= firstThatWorks(stdRoutes()));

/** Asked for by every build, found once. */
let withStd;

/** The cargo on PATH, which compiles for this machine. */
export function requireCargo() {
  const cargo = which("cargo");
  if (!cargo) throw new UserError("cargo is missing: install Rust from https://rustup.rs");
  return cargo;
}

/** Whether the cargo on PATH, whose clippy and rustfmt check the code, has a standard library for WebAssembly; rustup adds it where it can. */
export const pathToolchainHasWasm = async () => (which("rustc") !== null && (await hasStd("rustc"))) || addRustupTarget();

async function firstThatWorks(routes) {
  for await (const route of routes) {
    if (await works(route)) return { cargo: route.cargo, env: route.env, args: route.args, unwinds: route.unwinds === true };
  }
  return null;
}

function knownPairs() {
  const onPath = { cargo: which("cargo"), rustc: which("rustc"), env: {} };
  // Debian's pair, named by its full path because rustup's usually hides it on PATH.
  const debian = { cargo: "/usr/bin/cargo", rustc: "/usr/bin/rustc", env: { RUSTC: "/usr/bin/rustc" } };
  const pairs = [onPath, debian].filter(({ cargo, rustc }) => cargo && rustc && isProgram(cargo) && isProgram(rustc));
  return { onPath, debian, pairs };
}

/** Lazy: routes after one that works, and what they install, are never tried. */
async function* routes() {
  const { onPath, debian, pairs } = knownPairs();
  for (const pair of pairs) if (await hasStd(pair.rustc)) yield { ...pair, args: [] };
  for (const pair of pairs) if (await canBuildStd(pair.rustc)) yield buildingStd(pair);
  if (onPath.cargo && onPath.rustc && (await addRustupTarget())) yield { ...onPath, args: [] };
  if ((await installDebianPackages()) && (await canBuildStd(debian.rustc))) yield buildingStd(debian);
}

async function* stdRoutes() {
  const { onPath, debian, pairs } = knownPairs();
  for (const pair of pairs) if (await canBuildStd(pair.rustc)) yield buildingStd(pair);
  if (onPath.cargo && onPath.rustc && (await addRustupSources())) yield buildingStd(onPath);
  if ((await installDebianPackages()) && (await canBuildStd(debian.rustc))) yield buildingStd(debian);
}

const buildingStd = (pair) => ({
  ...pair,
  // A stable compiler refuses -Z options without RUSTC_BOOTSTRAP.
  env: { ...pair.env, RUSTC_BOOTSTRAP: "1" },
  // Of two ways in which std does some things, the shorter one: std runs per request, not per token.
  args: ["-Z", "build-std=std,panic_unwind", "-Z", "build-std-features=optimize_for_size"],
  // Installed standard libraries abort.
  unwinds: true,
  // Compiles in seconds, and needs the same sources and linker.
  trialArgs: ["-Z", "build-std=core"],
});

async function hasStd(rustc) {
  const folder = await capture(rustc, ["--print", "target-libdir", "--target", WASM_TARGET]);
  return folder !== null && existsSync(folder) && readdirSync(folder).some((name) => /^libstd-.*\.rlib$/.test(name));
}

async function canBuildStd(rustc) {
  const sysroot = await capture(rustc, ["--print", "sysroot"]);
  if (sysroot === null) return false;
  const rustlib = path.join(sysroot, "lib/rustlib");
  const bundledLinker = () => readdirSync(rustlib).some((host) => existsSync(path.join(rustlib, host, "bin/rust-lld")));
  return existsSync(path.join(rustlib, "src/rust/library/std/Cargo.toml")) && (which("rust-lld") !== null || bundledLinker());
}

const addRustupTarget = async () => (await rustupAdds("the wasm target", ["target", "add", WASM_TARGET])) && hasStd("rustc");

const addRustupSources = async () => (await rustupAdds("the standard library's sources", ["component", "add", "rust-src"])) && canBuildStd("rustc");

async function rustupAdds(what, args) {
  if (!which("rustup")) return false;
  try {
    await withProgress(`Adding ${what} with rustup`, (note) => run("rustup", args, { onLine: (line) => note(line.slice(0, 60)) }));
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    say(`  rustup could not: ${error.lines.find((line) => line.startsWith("error")) ?? error.message}`);
    return false;
  }
  return true;
}

async function installDebianPackages() {
  if (!(await aptInstall("Rust for wasm", DEBIAN_PACKAGES))) return false;
  // rust-web-llvm brings `rust-lld` as a link to the linker of its LLVM, `lld-22` for instance, but not the linker.
  const linker = await readlink("/usr/bin/rust-lld").catch(() => "");
  const missing = /^lld-\d+$/.test(linker) && which(linker) === null;
  return !missing || aptInstall("the linker", [linker]);
}

/** Compiles a one-line crate, once for each compiler: an installed one may still lack a linker or a source file. */
async function works({ cargo, rustc, env, args, trialArgs = args }) {
  const key = hashText([cargo, rustc, await capture(rustc, ["-vV"]), ...args].join("\n"));
  const stampFile = inUserCache("tools", `toolchain${args.length > 0 ? "-std" : ""}.stamp`);
  if (await isStamped(stampFile, key)) return true;
  const folder = await mkdtemp(path.join(os.tmpdir(), "wasm-toolchain-"));
  try {
    await mkdir(path.join(folder, "src"));
    await writeFile(
      path.join(folder, "Cargo.toml"),
      '[package]\nname = "hello"\nversion = "0.0.0"\nedition = "2021"\n\n[lib]\ncrate-type = ["cdylib"]\n\n[profile.release]\npanic = "abort"\n\n[workspace]\n',
    );
    await writeFile(
      path.join(folder, "src", "lib.rs"),
      `#![no_std]\n#[panic_handler]\nfn panic(_: &core::panic::PanicInfo) -> ! { loop {} }\n#[no_mangle]\npub extern "C" fn hello(n: usize) -> usize { n + 1 }\n`,
    );
    const version = (await capture(rustc, ["--version"])).split(" ", 2).join(" ");
    await withProgress(`Trying ${version} on a small wasm crate`, (note) =>
      run(cargo, ["build", "--release", "--target", WASM_TARGET, ...trialArgs], {
        cwd: folder,
        // No flags and folders of the user's: they belong to another build.
        env: { ...env, CARGO_TARGET_DIR: path.join(folder, "target"), RUSTFLAGS: "" },
        onLine: (line) => note(line.trim().slice(0, 60)),
      }),
    );
    await stamp(stampFile, key);
    return true;
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    say(`  it does not work here: ${error.message}`);
    return false;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
