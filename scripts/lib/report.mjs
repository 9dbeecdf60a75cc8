// Messages that scripts print while they work. They go to stderr; stdout is reserved for a script's result.

/** An expected failure: the message tells the user what to do, and is printed without a stack trace. */
export class UserError extends Error {}

/** Prints a line to stderr. */
export const say = (line) => process.stderr.write(`${line}\n`);

/** Runs a script's main function. On an error it exits with code 1: a `UserError` prints one line, any other error its stack trace. */
export async function main(work) {
  try {
    await work();
  } catch (error) {
    say(error instanceof UserError ? `error: ${error.message}` : (error?.stack ?? String(error)));
    process.exit(1);
  }
}

/** Formats a duration, for example `1.5 s`, `42 s` or `3 min 5 s`. */
export function duration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  if (milliseconds < 10_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/**
 * Shows the progress of a long task: the elapsed time, and the text that `work` last passed to its argument, the function `note`. In a
 * terminal this is one line that is updated; in a log, a line every 20 seconds. Returns the result of `work`.
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
