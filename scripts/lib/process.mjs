// Runs other programs.

import { spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import path from "node:path";
import { root } from "./project.mjs";
import { UserError } from "./report.mjs";

/** A program failed. `lines`: the last lines of its output, if that was passed to `onLine` instead of being printed. */
export class CommandFailed extends UserError {
  constructor(command, reason, lines = []) {
    const said = lines.map((line) => line.trim()).filter(Boolean);
    // Show the first error line; the codes with which npm begins its errors do not help.
    const telling = said.find((line) => /^(error|E:|fatal|npm error (?!code|errno|syscall))/i.test(line)) ?? said.at(-1);
    super(`${path.basename(command)} failed (${reason})${telling ? `: ${telling}` : ""}`);
    this.lines = lines;
  }
}

/**
 * Runs a program to its end. Its output is printed, or passed line by line to `onLine`.
 *
 * @throws {CommandFailed} if its exit code is not 0
 * @throws {UserError} if it is not installed
 */
export function run(command, args, { cwd = root, env = {}, onLine } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: onLine ? ["ignore", "pipe", "pipe"] : ["ignore", "inherit", "inherit"],
    });
    const tail = [];
    for (const stream of onLine ? [child.stdout, child.stderr] : []) {
      eachLine(stream, (line) => {
        tail.push(line);
        if (tail.length > 200) tail.shift();
        onLine(line);
      });
    }
    child.on("error", (error) =>
      reject(error.code === "ENOENT" ? new UserError(`${command} is not installed`) : error),
    );
    child.on("close", (code, signal) =>
      code === 0 ? resolve() : reject(new CommandFailed(command, signal ?? `exit code ${code}`, tail)),
    );
  });
}

/** Returns a program's stdout, trimmed, or `null` if the program is missing or fails. For queries, such as a version. */
export function capture(command, args, { env = {} } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "ignore"],
    });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.on("error", () => resolve(null));
    child.on("close", (code) => resolve(code === 0 ? output.trim() : null));
  });
}

/** Returns the full path of a program on PATH, or `null`. */
export function which(name) {
  for (const folder of (process.env.PATH ?? "").split(path.delimiter)) {
    const file = path.join(folder || ".", name);
    if (isProgram(file)) return file;
  }
  return null;
}

/** Whether a path is an executable file. */
export function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** Calls `take` with each complete line of a stream, and at its end with an unterminated last line. */
export function eachLine(stream, take) {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk) => {
    const lines = (rest + chunk).split(/\r?\n|\r/);
    rest = lines.pop();
    lines.forEach(take);
  });
  stream.on("end", () => rest && take(rest));
}
