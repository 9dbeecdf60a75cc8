// What was typed after the command's name.

import { parseArgs } from "node:util";

/** The command was called in a way that it does not understand. */
export class UsageError extends Error {}

/** The command cannot do what it was asked; the message says why, and what helps. */
export class CommandError extends Error {}

/** Options and positional arguments; a `UsageError` of one line where they do not fit. */
export function parse(args, options) {
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    const option = /'(-[^\s'=]+)/.exec(error.message)?.[1];
    if (error.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw new UsageError(`unknown option ${option}`);
    if (error.code !== "ERR_PARSE_ARGS_INVALID_OPTION_VALUE") throw error;
    const takesValue = options[option?.replace(/^--/, "")]?.type === "string";
    throw new UsageError(takesValue ? `${option} needs a value` : `${option} takes no value`);
  }
}

/** The number given with an option, `undefined` where it was not given. Ranges are the library's to check. */
export function numberOf(values, option) {
  const text = values[option];
  if (text === undefined) return undefined;
  const number = Number(text);
  if (text.trim() === "" || !Number.isFinite(number)) throw new UsageError(`--${option} takes a number, not "${text}"`);
  return number;
}
