// Runs `workers-ai-local serve` in a separate process, as users start it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../pkg/cli.js", import.meta.url));
/** Milliseconds to wait for a line of the log. Far longer than a load or an answer takes: only a server that hangs exceeds it. */
const PATIENCE = 120_000;

/**
 * Starts the server and waits until it listens, with its model loaded.
 *
 * @param {...string} args further arguments of `serve`; the port is always any free one
 * @returns the server: `logged(pattern, since)` resolves to the first line of its log that matches, from position `since` on; `mark()`
 *   returns the current position in the log
 */
export async function startServer(...args) {
  const child = spawn(process.execPath, [CLI, "serve", "--port", "0", ...args], { stdio: ["ignore", "inherit", "pipe"] });
  const ended = once(child, "close");
  const lines = [];
  const waiting = new Set();
  const tell = () => waiting.forEach((look) => look());
  createInterface({ input: child.stderr }).on("line", (line) => {
    lines.push(line);
    tell();
  });
  child.once("close", tell);

  function logged(pattern, since = 0) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        waiting.delete(look);
        settle(value);
      };
      const look = () => {
        const line = lines.slice(since).find((line) => pattern.test(line));
        if (line !== undefined) finish(resolve, line);
        else if (child.exitCode !== null) finish(reject, new Error(`the server has ended:\n${lines.join("\n")}`));
      };
      const fail = () => finish(reject, new Error(`${pattern} is not in the server's log:\n${lines.slice(since).join("\n")}`));
      const timer = setTimeout(fail, PATIENCE);
      waiting.add(look);
      look();
    });
  }

  const stop = async () => {
    child.kill();
    await ended;
  };
  try {
    const address = /^Listening on (http:\/\/127\.0\.0\.1:\d+)/;
    const [, url] = address.exec(await logged(address));
    return { url, logged, mark: () => lines.length, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
