// Randomness that can be repeated: every draw follows from a seed, which a failure prints and the environment sets.

/** A small generator (mulberry32) with what tests draw from it. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** In 0..1, 1 excluded. */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let bits = this.#state;
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `low` to `high`, both included. */
  int(low, high) {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  chance(probability) {
    return this.next() < probability;
  }

  pick(list) {
    return list[this.int(0, list.length - 1)];
  }

  /** `count` different members, in the order of the list. */
  some(list, count) {
    const rest = list.map((_, index) => index);
    const chosen = [];
    while (chosen.length < count && rest.length > 0) chosen.push(...rest.splice(this.int(0, rest.length - 1), 1));
    return chosen.sort((a, b) => a - b).map((index) => list[index]);
  }

  /** A seed of the input schema. */
  seed() {
    return this.int(1, 9_999_999_999);
  }
}

/** The seed of a run that found something, so that it stays found. */
const USUAL = 1_350_306_277;

/** The seed of this run: that of the environment (`SEED=…`, or `SEED=random` to look for more), or always the same one. */
export const SEED = process.env.SEED === "random" ? Math.floor(Math.random() * 2 ** 32) : Number(process.env.SEED ?? USUAL);

/** How many cases: that of the environment (`COUNT=…`), or what fits into a normal run. */
export const countOf = (usual) => (process.env.COUNT ? Number(process.env.COUNT) : usual);

/**
 * `count` cases, each with a seed of its own: the first has `SEED`, so that a case that failed can be run alone with
 * `SEED=… COUNT=1`. What fails says so.
 */
export async function forEachCase(count, work) {
  for (let index = 0; index < count; index += 1) {
    const seed = (SEED + index) >>> 0;
    try {
      await work(new Random(seed), index);
    } catch (error) {
      error.message += `\n(case ${index + 1} of ${count}; again with SEED=${seed} COUNT=1)`;
      throw error;
    }
  }
}
