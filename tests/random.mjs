// Reproducible random numbers: every draw depends only on a seed, which a failure prints and the environment variable `SEED` sets.

/** A small random number generator (mulberry32) with the kinds of draws that tests need. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** A number in [0, 1). */
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

  /** `count` distinct elements, in the order of the list. */
  some(list, count) {
    const rest = list.map((_, index) => index);
    const chosen = [];
    while (chosen.length < count && rest.length > 0) chosen.push(...rest.splice(this.int(0, rest.length - 1), 1));
    return chosen.sort((a, b) => a - b).map((index) => list[index]);
  }

  /** A valid value for the input field `seed`. */
  seed() {
    return this.int(1, 9_999_999_999);
  }
}

/** The default seed: that of a run that found a bug, so that a regression is found again. */
const USUAL = 1_350_306_277;

/** A seed that is new each time. */
export const newSeed = () => Math.floor(Math.random() * 2 ** 32);

/** The seed of this run: `SEED=…` from the environment (`SEED=random` chooses one at random), otherwise the default. */
export const SEED = process.env.SEED === "random" ? newSeed() : Number(process.env.SEED ?? USUAL);

/** The number of cases: `COUNT=…` from the environment, otherwise `usual`, which suits a normal run. */
export const countOf = (usual) => (process.env.COUNT ? Number(process.env.COUNT) : usual);

/**
 * Runs `count` cases. Case `index` has the seed `SEED + index`, so a failed case can be run alone with `SEED=… COUNT=1`; its error message
 * says how.
 */
export async function forEachCase(count, work) {
  for (let index = 0; index < count; index += 1) {
    const seed = (SEED + index) >>> 0;
    try {
      await work(new Random(seed), index);
    } catch (error) {
      error.message += `\n(case ${index + 1} of ${count}; repeat it with SEED=${seed} COUNT=1)`;
      throw error;
    }
  }
}
