// Runs `workerd serve` without wrangler, for configurations that wrangler does not support.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import workerd from "workerd";
import { HOST } from "../../scripts/lib/ports.mjs";
import { eachLine } from "../../scripts/lib/process.mjs";
import { UserError } from "../../scripts/lib/report.mjs";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const START_LIMIT_MS = 30_000;
/** The file descriptor to which workerd writes its control messages. */
const CONTROL = 3;

/**
 * Starts workerd and resolves once its socket `http` is open. `url` has no final slash.
 *
 * @param {(embed: (file: string) => string) => string} configuration returns the text of a Cap'n Proto file that defines the constant
 *   `config`; `embed` returns the Cap'n Proto expression that embeds a file
 * @returns {Promise<{url: string, logs: string[], stop(): Promise<void>}>}
 */
export async function startWorkerd(configuration) {
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-workerd-"));
  const file = path.join(folder, "config.capnp");
  const embed = (name) => `embed ${JSON.stringify(path.relative(folder, name))}`;
  await writeFile(file, configuration(embed));

  // Port 0: workerd chooses a free port and reports it, so no other process can take it in between.
  const args = ["serve", file, `--socket-addr=http=${HOST}:0`, `--control-fd=${CONTROL}`];
  const child = spawn(workerd.default, args, { stdio: ["ignore", "pipe", "pipe", "pipe"] });
  const kill = () => void child.kill("SIGKILL");
  // workerd does not notice when this process ends, so end it explicitly.
  const atSignal = (signal) => {
    kill();
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  process.once("exit", kill);
  SIGNALS.forEach((signal) => process.once(signal, atSignal));
  const exited = new Promise((resolve) => child.once("close", resolve)).then(() => {
    process.removeListener("exit", kill);
    SIGNALS.forEach((signal) => process.removeListener(signal, atSignal));
  });
  const stop = () => {
    kill();
    return exited;
  };

  const logs = [];
  for (const stream of [child.stdout, child.stderr]) eachLine(stream, (line) => void logs.push(line));
  let timer;
  try {
    const port = await new Promise((resolve, reject) => {
      const fail = (reason) => reject(new UserError(`workerd ${reason}:\n${logs.slice(-8).join("\n")}`));
      timer = setTimeout(fail, START_LIMIT_MS, `did not start in ${START_LIMIT_MS / 1000} s`);
      eachLine(child.stdio[CONTROL], (line) => {
        const { event, socket, port } = JSON.parse(line);
        if (event === "listen" && socket === "http") resolve(port);
      });
      child.once("error", (error) => fail(`did not start: ${error.message}`));
      exited.then(() => fail("ended"));
    });
    return { url: `http://${HOST}:${port}`, logs, stop };
  } catch (error) {
    await stop();
    throw error;
  } finally {
    clearTimeout(timer);
    // workerd has read all files by now.
    await rm(folder, { recursive: true, force: true });
  }
}
