// `workers-ai-local dev`: the project's own `wrangler dev` or `wrangler pages dev`, with `env.AI` computed on this machine.

import { spawn } from "node:child_process";
import path from "node:path";
import { adapterFromFolder, fromFolder } from "../config-file.js";
import { deriveConfig } from "../dev/config.js";
import { localEngine } from "../dev/engine.js";
import { ProjectError, findPackage } from "../dev/project.js";
import { CommandError, UsageError } from "./arguments.js";
import { chosenFile, configured, engineFrom, fileNameOf, lorasFrom, weights } from "./engine.js";
import { helpOf } from "./help.js";
import { clearStatus, loadProgress, note, say } from "./terminal.js";

/**
 * @import { ChildProcess } from "node:child_process"
 * @import { AiConfig, ServiceAccount } from "../index.d.ts"
 * @import { Derived } from "../dev/config.js"
 * @import { EngineValues } from "./engine.js"
 * @typedef {Pick<EngineValues, "threads" | "backend"> & {gguf: string[], lora: string[], forward: string[], model?: string, help: boolean}} Own
 *
 * @typedef {object} Given the arguments of wrangler
 * @property {boolean} pages `wrangler pages dev`
 * @property {string[]} config
 * @property {string[]} env-file
 * @property {string} [env]
 * @property {string} [persist-to]
 * @property {string} [tsconfig]
 * @property {string} [cwd]
 * @property {Set<string>} flags the long options
 * @property {string[]} rest all except those above
 */

/** Options that belong to this command, all with a value; wrangler has none of these names. */
const OWN = new Set(["gguf", "lora", "model", "forward", "threads", "backend"]);
/**
 * Options of wrangler that take a value and matter here.
 *
 * @type {Record<string, "config" | "env" | "env-file" | "persist-to" | "tsconfig" | "cwd">}
 */
const VALUES = {
  "--config": "config",
  "-c": "config",
  "--env": "env",
  "-e": "env",
  "--env-file": "env-file",
  "--persist-to": "persist-to",
  "--tsconfig": "tsconfig",
  "--cwd": "cwd",
};
const SIGNALS = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);
/** The first version of wrangler that lets a configuration name a plugin for a binding. */
const OLDEST_WRANGLER = [4, 36];

/**
 * @param {string[]} args those of this command, and of `wrangler dev`
 * @throws {UsageError | CommandError}
 */
export async function dev(args) {
  const { own, others } = split(args);
  if (own.help) return void console.log(helpOf("dev"));
  const given = read(others);
  if (given.pages && given.flags.has("ai")) throw new UsageError('--ai has no effect here: add "ai": { "binding": "AI" } to wrangler.jsonc');
  if (given.flags.has("remote")) throw new UsageError("dev computes on this machine: leave out --remote");
  if (given.cwd !== undefined) process.chdir(given.cwd);
  try {
    await start(own, given);
  } catch (error) {
    throw error instanceof ProjectError ? new CommandError(error.message) : error;
  }
}

/**
 * @param {Own} own
 * @param {Given} given
 */
async function start(own, given) {
  const installed = await wranglerOf();
  /** @type {ServiceAccount} */
  const account = {};
  const options = await engineOptions(own);
  const ai = await localEngine({ ...options, ...(options.remote && { account }), config: false });
  // A download can take minutes. `exit` also removes the copies.
  const leave = () => process.exit(130);
  for (const signal of SIGNALS) process.on(signal, leave);
  const derived = await deriveAll(given, ai.link);
  // As for wrangler, what the configuration says comes before the environment. The engine asks for it with each request.
  const accounts = new Set(derived.flatMap(({ account }) => account ?? []));
  if (options.remote && accounts.size > 1) throw new UsageError("--forward needs one account, and the configurations name several");
  [account.id] = accounts;
  try {
    const { pid, loaded } = await ai.load(own.model).finally(clearStatus);
    introduce(own, options, derived, installed.version, loaded ?? pid);
    const types = () => updateTypes(installed.bin, given, derived);
    types();
    const stops = derived.map(({ original, watch }) =>
      watch((error) => {
        say(error ? `workers-ai-local: ${error.message}` : `workers-ai-local: ${path.basename(original)} has changed`);
        types();
      }),
    );
    const cwd = given.pages ? derived[0].folder : process.cwd();
    const child = spawn(process.execPath, [installed.bin, ...argumentsFor(given, derived)], { stdio: "inherit", cwd });
    const code = ended(child);
    for (const signal of SIGNALS) process.removeListener(signal, leave);
    process.exitCode = await code;
    for (const stop of stops) stop();
  } finally {
    for (const { remove } of derived) remove();
    await ai.close();
  }
  process.exit();
}

/**
 * Tells our arguments from wrangler's: they may stand anywhere.
 *
 * @param {string[]} args
 * @returns {{own: Own, others: string[]}}
 */
