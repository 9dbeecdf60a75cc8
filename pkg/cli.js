#!/usr/bin/env node
// The command `workers-ai-local`: the package in a terminal.
//
// Only the answer is written to stdout; status, warnings and errors are written to stderr.

import { readFile } from "node:fs/promises";
import { CommandError, UsageError, parse } from "./cli/arguments.js";
import { HELP } from "./cli/help.js";

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
  raw: { type: "boolean" },
  json: { type: "boolean" },
};

/**
 * For each command, its options besides `--help` and the function that runs it. Its module is loaded on use, so that `--help` is fast.
 * `any`: the values are those of the options, which the module declares as `Values`.
 *
 * @type {Record<string, {options: Options, start: (values: any, positionals: string[]) => Promise<void>}>}
 */
const COMMANDS = {
  run: {
    options: {
      ...PROMPT_OPTIONS,
      "max-tokens": { type: "string" },
      temperature: { type: "string" },
      "top-p": { type: "string" },
      "top-k": { type: "string" },
      seed: { type: "string" },
      stats: { type: "boolean" },
    },
    start: async (...args) => (await import("./cli/run.js")).run(...args),
  },
  tokenize: {
    options: PROMPT_OPTIONS,
    start: async (...args) => (await import("./cli/run.js")).tokenize(...args),
  },
  serve: {
    options: {
      port: { type: "string" },
      host: { type: "string" },
      model: { type: "string" },
      gguf: { type: "string", multiple: true },
      cors: { type: "string", multiple: true },
      "allow-host": { type: "string", multiple: true },
      key: { type: "string" },
    },
    start: async (...args) => (await import("./cli/serve.js")).serve(...args),
  },
  models: {
    options: { json: { type: "boolean" } },
    start: async (...args) => (await import("./cli/models.js")).models(...args),
  },
};

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
  if (name === undefined || name === "help" || name === "--help" || name === "-h") return void console.log(HELP);
  if (name === "--version" || name === "-v") return void console.log(await version());
  if (name.startsWith("-")) throw new UsageError(`unknown option ${name}: the command must come first`);
  if (Object.hasOwn(PASSING, name)) return PASSING[name](rest);
  if (!Object.hasOwn(COMMANDS, name)) throw new UsageError(`unknown command "${name}": the commands are ${Object.keys({ ...COMMANDS, ...PASSING }).join(", ")}`);
  const { options, start } = COMMANDS[name];
  const { values, positionals } = parse(rest, { ...options, help: { type: "boolean", short: "h" } });
  if (values.help) return void console.log(HELP);
  await start(values, positionals);
}

async function version() {
  return JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8")).version;
}

/**
 * An error's message as one line. Its advice for programs is replaced by the command's option.
 *
 * @param {string} message
 */
function forCommand(message) {
  return message.replaceAll(/\s*\n\s*/g, " ").replace(/\b([Gg])ive all (\d+) files as a list\b/, "$1ive --gguf $2 times, once for each file");
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
    console.error(`error: ${error.message} (see workers-ai-local --help)`);
    process.exit(2);
  }
  // 130 is the shells' exit code for Ctrl+C. `exit` ends the process at once, although a download may still be running.
  if (error?.name === "AbortError") process.exit(130);
  const isExpected = error instanceof CommandError || error?.name === "AiError" || error?.name === "AiInternalError";
  console.error(`error: ${isExpected ? forCommand(error.message) : (error?.stack ?? error)}`);
  process.exit(1);
}
