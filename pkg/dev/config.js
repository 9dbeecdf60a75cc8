// A copy of a project's wrangler configuration in which the `ai` binding leads to the local engine. It lies in the project's `.wrangler/`, so that
// no file of the project changes.

import { execFile } from "node:child_process";
import { closeSync, constants, copyFileSync, fstatSync, mkdirSync, openSync, readdirSync, rmSync, rmdirSync, symlinkSync, watch, writeSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { isRunning } from "../running.js";
import { PLUGIN } from "./plugin.js";
import { ProjectError, resolveWrangler } from "./project.js";

/**
 * @import { Link } from "./engine.js"
 * @typedef {Record<string, any>} RawConfig the content of a configuration file
 *
 * @typedef {object} Derived
 * @property {string} configPath the copy, or the original if that has no `ai` binding
 * @property {string} folder the folder that it is in
 * @property {string} original the project's configuration
 * @property {string[]} bindings the names of its `ai` bindings in the environment
 * @property {string} [account] the id of the account that the configuration names
 * @property {string} [tsconfig] path of the `tsconfig` that the configuration names, which the copy does not
 * @property {boolean} types whether the configuration asks `wrangler dev` for types, which the copy does not: they would be its types
 * @property {string} root the folder in which wrangler keeps `.wrangler/state`
 * @property {(changed: (error?: Error) => void) => () => void} watch writes the copy again when the project's configuration changes
 * @property {() => void} remove removes the copy
 */

const FOLDER = "workers-ai-local";
/** Files beside a configuration in which wrangler finds variables. */
const VARIABLES = /^\.(dev\.vars|env)(\..+)?$/;
/** What a mirror has of its own. */
const OWN = /^(\.wrangler|wrangler\.(jsonc?|toml))$/;
const WATCH_DELAY_MS = 100;

let copies = 0;
/** Removes each copy that there is. @type {Set<() => void>} */
const removals = new Set();
const removeAll = () => removals.forEach((remove) => remove());

/**
 * Derives the configuration of one Worker.
 *
 * @param {object} options
 * @param {any} [options.wrangler] the project's wrangler as a module, where it is imported anyway
 * @param {Link} [options.link] the engine's server; without it, the copy has no such binding
 * @param {string} [options.config] path of the configuration; by default the one that wrangler finds
 * @param {string} [options.environment]
 * @param {boolean} [options.mirror] make everything else of the project visible beside the copy, for a wrangler that runs there
 * @param {boolean} [options.redirect] follow a redirection that a build tool wrote, as `wrangler dev` does
 * @returns {Promise<Derived>}
 * @throws {ProjectError} if there is no configuration, or it cannot be read
 */
export async function deriveConfig({ wrangler, link, config, environment, redirect = false, mirror = false }) {
  const removed = new AbortController();
  const read = () => readConfig(wrangler, config, redirect, removed.signal);
  const { rawConfig, configPath, userConfigPath } = await read();
  const bindings = bindingsOf(rawConfig, environment);
  const root = path.dirname(path.resolve(userConfigPath ?? configPath));
  const original = path.resolve(configPath);
  const named = scopeOf(rawConfig, environment).tsconfig ?? rawConfig.tsconfig;
  const tsconfig = named && path.resolve(path.dirname(original), named);
  const account = scopeOf(rawConfig, environment).account_id ?? rawConfig.account_id;
  const unchanged = { configPath: original, folder: path.dirname(original), original, types: false, bindings, account, root };
  if (bindings.length === 0) return { ...unchanged, watch: () => () => {}, remove() {} };

  const from = path.dirname(original);
  const parent = path.join(from, ".wrangler", FOLDER);
  const folder = path.join(parent, `${process.pid}-${++copies}`);
  removeStale(parent);
  mkdirSync(folder, { recursive: true });
  const copy = path.join(folder, "wrangler.json");
  /** @param {RawConfig} raw */
  const write = (raw) => {
    const own = raw.dev?.generate_types ? { ...raw, dev: { ...raw.dev, generate_types: false } } : raw;
    const rebased = rebase(bound(own, environment, link && { link }), from, folder);
    overwrite(copy, JSON.stringify(rebased, null, 2));
    linkFiles(from, folder, (name) => (mirror ? !OWN.test(name) : VARIABLES.test(name)));
  };
  const remove = () => {
    removed.abort();
    removals.delete(remove);
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    for (const empty of [parent, path.dirname(parent)]) {
      try {
        rmdirSync(empty);
      } catch {
        // Something else is in it.
      }
    }
  };
  if (!process.listeners("exit").includes(removeAll)) process.on("exit", removeAll);
  removals.add(remove);
  write(rawConfig);
  return {
    configPath: copy,
    folder,
    original,
    tsconfig,
    types: rawConfig.dev?.generate_types === true,
    bindings,
    account,
    root,
    remove,
    watch: (changed) => watchFile(original, async () => write((await read()).rawConfig), changed),
  };
}

/**
 * Reads a configuration as wrangler does.
 *
 * @param {any} wrangler the project's wrangler as a module, or `undefined` to ask it in a process of its own: its module listens to signals
 * @param {string | undefined} config
 * @param {boolean} redirect
 * @param {AbortSignal} signal ends the process in which wrangler is asked
 * @returns {Promise<{rawConfig: RawConfig, configPath: string, userConfigPath?: string}>}
 * @throws {ProjectError}
 */
async function readConfig(wrangler, config, redirect, signal) {
  const found = wrangler ? answerOf(() => readRaw(wrangler, config, redirect)) : await askWrangler(config, redirect, signal);
  if (found.missing) throw new ProjectError("this version of wrangler cannot be asked for its configuration: npm install --save-dev wrangler@latest");
  if (found.error) {
    const absent = found.error.code === "ENOENT" || /no such file|could not read file/i.test(found.error.message);
    const file = config ?? found.error.location?.file ?? "wrangler's configuration";
    throw new ProjectError(absent ? `there is no configuration ${config}` : `${path.basename(file)} cannot be read: ${describe(found.error)}`);
  }
  if (!found.configPath) {
    throw new ProjectError("there is no wrangler.jsonc, wrangler.json or wrangler.toml here: start this in your Worker's folder, or name the file (--config, in programs configPath)");
  }
  return found;
}

/**
 * @param {any} wrangler
 * @param {string | undefined} config
 * @param {boolean} useRedirectIfAvailable
 */
function readRaw(wrangler, config, useRedirectIfAvailable) {
  // A CommonJS module: the exports that it makes late are only in its default export.
  const read = wrangler.experimental_readRawConfig ?? wrangler.default?.experimental_readRawConfig;
  return read ? read({ config }, { useRedirectIfAvailable }) : { missing: true };
}

/**
 * A result, or an error as plain data.
 *
 * @param {() => any} read
 */
function answerOf(read) {
  try {
    return read();
  } catch (error) {
    const { message, code, location, notes } = error;
    return { error: { message, code, location, notes } };
  }
}

/**
 * @param {string | undefined} config
 * @param {boolean} redirect
 * @param {AbortSignal} signal
 */
async function askWrangler(config, redirect, signal) {
  const wrangler = await resolveWrangler(config && path.dirname(path.resolve(config)));
  // With the cache of compiled code, wrangler starts faster from the second time on.
  const program = `require("node:module").enableCompileCache?.();\n${readRaw}\n${answerOf}\n
    const answer = answerOf(() => readRaw(require(${JSON.stringify(wrangler)}), ${JSON.stringify(config)}, ${redirect}));
    require("node:fs").writeSync(1, "\\n" + JSON.stringify(answer));
    process.exit();`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--no-warnings", "--input-type=commonjs", "--eval", program], { maxBuffer: 64 << 20, signal }).catch((error) => {
    throw new ProjectError(`wrangler does not start: ${String(error.stderr ?? error.message).trim().split("\n")[0]}`);
  });
  return JSON.parse(stdout.slice(stdout.lastIndexOf("\n{") + 1));
}