export function split(args) {
  /** @type {Own} */
  const own = { gguf: [], lora: [], forward: [], help: false };
  const others = [];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at];
    // What follows is for a command of the project.
    if (arg === "--") return { own, others: [...others, ...args.slice(at)] };
    const [, name, , value] = /^--([a-z]+)(=(.*))?$/s.exec(arg) ?? [];
    if (arg === "-h" || arg === "--help") own.help = true;
    else if (!OWN.has(name)) others.push(arg);
    else {
      const text = value ?? args[++at];
      if (!text || (value === undefined && text.startsWith("-"))) throw new UsageError(`--${name} needs a value`);
      if (name === "gguf" || name === "lora" || name === "forward") own[name].push(text);
      else own[/** @type {"model" | "threads" | "backend"} */ (name)] = text;
    }
  }
  return { own, others };
}

/**
 * The arguments of wrangler that matter here.
 *
 * @param {string[]} args
 * @returns {Given}
 */
export function read(args) {
  /** @type {Given} */
  const given = { pages: args[0] === "pages", config: [], "env-file": [], flags: new Set(), rest: [] };
  if (given.pages) args = args.slice(args[1] === "dev" ? 2 : 1);
  for (let at = 0; at < args.length; at++) {
    const arg = args[at];
    if (arg === "--") {
      given.rest.push(...args.slice(at));
      break;
    }
    const [, option, attached] = /^(--[^=]+|-[a-z])=(.*)$/s.exec(arg) ?? /^(-[ce])(.+)$/s.exec(arg) ?? /^(--[^=]+|-[a-z])$/s.exec(arg) ?? [];
    const name = Object.hasOwn(VALUES, option) ? VALUES[option] : undefined;
    if (option?.startsWith("--") && attached !== "false") given.flags.add(option.slice(2));
    if (name === undefined) {
      if (option !== "--types") given.rest.push(arg);
      continue;
    }
    const value = attached ?? args[++at];
    if (value === undefined) throw new UsageError(`${option} needs a value`);
    if (name === "config" || name === "env-file") given[name].push(value);
    else given[name] = value;
    if (name === "env") given.rest.push(option, value);
  }
  return given;
}

/**
 * @param {Own} own
 * @returns {Promise<AiConfig>}
 */
async function engineOptions({ gguf, lora, model, threads, backend, forward }) {
  const computing = engineFrom({ threads, backend, forward: forward.length > 0 ? forward : undefined });
  const config = await configured({ ...weights(gguf.map((each) => fromFolder(each)), model), ...lorasFrom(lora, (each) => adapterFromFolder(each)), ...computing });
  return { ...config, onProgress: loadProgress(chosenFile(config, model)), onWarning: note };
}

/** The project's wrangler. @throws {ProjectError} */
async function wranglerOf() {
  const found = await findPackage("wrangler");
  if (!found) throw new ProjectError("wrangler is not installed in this project: npm install --save-dev wrangler");
  const { version, bin } = found.manifest;
  const [major, minor] = String(version).split(".").map(Number);
  if (major < OLDEST_WRANGLER[0] || (major === OLDEST_WRANGLER[0] && minor < OLDEST_WRANGLER[1])) {
    throw new ProjectError(`wrangler ${version} is too old for this command: npm install --save-dev wrangler@latest`);
  }
  return { version, bin: path.join(found.folder, bin.wrangler) };
}

/**
 * @param {Given} given
 * @param {import("../dev/engine.js").Link} link
 * @returns {Promise<Derived[]>}
 * @throws {ProjectError} if no configuration has an `ai` binding
 */
async function deriveAll(given, link) {
  const environment = given.pages ? undefined : (given.env ?? process.env.CLOUDFLARE_ENV);
  /** @type {Derived[]} */
  const derived = [];
  try {
    for (const config of given.config.length > 0 ? given.config : [undefined]) {
      const mirror = given.pages && derived.length === 0;
      derived.push(await deriveConfig({ link, config, environment, mirror, redirect: config === undefined }));
    }
    if (!derived.some(({ bindings }) => bindings.length > 0)) throw new ProjectError(missingBinding(derived[0].original, environment));
    return derived;
  } catch (error) {
    for (const { remove } of derived) remove();
    throw error;
  }
}

/**
 * @param {string} config
 * @param {string | undefined} environment
 */
function missingBinding(config, environment) {
  const name = path.basename(config);
  const where = environment ? ` in the environment "${environment}"` : "";
  const toml = `ai = { binding = "AI" }${environment ? ` below [env.${environment}]` : " above the first [table]"}`;
  const json = `"ai": { "binding": "AI" }${environment ? ` inside "env": { "${environment}": { … } }` : ""}`;
  return `${name} has no AI binding${where}. Add ${name.endsWith(".toml") ? toml : json}`;
}

/**
 * What wrangler gets: the copies instead of the configurations, and the state where it would be without them.
 *
 * @param {Given} given
 * @param {Derived[]} derived
 */
