// How far the loading of a model is, in words.

import { sizeText } from "./dom.js";

/**
 * @import { ModelProgress } from "../pkg/index.d.ts"
 * @typedef {Omit<ModelProgress, "model">} Progress
 */

const MEGABYTE = 1e6;
/** The speed is that of so many milliseconds before now. */
const WINDOW_MS = 4000;

/**
 * The text for the current phase of a load.
 *
 * @param {Progress} progress
 */
export function phaseText({ phase, loaded, total }) {
  if (phase === "compile") return "Compiling GPU kernels …";
  if (phase === "check") return "Checking GPU kernels …";
  return loaded === total ? "Preparing the model …" : phase === "download" ? "Downloading the model …" : "Loading the model …";
}

/**
 * Progress between 0 and 1; `null` if the length is unknown.
 *
 * @param {Progress} progress
 */
export function progressShare({ loaded, total, kernels }) {
  if (kernels) return kernels.ready / kernels.total;
  return total ? loaded / total : null;
}

/** Remembers how fast the bytes came. */
export class Rate {
  /** @type {{at: number, loaded: number}[]} */
  #seen = [];

  /**
   * For instance "45 of 98 MB · 46 % · 12 MB/s, 4 s left" (only "45 MB" if the length is unknown) or "3 of 25 kernels".
   *
   * @param {Progress} progress
   * @param {number} now in milliseconds
   */
  text({ loaded, total, kernels }, now) {
    if (kernels) return `${kernels.ready} of ${kernels.total} kernels`;
    const have = Math.floor(loaded / MEGABYTE);
    const size = total ? `${have} of ${Math.floor(total / MEGABYTE)} MB · ${Math.floor((loaded / total) * 100)} %` : `${have} MB`;
    const speed = this.#speed(loaded, now);
    if (!speed) return size;
    const left = total ? `, ${durationText((total - loaded) / speed)} left` : "";
    return `${size} · ${sizeText(speed)}/s${left}`;
  }

  /**
   * Bytes per second; `null` before a second has passed.
   *
   * @param {number} loaded
   * @param {number} now
   */
  #speed(loaded, now) {
    const last = this.#seen.at(-1);
    // A new file, or the same one anew.
    if (last && loaded < last.loaded) this.#seen = [];
    if (!last || now - last.at > 100) this.#seen.push({ at: now, loaded });
    while (this.#seen.length > 1 && now - this.#seen[0].at > WINDOW_MS) this.#seen.shift();
    const [first] = this.#seen;
    return now - first.at > 1000 && loaded > first.loaded ? ((loaded - first.loaded) * 1000) / (now - first.at) : null;
  }
}

/** @param {number} seconds */
function durationText(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  return seconds < 3600 ? `${Math.ceil(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/**
 * The name of a backend for the user.
 *
 * @param {string} backend
 */
export const backendName = (backend) => ({ cpu: "CPU", webgpu: "GPU (WebGPU)" })[backend] ?? backend;