/**
 * The message of a parser, with its place.
 *
 * @param {{message: string, text?: string, location?: {line?: number}, notes?: {text: string}[]}} error
 */
function describe({ message, location, notes = [] }) {
  const place = location?.line === undefined ? "" : ` (line ${location.line})`;
  return [message.trim() + place, ...notes.map(({ text }) => text)].join(" ");
}

/**
 * The names of the `ai` bindings of an environment. wrangler does not pass on those of the top level to an environment.
 *
 * @param {RawConfig} raw
 * @param {string} [environment]
 * @returns {string[]}
 */
export function bindingsOf(raw, environment) {
  const { ai } = scopeOf(raw, environment);
  return typeof ai?.binding === "string" ? [ai.binding] : [];
}

/**
 * @param {RawConfig} raw
 * @param {string | undefined} environment
 * @returns {RawConfig}
 */
const scopeOf = (raw, environment) => (environment && raw.env?.[environment]) || raw;

/**
 * A configuration in which the `ai` binding of an environment is a binding of our plugin. The other environments have none: wrangler compares them.
 *
 * @param {RawConfig} raw
 * @param {string | undefined} environment
 * @param {Record<string, unknown> | undefined} options of the plugin; `undefined` for no binding at all
 * @returns {RawConfig}
 */
