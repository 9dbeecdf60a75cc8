// `npm pack` and `npm publish` run this first: it writes THIRD-PARTY-NOTICES, and refuses to pack where something is missing.
// WORKERS_AI_LOCAL_BUILDS names the builds that must be there, for tests of a package with fewer than all.

import { readFile, stat, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { ALL_BUILDS } from "./build.mjs";
import { thirdPartyNotices } from "./lib/notices.mjs";
import { inProject } from "./lib/project.mjs";
import { which } from "./lib/process.mjs";
import { UserError, main } from "./lib/report.mjs";
import { WASM_TARGET, ensureToolchain } from "./setup/toolchain.mjs";
import { VENDOR_FILES, vendorNotices } from "./vendor.mjs";

const NOTICES = "THIRD-PARTY-NOTICES";
/** The files of a build, and those that `npm run build` writes beside them. */
const GLUE = ["workers_ai_local.js", "workers_ai_local_bg.wasm"];
/** The module for embeddings. */
const EMBEDDINGS = ["embeddings.js", "workerd-embeddings.js", "embeddings/workers_ai_local_embeddings.js", "embeddings/workers_ai_local_embeddings_bg.wasm"];
const LISTS = ["builds.js", "single-builds.js", "thread-builds.js", "wide-builds.js", "workerd-builds.js", "dot-product.wasm"];
const OTHERS = ["LICENSE", "README.md", "docs/run.svg", "docs/playground.png"];

const exists = async (file) => (await stat(inProject(file)).catch(() => null)) !== null;

/** The files among these that do not exist. */
async function missing(files) {
  const found = await Promise.all(files.map(exists));
  return files.filter((_, index) => !found[index]);
}

await main(async () => {
  const wanted = process.env.WORKERS_AI_LOCAL_BUILDS?.split(",") ?? ALL_BUILDS;
  const unbuilt = await missing([...LISTS, ...wanted.flatMap((build) => GLUE.map((file) => `${build}/${file}`)), ...EMBEDDINGS].map((file) => `pkg/wasm/${file}`).concat(VENDOR_FILES));
  if (unbuilt.length > 0) throw new UserError(`the package is not built, ${unbuilt[0]} is missing: run npm run build`);
  const { builds } = await import(pathToFileURL(inProject("pkg/wasm/builds.js")).href);
  const unlisted = wanted.find((build) => !builds[build]);
  // `npm run build` lists what is as new as its sources.
  const { builds: others } = await import(pathToFileURL(inProject("pkg/wasm/embeddings.js")).href);
  if (!others.embeddings) throw new UserError('the build "embeddings" is older than its sources: run npm run build');
  if (unlisted) throw new UserError(`the build "${unlisted}" is older than its sources: run npm run build`);

  const { files, exports, bin } = JSON.parse(await readFile(inProject("package.json"), "utf8"));
  const entries = (value) => (typeof value === "string" ? [value] : Object.values(value).flatMap(entries));
  const named = [...files.filter((file) => !file.startsWith("!")), ...entries(exports).filter((file) => !file.includes("*")), ...Object.values(bin), ...OTHERS];
  const absent = await missing(named.filter((file) => file !== NOTICES));
  if (absent.length > 0) throw new UserError(`${absent.join(", ")} ${absent.length === 1 ? "is missing: restore it with git, or take it" : "are missing: restore them with git, or take them"} out of package.json`);

  const cargo = which("cargo") ?? (await ensureToolchain()).cargo;
  const notices = await thirdPartyNotices({ cargo, target: WASM_TARGET, libraries: await vendorNotices() });
  // Another npm may be packing it.
  if ((await readFile(inProject(NOTICES), "utf8").catch(() => null)) !== notices) await writeFile(inProject(NOTICES), notices);
});
