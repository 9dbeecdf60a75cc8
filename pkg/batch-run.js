// The run of a batch: it computes the batch's requests in the background, and shows that it is alive.

import { isQueueFull } from "./errors.js";

/**
 * @import { Engine } from "./internal.d.ts"
 * @import { BatchResponse } from "./index.d.ts"
 * @import { Batch } from "./batch.js"
 */

/** Requests of a batch that are computed at the same time. The engine computes them in one batch of sequences. */
const TOGETHER = 4;
/** How long a request waits for a place in a full queue before it tries again: at first, and at most. */
const [FIRST_WAIT_MS, LONGEST_WAIT_MS] = [50, 2_000];
/** How often a run shows that it is alive. */
const BEAT_MS = 250;
/** After so long without a sign of life, a run is examined. */
const SILENT_MS = 10_000;

export class BatchRun {
  #engine;
  #batch;
  #isWanted;
  /** The first request that this run has not begun. */
  #next = 0;
  #isDone = false;
  #beats = 0;
  #lastBeat = Date.now();
  #ended = new AbortController();
  /** Resumes the requests that wait for a place. @type {Set<() => void>} */
  #waiting = new Set();

  /**
   * @param {Engine} engine
   * @param {Batch} batch
   * @param {(run: BatchRun) => boolean} isWanted whether this run is still the one that computes the batch
   */
  constructor(engine, batch, isWanted) {
    this.#engine = engine;
    this.#batch = batch;
    this.#isWanted = () => isWanted(this);
  }

  /** Begins to compute the requests that have no response yet. */
  start() {
    const timer = setInterval(() => {
      this.#beats += 1;
      this.#lastBeat = Date.now();
      if (!this.#isDone && this.#isWanted()) return;
      // Here and not where it is dropped: workerd lets no other request end what this one began.
      clearInterval(timer);
      this.#ended.abort();
    }, BEAT_MS);
    letEnd(timer);
    const work = Promise.all(Array.from({ length: TOGETHER }, () => this.#work())).then(() => void (this.#isDone = true));
    this.#engine.background?.(work);
  }

  /** Whether the run goes on, or is done. In workerd, the timers of a request end with it, as the rest of its work does. */
  async isAlive() {
    if (this.#isDone || Date.now() - this.#lastBeat < SILENT_MS) return true;
    // The thread may have been busy, or the machine asleep. Timers fire in their order, so that of a living run is before this one.
    const beats = this.#beats;
    await new Promise((resolve) => setTimeout(resolve, 2 * BEAT_MS));
    return this.#beats > beats;
  }

  async #work() {
    for (let index = this.#take(); index !== undefined; index = this.#take()) {
      const response = await this.#respond(index);
      if (response && this.#isWanted()) this.#batch.answered(index, response);
      // There is a place again.
      for (const resume of this.#waiting) resume();
    }
  }

  /** The next request to compute. */
  #take() {
    const { responses } = this.#batch;
    while (responses[this.#next] !== undefined) this.#next += 1;
    return this.#next < responses.length && this.#isWanted() ? this.#next++ : undefined;
  }

  /**
   * The response to a request, as soon as the queue has a place for it. `undefined` if it is not wanted any more.
   *
   * @param {number} index
   */
  async #respond(index) {
    for (let wait = FIRST_WAIT_MS; this.#isWanted(); wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      const response = await attempt(this.#engine, this.#batch, index, this.#ended.signal);
      if (response) return response;
      await this.#wait(wait);
    }
    return undefined;
  }

  /**
   * Waits until another request of this run has ended, but not longer than this.
   *
   * @param {number} milliseconds
   * @returns {Promise<void>}
   */
  #wait(milliseconds) {
    return new Promise((resolve) => {
      const resume = () => {
        this.#waiting.delete(resume);
        resolve();
      };
      this.#waiting.add(resume);
      letEnd(setTimeout(resume, milliseconds));
    });
  }
}

/**
 * The response to a request of a batch, also if it fails; `undefined` if the queue is full.
 *
 * @param {Engine} engine
 * @param {Batch} batch
 * @param {number} index
 * @param {AbortSignal} [signal]
 * @returns {Promise<BatchResponse | undefined>}
 */
export async function attempt(engine, { model, requests }, index, signal) {
  const { input, named } = requests[index];
  try {
    const result = await (await engine.generate(model, input, signal)).object();
    return { id: index, result, success: true, ...named };
  } catch (error) {
    if (isQueueFull(error)) return undefined;
    return { id: index, result: {}, success: false, error: String(error?.message ?? error), ...named };
  }
}

/**
 * Lets a Node process end before a timer. Elsewhere a timer is a number.
 *
 * @param {any} timer
 */
const letEnd = (timer) => void timer.unref?.();