export function bound(raw, environment, options) {
  const selected = scopeOf(raw, environment).ai;
  return eachScope(raw, ({ ai, ...scope }) => {
    if (ai === undefined || ai !== selected || !options) return scope;
    const binding = { name: ai.binding, type: FOLDER, dev: { plugin: PLUGIN, options } };
    return { ...scope, unsafe: { ...scope.unsafe, bindings: [...(scope.unsafe?.bindings ?? []), binding] } };
  });
}

/**
 * Changes the top level and every environment.
 *
 * @param {RawConfig} raw
 * @param {(scope: RawConfig) => RawConfig} change
 */
export function eachScope(raw, change) {
  const { env, ...top } = raw;
  const environments = Object.entries(env ?? {}).map(([name, scope]) => [name, change(scope ?? {})]);
  return { ...change(top), ...(env === undefined ? {} : { env: Object.fromEntries(environments) }) };
}

/**
 * A configuration that means the same files from another folder. All paths stay relative, because wrangler joins some of them with its folder;
 * `tsconfig` is left out, because wrangler resolves it twice.
 *
 * @param {RawConfig} raw
 * @param {string} from the folder of the original
 * @param {string} to
 */
export function rebase(raw, from, to) {
  /** @param {string} file */
  const moved = (file) => path.relative(to, path.resolve(from, file)).split(path.sep).join("/");
  /** @param {unknown} value */
  const one = (value) => (typeof value === "string" ? moved(value) : value);
  /** Also each of a list. @param {unknown} value */
  const some = (value) => (Array.isArray(value) ? value.map(one) : one(value));
  /** @param {unknown} value */
  const values = (value) => mapped(value, one);
  /** Only what is written as a path. @param {unknown} value */
  const local = (value) => (typeof value === "string" && /^\.{1,2}(\/|\\|$)/.test(value) ? moved(value) : value);
  /** An image is a name in a registry, or the path of a Dockerfile. @param {any} value */
  const dockerfile = (value) => (typeof value === "string" && /(^|[\\/])[^:]*Dockerfile[^:/\\]*$|^\.{1,2}[\\/]/i.test(value) ? moved(value) : value);
  /** @type {Record<string, (value: any) => unknown>} */
  const fields = {
    main: one,
    base_dir: one,
    pages_build_output_dir: one,
    text_blobs: values,
    data_blobs: values,
    wasm_modules: values,
    alias: (value) => mapped(value, local),
    assets: (value) => within(value, { directory: one }),
    site: (value) => within(value, { bucket: one, "entry-point": one }),
    build: (value) => (value?.command ? { ...value, watch_dir: some(value.watch_dir ?? "./src") } : value),
    d1_databases: (value) => each(value, (database) => withPattern(within(database, { migrations_dir: one }), database, one)),
    containers: (value) =>
      each(value, (container) => ({
        ...within(container, { image: dockerfile, image_build_context: one }),
        ...(container.images === undefined ? {} : { images: mapped(container.images, (image) => within(image, { dockerfile: one, build_context: one })) }),
      })),
    unsafe: (value) => within(value, { capnp: (/** @type {any} */ capnp) => within(capnp, { base_path: one, compiled_schema: one }) }),
  };
  return eachScope(raw, ({ $schema: _, tsconfig: __, ...scope }) => within(scope, fields));
}

