// Measures the speed of an answer.

/** Milliseconds that an answer takes at least after its first token if its speed is to mean something. Prepared answers come at once. */
const MEASURABLE_MS = 50;

/** Measures one answer. A piece of text is approximately one token; the usage at the end has the exact count. */
export class Stopwatch {
  #now;
  #started;
  /** @type {number | null} */
  #first = null;
  /** @type {number | null} */
  #last = null;
  #pieces = 0;

  /** @param {() => number} now returns the time in milliseconds */
  constructor(now = () => performance.now()) {
    this.#now = now;
    this.#started = now();
  }

  /** Records that a piece of text has arrived. */
  piece() {
    this.#last = this.#now();
    this.#first ??= this.#last;
    this.#pieces += 1;
  }

  /** Number of pieces so far. */
  get pieces() {
    return this.#pieces;
  }

  /** Seconds since the request was sent. */
  get elapsed() {
    return (this.#now() - this.#started) / 1000;
  }

  /** Seconds from the request to the first piece; `null` before the first piece. */
  get firstAfter() {
    return this.#first === null ? null : (this.#first - this.#started) / 1000;
  }

  /**
   * Tokens per second of decode. The first token results from prefill, so neither it nor its time counts. `null` before the
   * second token, and for answers that came at once.
   *
   * @param {number} tokens number of tokens in the whole answer
   */
  tokensPerSecond(tokens = this.#pieces) {
    if (this.#first === null || this.#last === null) return null;
    const ms = this.#last - this.#first;
    return tokens > 1 && ms >= MEASURABLE_MS ? ((tokens - 1) / ms) * 1000 : null;
  }
}
