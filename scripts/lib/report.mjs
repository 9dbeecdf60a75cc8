// What people read while a script works. Everything goes to stderr, so that stdout is left to a script's result.

/** A failure that was foreseen: its message says what to do, and nobody needs a stack trace. */
export class UserError extends Error {}

export const say = (line) => process.stderr.write(`${line}\n`);

/** Runs a script's main function; a foreseen failure ends it with one line and exit code 1. */
export async function main(work) {
  try {
    await work();
  } catch (error) {
    say(error instanceof UserError ? `error: ${error.message}` : (error?.stack ?? String(error)));
    process.exit(1);
  }
}

export function duration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  if (milliseconds < 10_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/**
 * Shows that a long piece of work goes on: elapsed time, and what `work` last passed to its `note` argument.
 * In a terminal that is one line that changes; in a log, a line every 20 seconds.
 */
export async function withProgress(label, work) {
  const terminal = process.stderr.isTTY;
  const started = Date.now();
  let latest = "";
  const line = () => `${label}: ${latest ? `${latest}, ` : ""}${duration(Date.now() - started)}`;
  const clear = () => terminal && process.stderr.write("\r\x1b[K");

  if (!terminal) say(`${label} …`);
  const timer = terminal
    ? setInterval(() => process.stderr.write(`\r\x1b[K${line()}`.slice(0, (process.stderr.columns || 80) + 3)), 500)
    : setInterval(() => say(`  ${line()}`), 20_000);
  try {
    const result = await work((text) => (latest = text));
    clear();
    say(`${label}: done in ${duration(Date.now() - started)}`);
    return result;
  } catch (error) {
    clear();
    throw error;
  } finally {
    clearInterval(timer);
  }
}
