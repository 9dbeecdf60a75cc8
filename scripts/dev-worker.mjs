// Starts `wrangler dev` from JavaScript, for `npm start` and for the tests in workerd.

import { spawn } from "node:child_process";
import { STATE_FOLDER, wranglerCommand } from "./lib/wrangler.mjs";
import { HOST, freePort } from "./lib/ports.mjs";
import { root } from "./lib/project.mjs";
import { eachLine } from "./lib/process.mjs";
import { UserError } from "./lib/report.mjs";

/** The Workers of `npm start`. The first one is reachable on the port. */
export const EXAMPLE_CONFIGS = [
  "examples/router/wrangler.toml",
  "examples/streaming/wrangler.toml",
  "examples/object/wrangler.toml",
  "wrangler.toml",
];

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const START_LIMIT_MS = 120_000;
const START_ATTEMPTS = 4;

/**
 * Starts Workers and resolves once they accept requests.
 *
 * @param {object} [options]
 * @param {number} [options.port] default: any free port
 * @param {string[]} [options.configs] wrangler.toml files, relative to the project; the first Worker is reachable on the port
 * @param {Record<string, string>} [options.vars] variables of the first Worker; wrangler does not pass them to the others
 * @param {boolean} [options.quiet] do not print the Workers' console output, only collect it in `logs`
 * @param {string} [options.persistTo] the folder for local storage such as R2 buckets
 * @returns {Promise<{url: string, logs: string[], exited: Promise<void>, stop(): Promise<void>}>} `url` has no final slash
 * @throws {UserError} if wrangler ends or does not start within `START_LIMIT_MS`
 */
export async function startDevWorker(options = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(options);
    } catch (error) {
      // Between `freePort` and workerd's listening on the port, another process may have taken it.
      const taken = options.port === undefined && /Address already in use/i.test(error.message);
      if (!taken || attempt === START_ATTEMPTS) throw error;
    }
  }
}

async function start({ port, configs = EXAMPLE_CONFIGS, vars = {}, quiet = false, persistTo = STATE_FOLDER }) {
  const { command, args, env } = wranglerCommand(
    "dev",
    ...configs.flatMap((config) => ["-c", config]),
    ...["--local", "--ip", HOST, "--port", String(port ?? (await freePort()))],
    ...["--inspector-port", String(await freePort()), "--persist-to", persistTo],
    "--show-interactive-dev-session=false",
    ...Object.entries(vars).flatMap(([name, value]) => ["--var", `${name}:${value}`]),
  );
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A separate process group: wrangler starts Node, esbuild and workerd, and the group can be ended as a whole.
    detached: true,
  });
  const killGroup = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch {
      // Already gone.
    }
  };
  // The group receives neither the end of this process nor Ctrl+C, so pass both on.
  const atExit = () => killGroup("SIGKILL");
  const atSignal = (signal) => {
    atExit();
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  process.once("exit", atExit);
  SIGNALS.forEach((signal) => process.once(signal, atSignal));
  const exited = new Promise((resolve) => child.once("close", resolve)).then(() => {
    process.removeListener("exit", atExit);
    SIGNALS.forEach((signal) => process.removeListener(signal, atSignal));
  });

  const stop = async () => {
    const overdue = setTimeout(killGroup, 5_000, "SIGKILL");
    killGroup("SIGTERM");
    await exited;
    clearTimeout(overdue);
  };

  const logs = [];
  let url;
  try {
    url = await new Promise((resolve, reject) => {
      const fail = (reason) => reject(new UserError(`wrangler dev ${reason}${excerpt(logs)}`));
      const timer = setTimeout(fail, START_LIMIT_MS, `did not start in ${START_LIMIT_MS / 1000} s`);
      const take = (line) => {
        logs.push(line);
        const ready = /Ready on (http:\/\/\S+)/.exec(plain(line));
        if (ready) resolve(ready[1]);
        // Wrangler's output during the start is shown only if the start fails.
        else if (url && !quiet) process.stdout.write(`${line}\n`);
      };
      eachLine(child.stdout, take);
      eachLine(child.stderr, take);
      child.once("error", (error) => fail(`did not start: ${error.message}`));
      exited.then(() => fail("ended"));
      exited.then(() => clearTimeout(timer));
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { url, logs, exited, stop };
}

/** Removes terminal colours. */
const plain = (line) => line.replace(/\x1b\[[0-9;]*m/g, "");

function excerpt(logs) {
  const idle = /^\s*$|If you think this is a bug|Logs were written to/;
  const lines = logs.map(plain).filter((line) => !idle.test(line));
  const from = lines.findIndex((line) => /\[ERROR\]|error:/i.test(line));
  const shown = lines.slice(from < 0 ? -8 : from).slice(0, 8);
  return shown.length ? `:\n${shown.map((line) => `  ${line}`).join("\n")}` : "";
}
