// `workers-ai-local serve` in a process of its own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** The path of the command. */
export const CLI = fileURLToPath(new URL("../pkg/cli.js", import.meta.url));

/** Starts `serve`, and resolves when it prints the address it listens on. */
export const startServe = (...args) => startServeIn({}, ...args);

/** The same in a folder, whose configuration file it reads, or with other variables of the environment. */
export async function startServeIn({ cwd, env }, ...args) {
  const child = spawn(process.execPath, [CLI, "serve", ...args], { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "close").then(([code]) => code);
  const server = { child, ended, said: "", out: "", stop: () => (child.kill("SIGTERM"), ended) };
  child.stdout.setEncoding("utf8").on("data", (text) => (server.out += text));
  await new Promise((resolve, reject) => {
    child.stderr.setEncoding("utf8").on("data", (text) => {
      server.said += text;
      server.url ??= /Listening on (http:\S+) /.exec(server.said)?.[1];
      if (server.url) resolve();
    });
    ended.then((code) => reject(new Error(`serve ended with ${code}: ${server.said}`)));
  });
  return server;
}
