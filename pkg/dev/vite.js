// The entry `workers-ai-local/vite`: a Vite plugin beside Cloudflare's, which gives the Workers of `vite dev` and `vite preview` a local `env.AI`.
//
// Cloudflare's plugin makes the options of its Miniflare itself, and in a preview it reads what was built. So Miniflare's own part for `ai`
// bindings is changed, in this process: the class stays, and what it fetches from leads to the local engine.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { localEngine, speaking } from "./engine.js";
import { serviceName, serviceOf } from "./plugin.js";
import { ProjectError, findPackage } from "./project.js";

/**
 * @import { AiConfig } from "../index.d.ts"
 * @import { Engine } from "./engine.js"
 */

const CLOUDFLARE = "@cloudflare/vite-plugin";

/** The engines to which the `ai` bindings of a Miniflare lead. @type {WeakMap<object, Engine>} */
const engines = new WeakMap();

/**
 * See vite.d.ts.
 *
 * @param {AiConfig} [options]
 */
export function localAi(options = {}) {
  let active = false;
  return {
    name: "workers-ai-local",
    enforce: /** @type {const} */ ("pre"),
    /**
     * @param {{root?: string}} config
     * @param {{command: string, isPreview?: boolean}} environment
     */
    async config({ root = process.cwd() }, { command, isPreview = false }) {
      active = command === "serve" || isPreview;
      if (!active) return;
      // Otherwise Cloudflare's plugin asks for an account, for the sake of the `ai` binding.
      process.env.CLOUDFLARE_VITE_FORCE_LOCAL = "true";
      const { AI_PLUGIN } = await miniflareOf(path.resolve(root));
      const engine = await localEngine(speaking(options, "localAi("), path.resolve(root));
      const former = engines.get(AI_PLUGIN);
      if (!former) redirect(AI_PLUGIN);
      engines.set(AI_PLUGIN, engine);
      // Vite has read its configuration again.
      await former?.close();
    },
    /** @param {{logger: {info(text: string): void}}} config */
    configResolved({ logger }) {
      if (active) logger.info("workers-ai-local: env.AI is computed on this machine. The warning about usage charges of AI bindings does not apply.");
    },
  };
}

/**
 * The Miniflare of the project's Cloudflare plugin, which may be one of a framework.
 *
 * @param {string} root
 * @returns {Promise<any>}
 * @throws {ProjectError}
 */
async function miniflareOf(root) {
  const plugin = (await findPackage(CLOUDFLARE, root)) ?? (await findBehind(root));
  if (!plugin) throw new ProjectError(`workers-ai-local/vite works beside ${CLOUDFLARE}, which is not installed: npm install --save-dev ${CLOUDFLARE}`);
  const file = createRequire(path.join(plugin.folder, "package.json")).resolve("miniflare");
  const { default: module, AI_PLUGIN = module?.AI_PLUGIN } = await import(pathToFileURL(file).href);
  if (!AI_PLUGIN?.getBindings) throw new ProjectError(`workers-ai-local/vite does not know this version of ${CLOUDFLARE} (${plugin.manifest.version}): please report it`);
  return { AI_PLUGIN };
}

/**
 * The plugin that a dependency of the project has brought along.
 *
 * @param {string} root
 */
async function findBehind(root) {
  const text = await readFile(path.join(root, "package.json"), "utf8").catch(() => "{}");
  const { dependencies, devDependencies } = JSON.parse(text);
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    const dependency = await findPackage(name, root);
    const found = dependency?.manifest.dependencies?.[CLOUDFLARE] && (await findPackage(CLOUDFLARE, dependency.folder));
    if (found) return found;
  }
  return undefined;
}

/**
 * Leads the `ai` bindings of a Miniflare elsewhere, without knowing how its version describes them.
 *
 * @param {any} plugin Miniflare's part for `ai` bindings
 */
function redirect(plugin) {
  const { getBindings, getServices } = plugin;
  const link = () => /** @type {Engine} */ (engines.get(plugin)).link;
  plugin.getBindings = async (/** @type {unknown[]} */ ...args) => {
    const bindings = (await getBindings.apply(plugin, args)) ?? [];
    return bindings.map((/** @type {any} */ binding) => ({
      ...binding,
      wrapped: {
        ...binding.wrapped,
        innerBindings: binding.wrapped.innerBindings.map((/** @type {any} */ inner) => (inner.service ? { name: inner.name, service: { name: serviceName(link()) } } : inner)),
      },
    }));
  };
  plugin.getServices = async (/** @type {unknown[]} */ ...args) => [...((await getServices.apply(plugin, args)) ?? []), serviceOf(link())];
}