/**
 * A database without a folder of migrations has that of the original.
 *
 * @param {any} database
 * @param {any} original
 * @param {(value: unknown) => unknown} one
 */
function withPattern(database, original, one) {
  const pattern = original.migrations_pattern === undefined ? {} : { migrations_pattern: one(original.migrations_pattern) };
  return { ...database, migrations_dir: database.migrations_dir ?? one("migrations"), ...pattern };
}

/**
 * @param {any} value
 * @param {Record<string, (value: any) => unknown>} fields changes of fields that are there
 */
function within(value, fields) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  const changed = Object.entries(value).map(([name, field]) => [name, Object.hasOwn(fields, name) ? fields[name](field) : field]);
  return Object.fromEntries(changed);
}

/**
 * @param {any} value
 * @param {(entry: any) => unknown} change
 */
const each = (value, change) => (Array.isArray(value) ? value.map(change) : value);

/**
 * @param {any} value
 * @param {(value: any) => unknown} change
 */
function mapped(value, change) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, change(entry)]));
}

/**
 * Writes a file that only this user can read, in one step: wrangler reads it at the first sign of a change, when a truncated file would be empty. It
 * does not see a file that replaces the one that it watches. So the rest of a longer text is overwritten by blanks.
 *
 * @param {string} file
 * @param {string} text
 */
function overwrite(file, text) {
  const handle = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    const bytes = Buffer.from(text);
    const blanks = Buffer.alloc(Math.max(0, fstatSync(handle).size - bytes.length), " ");
    writeSync(handle, Buffer.concat([bytes, blanks]), 0, undefined, 0);
  } finally {
    closeSync(handle);
  }
}

/**
 * Makes files and folders visible in another folder.
 *
 * @param {string} from
 * @param {string} to
 * @param {(name: string) => boolean} chosen
 */
function linkFiles(from, to, chosen) {
  for (const entry of readdirSync(from, { withFileTypes: true }).filter(({ name }) => chosen(name))) {
    const [target, link] = [path.join(from, entry.name), path.join(to, entry.name)];
    rmSync(link, { force: true });
    try {
      // On Windows, junctions need no permission.
      symlinkSync(target, link, entry.isFile() ? "file" : "junction");
    } catch (error) {
      if (!entry.isFile()) throw error;
      copyFileSync(target, link);
    }
  }
}

/**
 * Removes the copies of processes that ended without doing so.
 *
 * @param {string} parent
 */
function removeStale(parent) {
  let names;
  try {
    names = readdirSync(parent);
  } catch {
    return;
  }
  for (const name of names) {
    const pid = Number(/^(\d+)-\d+$/.exec(name)?.[1]);
    if (pid && !isRunning(pid)) rmSync(path.join(parent, name), { recursive: true, force: true });
  }
}

/**
 * Calls `update` after each change of a file; then `changed`, with its error if it failed.
 *
 * @param {string} file
 * @param {() => Promise<void>} update
 * @param {(error?: Error) => void} changed
 */
function watchFile(file, update, changed) {
  /** @type {NodeJS.Timeout | undefined} */
  let waiting;
  let ended = false;
  // The folder, because editors replace files.
  const watcher = watch(path.dirname(file), { persistent: false }, (_, name) => {
    if (name !== null && name !== path.basename(file)) return;
    clearTimeout(waiting);
    waiting = setTimeout(() => update().then(() => changed(), (error) => ended || changed(error)), WATCH_DELAY_MS);
    waiting.unref();
  });
  // Without it, changes are not noticed; no reason to end.
  watcher.on("error", () => {});
  return () => {
    ended = true;
    clearTimeout(waiting);
    watcher.close();
  };
}
