// Status on stderr: one line that is updated in a terminal, separate lines in a log.

import { forTerminal } from "./messages.js";

/** @import { ModelProgress } from "../index.d.ts" */

const BAR_WIDTH = 24;
const SHORTEST_BAR = 6;
/** In a log, progress starts after a delay and then appears at intervals. */
const FIRST_LINE_AFTER_MS = 2_000;
const LINE_EVERY_MS = 5_000;
/** The speed of a download is that of the last seconds. */
const SPEED_OVER_MS = 10_000;

const { stderr } = process;

/** Whether stderr is a terminal in which a line can be overwritten. */
export const isTerminal = Boolean(stderr.isTTY) && process.env.TERM !== "dumb";

let shown = "";

/**
 * Replaces the status line. Does nothing outside a terminal.
 *
 * @param {string} text
 */
export function showStatus(text) {
  if (!isTerminal || text === shown) return;
  stderr.write(`\r${clip(text)}\x1b[K`);
  shown = text;
}

/** Removes the status line. */
export function clearStatus() {
  if (shown) stderr.write("\r\x1b[K");
  shown = "";
}

/**
 * Writes a permanent line.
 *
 * @param {string} text
 */
export function say(text) {
  clearStatus();
  stderr.write(`${text}\n`);
}

/**
 * Prints a warning of the library.
 *
 * @param {string} text
 */
export function note(text) {
  say(`note: ${forTerminal(text)}`);
}

/**
 * Creates an `onProgress` for `Ai` that shows the progress of a download or a load.
 *
 * @param {string} file the name to show
 * @returns {(progress: ModelProgress) => void}
 */
export function loadProgress(file) {
  let nextLine = performance.now() + FIRST_LINE_AFTER_MS;
  const speed = speedometer();
  return ({ phase, loaded, total, kernels }) => {
    const action = ACTIONS[phase](file);
    const pace = phase === "download" ? speed(loaded, total) : "";
    const progress = kernels ? `${kernels.ready} of ${kernels.total}` : amount(loaded, total) + pace;
    if (isTerminal) {
      const room = lineWidth() - action.length - progress.length - 4;
      const done = kernels ? bar(kernels.ready, kernels.total, room) : bar(loaded, total, room);
      return showStatus([action, done, progress].filter(Boolean).join("  "));
    }
    if (performance.now() < nextLine) return;
    nextLine = performance.now() + LINE_EVERY_MS;
    say(`${action}: ${progress}`);
  };
}

/**
 * Creates a function that tells the speed of a download, and how long the rest takes at it; empty until that is known.
 *
 * @param {() => number} [now] milliseconds
 */
export function speedometer(now = () => performance.now()) {
  /** What was there at each moment of the last seconds. @type {{at: number, loaded: number}[]} */
  let seen = [];
  return (/** @type {number} */ loaded, /** @type {number | null} */ total) => {
    const at = now();
    // What was stored before, and another file, are not downloaded at this speed.
    const last = seen.at(-1);
    if (last && loaded < last.loaded) seen = [];
    if (!last || at - last.at >= 250 || seen.length === 0) seen.push({ at, loaded });
    while (seen.length > 2 && at - seen[0].at > SPEED_OVER_MS) seen.shift();
    const [first] = seen;
    if (at - first.at < 1_000 || loaded <= first.loaded) return "";
    const perSecond = (loaded - first.loaded) / ((at - first.at) / 1000);
    const rest = total ? `, ${duration((total - loaded) / perSecond)} left` : "";
    return `, ${perSecond < 1e6 ? `${Math.round(perSecond / 1e3)} kB/s` : `${(perSecond / 1e6).toFixed(1)} MB/s`}${rest}`;
  };
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * The current action, by the phase of a load.
 *
 * @type {Record<ModelProgress["phase"], (file: string) => string>}
 */
const ACTIONS = {
  download: (file) => `Downloading ${file}`,
  weights: (file) => `Loading ${file}`,
  compile: () => "Compiling GPU kernels",
  check: () => "Checking GPU kernels",
};

/**
 * A bar, as wide as there is room for.
 *
 * @param {number} loaded
 * @param {number | null} total
 * @param {number} room characters
 */
function bar(loaded, total, room) {
  const width = Math.min(room, BAR_WIDTH);
  if (!total || width < SHORTEST_BAR) return "";
  const full = Math.round((Math.min(loaded, total) / total) * width);
  return "█".repeat(full) + "░".repeat(width - full);
}

/**
 * @param {number} loaded
 * @param {number | null} total
 */
function amount(loaded, total) {
  /** @param {number} bytes */
  const megabytes = (bytes) => Math.floor(bytes / 1e6);
  return total ? `${megabytes(loaded)} of ${megabytes(total)} MB` : `${megabytes(loaded)} MB`;
}

/**
 * Clips a line to the width of the terminal; a longer one would wrap and could not be overwritten.
 *
 * @param {string} text
 */
function clip(text) {
  return text.slice(0, lineWidth());
}

const lineWidth = () => (stderr.columns || 80) - 1;
