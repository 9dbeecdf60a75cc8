// How fast an answer comes.

/** Times one answer. A piece of text is about a token; the usage at the end has the exact count. */
export class Stopwatch {
  #now;
  #started;
  #first = null;
  #last = null;
  #pieces = 0;

  /** @param {() => number} now the time in milliseconds */
  constructor(now = () => performance.now()) {
    this.#now = now;
    this.#started = now();
  }

  /** A piece of text, or the end of the answer, has come. */
  piece() {
    this.#last = this.#now();
    this.#first ??= this.#last;
    this.#pieces += 1;
  }

  get pieces() {
    return this.#pieces;
  }

  /** Seconds since the request. */
  get elapsed() {
    return (this.#now() - this.#started) / 1000;
  }

  /** Seconds until the first piece; `null` before it. */
  get firstAfter() {
    return this.#first === null ? null : (this.#first - this.#started) / 1000;
  }

  /**
   * Tokens per second of decoding. The first token comes out of the prompt's computation, so it counts neither in the
   * time nor in the tokens. `null` while there is nothing to divide.
   *
   * @param {number} tokens of the whole answer
   */
  tokensPerSecond(tokens = this.#pieces) {
    const seconds = (this.#last - this.#first) / 1000;
    return tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : null;
  }
}
