// Lines on stderr for the person who waits: one that changes in a terminal, plain ones in a log.

const BAR_WIDTH = 24;
/** In a log: nothing about what is quick, then a line now and then. */
const FIRST_LINE_AFTER_MS = 2_000;
const LINE_EVERY_MS = 5_000;

const { stderr } = process;

/** Whether stderr is a terminal in which a line can be written anew. */
export const isTerminal = Boolean(stderr.isTTY) && process.env.TERM !== "dumb";

let shown = "";

/** Shows a passing line in a terminal, in the place of the one before. */
export function showStatus(text) {
  if (!isTerminal || text === shown) return;
  stderr.write(`\r${clip(text)}\x1b[K`);
  shown = text;
}

export function clearStatus() {
  if (shown) stderr.write("\r\x1b[K");
  shown = "";
}

/** A line that stays. */
export function say(text) {
  clearStatus();
  stderr.write(`${text}\n`);
}

/** A warning of the library. It speaks to programs; here the remedy is an option. */
export function note(text) {
  say(`note: ${text.replace(/^workers-ai-local: /, "").replace(/Give it a GGUF with .*$/s, "Give it a GGUF with --gguf.")}`);
}

/**
 * Shows how a load or a download goes on. The result is an `onProgress` for `Ai`.
 *
 * @param {string} file the name to show
 */
export function loadProgress(file) {
  let nextLine = performance.now() + FIRST_LINE_AFTER_MS;
  return ({ phase, loaded, total, kernels }) => {
    const what = doing[phase](file);
    const howMuch = kernels ? `${kernels.ready} of ${kernels.total}` : amount(loaded, total);
    const done = kernels ? bar(kernels.ready, kernels.total) : bar(loaded, total);
    if (isTerminal) return showStatus([what, done, howMuch].filter(Boolean).join("  "));
    if (performance.now() < nextLine) return;
    nextLine = performance.now() + LINE_EVERY_MS;
    say(`${what}: ${howMuch}`);
  };
}

/** What a load is doing, by its phase. */
const doing = {
  download: (file) => `Downloading ${file}`,
  weights: (file) => `Loading ${file}`,
  compile: () => "Compiling the GPU's kernels",
  check: () => "Checking the GPU's kernels",
};

function bar(loaded, total) {
  if (!total) return "";
  const full = Math.round((Math.min(loaded, total) / total) * BAR_WIDTH);
  return "█".repeat(full) + "░".repeat(BAR_WIDTH - full);
}

function amount(loaded, total) {
  const megabytes = (bytes) => Math.floor(bytes / 1e6);
  return total ? `${megabytes(loaded)} of ${megabytes(total)} MB` : `${megabytes(loaded)} MB`;
}

/** A line longer than the terminal is wide could not be taken back. */
function clip(text) {
  return text.slice(0, (stderr.columns || 80) - 1);
}
