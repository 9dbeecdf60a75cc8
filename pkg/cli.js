#!/usr/bin/env node
// The command `workers-ai-local`: the package in a terminal.
//
// Only the answer is written to stdout; status, warnings and errors are written to stderr.

import { readFile } from "node:fs/promises";
import { CommandError, UsageError, parse } from "./cli/arguments.js";
import { HELP, helpOf } from "./cli/help.js";
import { forTerminal } from "./cli/messages.js";
import { nearest } from "./suggest.js";

/** @import { Options } from "./cli/arguments.js" */

/**
 * The options of the commands that read a prompt.
 *
 * @type {Options}
 */
const PROMPT_OPTIONS = {
  model: { type: "string" },
  gguf: { type: "string", multiple: true },
  system: { type: "string" },
};

/**
 * The options of the commands that answer.
 *
 * @type {Options}
 */
const ANSWER_OPTIONS = {
  lora: { type: "string", multiple: true },
  "max-tokens": { type: "string" },
  temperature: { type: "string" },
  "top-p": { type: "string" },
  "top-k": { type: "string" },
  seed: { type: "string" },
  stop: { type: "string", multiple: true },
  "json-schema": { type: "string" },
  stats: { type: "boolean" },
};

/**
 * The options of the commands that compute.
 *
 * @type {Options}
 */
const ENGINE_OPTIONS = {
  threads: { type: "string" },
  backend: { type: "string" },
  strict: { type: "boolean" },
  forward: { type: "string", multiple: true },
};

/**
 * For each command, its options besides `--help` and the function that runs it. Its module is loaded on use, so that `--help` is fast.
 * `any`: the values are those of the options, which the module declares as `Values`.
 *
 * @type {Record<string, {options: Options, start: (values: any, positionals: string[]) => Promise<void>}>}
 */
const COMMANDS = {
  run: {
    options: { ...PROMPT_OPTIONS, ...ANSWER_OPTIONS, ...ENGINE_OPTIONS, raw: { type: "boolean" }, json: { type: "boolean" } },
    start: async (...args) => (await import("./cli/run.js")).run(...args),
  },
  chat: {
    options: { ...PROMPT_OPTIONS, ...ANSWER_OPTIONS, ...ENGINE_OPTIONS },
    start: async (...args) => (await import("./cli/chat.js")).chat(...args),
  },
  tokenize: {
    options: { ...PROMPT_OPTIONS, raw: { type: "boolean" }, json: { type: "boolean" } },
    start: async (...args) => (await import("./cli/run.js")).tokenize(...args),
  },
  serve: {
    options: {
      port: { type: "string" },
      host: { type: "string" },
      model: { type: "string" },
      gguf: { type: "string", multiple: true },
      lora: { type: "string", multiple: true },
      "any-model": { type: "boolean" },
      cors: { type: "string", multiple: true },
      "allow-host": { type: "string", multiple: true },
      key: { type: "string" },
      ...ENGINE_OPTIONS,
    },
    start: async (...args) => (await import("./cli/serve.js")).serve(...args),
  },
  pull: {
    options: {},
    start: async (...args) => (await import("./cli/pull.js")).pull(...args),
  },
  list: {
    options: { available: { type: "boolean" }, json: { type: "boolean" } },
    start: async (...args) => (await import("./cli/list.js")).list(...args),
  },
  rm: {
    options: {},
    start: async (...args) => (await import("./cli/rm.js")).rm(...args),
  },
  models: {
    options: { search: { type: "string" }, json: { type: "boolean" } },
    start: async (...args) => (await import("./cli/models.js")).models(...args),
  },
};

/** @type {Options} */
const COMMON_OPTIONS = { help: { type: "boolean", short: "h" } };

/**
 * The commands that read their arguments themselves, because most of them are for another program.
 *
 * @type {Record<string, (args: string[]) => Promise<void>>}
 */
const PASSING = {
  dev: async (args) => (await import("./cli/dev.js")).dev(args),
};

/** @param {string[]} args */
async function main([name, ...rest]) {
  if (name === undefined || name === "--help" || name === "-h") return void console.log(HELP);
  if (name === "help") return void console.log(rest[0] === undefined ? HELP : helpOf(known(rest[0])));
  if (name === "--version" || name === "-v") return void console.log(await version());
  if (name.startsWith("-")) throw new UsageError(`unknown option ${name}: the command must come first`);
  if (Object.hasOwn(PASSING, name)) return PASSING[name](rest);
  const { options, start } = COMMANDS[known(name)];
  const { values, positionals } = parse(rest, { ...options, ...COMMON_OPTIONS }, (option) => commandsWith(option, name));
  if (values.help) return void console.log(helpOf(name));
  await start(values, positionals);
}

/**
 * Returns the name of a command.
 *
 * @param {string} name
 * @throws {UsageError} if there is no such command
 */
function known(name) {
  const names = Object.keys({ ...COMMANDS, ...PASSING });
  if (names.includes(name)) return name;
  const meant = nearest(name, names);
  throw new UsageError(`unknown command "${name}": ${meant ? `did you mean ${meant}?` : `the commands are ${names.join(", ")}`}`);
}

/**
 * The other commands that have an option.
 *
 * @param {string} option
 * @param {string} command
 */
const commandsWith = (option, command) => Object.keys(COMMANDS).filter((name) => name !== command && Object.hasOwn(COMMANDS[name].options, option));

async function version() {
  return JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8")).version;
}

// If the reader of the output has ended (`… | head`), exit without an error message.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error) => {
    if (error.code === "EPIPE") process.exit(0);
    if (stream === process.stdout) console.error(`error: the output cannot be written: ${error.message}`);
    process.exit(1);
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    const command = process.argv[2];
    const help = Object.hasOwn({ ...COMMANDS, ...PASSING }, command ?? "") ? `${command} --help` : "--help";
    console.error(`error: ${error.message} (see workers-ai-local ${help})`);
    process.exit(2);
  }
  // 130 is the shells' exit code for Ctrl+C. `exit` ends the process at once, although a download may still be running.
  if (error?.name === "AbortError") process.exit(130);
  const isExpected = error instanceof CommandError || error?.name === "AiError" || error?.name === "AiInternalError";
  console.error(`error: ${isExpected ? forTerminal(error.message) : (error?.stack ?? error)}`);
  process.exit(1);
}