function argumentsFor(given, derived) {
  const state = given["persist-to"] ?? (given.flags.has("no-persist") ? undefined : path.join(derived[0].root, ".wrangler", "state"));
  // `pages dev` takes the configuration of the folder in which it runs, and others only beside that.
  const configs = given.pages && derived.length === 1 ? [] : derived.flatMap(({ configPath }) => ["--config", configPath]);
  // They are relative to the configuration.
  const variables = given["env-file"].flatMap((file) => ["--env-file", path.resolve(path.dirname(derived[0].original), file)]);
  const tsconfig = given.tsconfig === undefined ? derived[0].tsconfig : path.resolve(derived[0].root, given.tsconfig);
  const persist = state === undefined ? [] : ["--persist-to", path.resolve(state)];
  return [...(given.pages ? ["pages", "dev"] : ["dev"]), ...configs, ...persist, ...variables, ...(tsconfig ? ["--tsconfig", tsconfig] : []), ...given.rest];
}

/**
 * Does what `wrangler dev --types` would do, with the project's configuration instead of the copy.
 *
 * @param {string} wrangler its program
 * @param {Given} given
 * @param {Derived[]} derived
 */
function updateTypes(wrangler, given, derived) {
  if (!given.flags.has("types") && !derived.some(({ types }) => types)) return;
  const configs = derived.flatMap(({ original }) => ["--config", original]);
  const child = spawn(process.execPath, [wrangler, "types", ...configs, ...(given.env === undefined ? [] : ["--env", given.env])], { stdio: "ignore" });
  const kill = () => void child.kill();
  process.once("exit", kill);
  child.once("exit", (code) => {
    process.removeListener("exit", kill);
    if (code) say("workers-ai-local: `wrangler types` failed: start it to see why");
  });
}

/**
 * @param {Own} own
 * @param {AiConfig} options with those of the configuration file
 * @param {Derived[]} derived
 * @param {string} version wrangler's
 * @param {import("../internal.d.ts").LoadedModel | number} engine what was loaded here, or the process that has the engine
 */
function introduce({ gguf, model }, { remote = {}, models = {}, ...options }, derived, version, engine) {
  const bound = derived.filter(({ bindings }) => bindings.length > 0);
  const places = bound.map(({ bindings, original }) => `${bindings.map((name) => `env.${name}`).join(", ")} of ${path.relative("", original)}`);
  const by = typeof engine === "number" ? `by the engine of process ${engine}, which is already running` : `by ${fileNameOf(engine.model)} (${engine.backend})`;
  const only = gguf.length > 0 && model !== undefined;
  const ids = Object.entries(remote).map(([id, when]) => `${id.replace(/^\*/, "every other id")}${when === "always" ? "" : ` ${when}`}`);
  const others = Object.keys(models).filter((id) => id !== model);
  const forwarded = ids.length > 0 ? `\n  Workers AI answers ${ids.join(", ")}, on your account.` : "";
  say(`workers-ai-local: ${places.join(" and ")} is computed on this machine${forwarded ? "" : ", without an account"}.${forwarded}
  ${only ? model : forwarded ? "All else" : "every model id"} is answered ${by}${only ? `; the others by ${options.default === undefined && !process.env.WORKERS_AI_LOCAL_MODEL ? "the small default model" : chosenFile(options, "")}` : ""}${others.length > 0 ? `, but ${others.join(", ")} by models of their own` : ""}.
  ${gguf.length > 0 ? "`workers-ai-local models` lists the ids." : "Another model: --gguf NAME, for one id also --model ID. `workers-ai-local models` lists the ids."}
  wrangler ${version} runs with a copy of the configuration in .wrangler/; its warning about "unsafe" fields is about that copy.
`);
}

/**
 * The exit code of wrangler. Ctrl+C reaches it by itself, from the terminal; other signals are passed on.
 *
 * @param {ChildProcess} child
 * @returns {Promise<number>}
 */
function ended(child) {
  return new Promise((resolve, reject) => {
    let signalled = 0;
    /** @param {NodeJS.Signals} signal */
    const pass = (signal) => {
      signalled++;
      // The terminal has sent it to the whole group. The second time, wrangler does not want to end.
      if (signal === "SIGINT" && process.stdin.isTTY && signalled === 1) return;
      // wrangler ends its own processes at these two signals only.
      child.kill(signalled > 2 ? "SIGKILL" : signal === "SIGHUP" ? "SIGTERM" : signal);
    };
    for (const signal of SIGNALS) process.on(signal, pass);
    const kill = () => void child.kill("SIGTERM");
    process.once("exit", kill);
    child.once("error", (error) => reject(new CommandError(`wrangler cannot be started: ${error.message}`)));
    child.once("exit", (code, signal) => {
      for (const name of SIGNALS) process.removeListener(name, pass);
      process.removeListener("exit", kill);
      resolve(code ?? (signal ? 128 + { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[/** @type {"SIGINT"} */ (signal)] : 1));
    });
  });
}
