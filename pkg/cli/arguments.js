// Parses the arguments after the command's name.

import { parseArgs } from "node:util";
import { nearest } from "../suggest.js";

/** @typedef {import("node:util").ParseArgsOptionsConfig} Options */

/** The command's arguments are invalid. Exit code 2. */
export class UsageError extends Error {}

/** The command failed. The message says why, and what to do about it. Exit code 1. */
export class CommandError extends Error {}

/**
 * Parses options and positional arguments.
 *
 * @param {string[]} args
 * @param {Options} options
 * @param {(option: string) => string[]} elsewhere the other commands that have an option
 * @throws {UsageError} with a message of one line
 */
export function parse(args, options, elsewhere) {
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    const option = /'(-[^\s'=]+)/.exec(error.message)?.[1];
    if (error.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw new UsageError(`unknown option ${option}${hint(option ?? "", options, elsewhere)}`);
    if (error.code !== "ERR_PARSE_ARGS_INVALID_OPTION_VALUE") throw error;
    const takesValue = options[option?.replace(/^--/, "") ?? ""]?.type === "string";
    throw new UsageError(takesValue ? `${option} needs a value` : `${option} takes no value`);
  }
}

/**
 * What may have been meant by an unknown option; empty if nothing is alike.
 *
 * @param {string} option with its dashes
 * @param {Options} options
 * @param {(option: string) => string[]} elsewhere
 */
function hint(option, options, elsewhere) {
  const name = option.replace(/^-+/, "");
  const commands = elsewhere(name);
  if (commands.length > 0) return `: it is an option of ${commands.join(" and ")}`;
  const meant = nearest(name, Object.keys(options));
  return meant ? `: did you mean --${meant}?` : "";
}

/**
 * Returns an option's value as a number; `undefined` if the option is absent. The library checks the range.
 *
 * @template {string} Option
 * @param {{[name in Option]?: string}} values
 * @param {Option} option
 * @throws {UsageError} if the value is not a number
 */
export function numberOf(values, option) {
  const text = values[option];
  if (text === undefined) return undefined;
  const number = Number(text);
  if (text.trim() === "" || !Number.isFinite(number)) throw new UsageError(`--${option} takes a number, not "${text}"`);
  return number;
}
