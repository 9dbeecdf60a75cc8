// The packages of the project that is developed: they are resolved from its folder, never from this package's.

import { createRequire } from "node:module";
import { readFile, realpath } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

/** The project lacks something, or has it in an unsupported version. The message says what to do. */
export class ProjectError extends Error {}

/**
 * The folder and package.json of an installed package; `undefined` if the project does not have it.
 *
 * @param {string} name
 * @param {string} [folder] the project's
 * @returns {Promise<{folder: string, manifest: any} | undefined>}
 */
export async function findPackage(name, folder = process.cwd()) {
  for (const modules of createRequire(path.join(folder, "package.json")).resolve.paths(name) ?? []) {
    const found = path.join(modules, ...name.split("/"));
    const text = await readFile(path.join(found, "package.json"), "utf8").catch(() => undefined);
    if (text !== undefined) return { folder: found, manifest: JSON.parse(text) };
  }
  return undefined;
}

/**
 * Imports a package of the project.
 *
 * @param {string} name
 * @param {string} [folder] the project's
 * @returns {Promise<any>}
 * @throws {ProjectError} if it is not installed
 */
export async function importPackage(name, folder = process.cwd()) {
  const file = resolvePackage(name, folder);
  if (!file) throw new ProjectError(`the package "${name}" is not installed in ${folder}: npm install --save-dev ${name}`);
  return import(pathToFileURL(file).href);
}

/** Packages that bring a wrangler along. */
const WITH_WRANGLER = ["@cloudflare/vitest-plugin", "@cloudflare/vitest-pool-workers"];

/**
 * The main file of the project's wrangler.
 *
 * @param {string} [folder] the project's
 * @returns {Promise<string>}
 * @throws {ProjectError} if it is not installed
 */
export async function resolveWrangler(folder = process.cwd()) {
  for (const name of [undefined, ...WITH_WRANGLER]) {
    const place = name === undefined ? folder : (await findPackage(name, folder))?.folder;
    // Package managers that do not hoist put it beside the real folder.
    const file = place && resolvePackage("wrangler", await realpath(place).catch(() => place));
    if (file) return file;
  }
  throw new ProjectError(`wrangler is not installed in ${folder}: npm install --save-dev wrangler`);
}

/**
 * @param {string} name
 * @param {string} folder
 */
function resolvePackage(name, folder) {
  try {
    return createRequire(path.join(folder, "package.json")).resolve(name);
  } catch (error) {
    if (error.code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}
