// Summarises the comparison: one table per figure, with the ratios to two of the contenders.

import { aligned, range, setting, spread } from "../figures.mjs";
import { CONTEXT, leastMemory } from "../page/workload.js";

/** The contenders to which all others are compared, and the titles of these columns. */
const REFERENCES = [
  ["wllama-1", "× wllama"],
  ["ours-simd128", "× ours"],
];

/** The figures. `less`: lower is better. */
const FIGURES = [
  { key: "readySeconds", title: "Load → first token", unit: "s", digits: 2, less: true, meaning: "from the import in a new page (or process) until the first piece of a short answer, including the load from this machine" },
  { key: "decodeTokensPerSecond", title: "Decode", unit: "tok/s", digits: 1, meaning: "128 tokens after a prompt of 30 tokens" },
  { key: "repeatTokensPerSecond", title: "Repetition", unit: "tok/s", digits: 1, meaning: "96 tokens that repeat a passage of the prompt" },
  { key: "prefillTokensPerSecond", title: "Prefill", unit: "tok/s", digits: 1, meaning: "a prompt of 510 tokens, none of them cached" },
  { key: "shallowTokensPerSecond", title: "Decode at 50", unit: "tok/s", digits: 1, meaning: "32 tokens after a prompt of 47 tokens" },
  { key: "deepTokensPerSecond", title: "Decode at 2,000", unit: "tok/s", digits: 1, meaning: "32 tokens after a context of 1,971 tokens (stock candle: the last 32 before 2,048)" },
  { key: "deepShare", title: "Decode at 2,000 : at 50", unit: "ratio", digits: 3, meaning: "decode speed with a long context relative to that with a short one" },
  { key: "coldSeconds", title: "Cold turn", unit: "s", digits: 3, less: true, meaning: "time to the first piece of the answer to a prompt of 509 tokens, none of them cached" },
  { key: "warmSeconds", title: "Warm turn", unit: "s", digits: 3, less: true, meaning: "time to the first piece for a prompt that shares its first 498 tokens with that of the cold turn" },
  { key: "warmShare", title: "Warm : cold turn", unit: "ratio", digits: 3, less: true, meaning: "the remaining time with a prefix cache; \"-\" if the contender has none by default" },
  { key: "memoryShare", title: "WebAssembly memory", unit: "ratio", digits: 2, less: true, meaning: `after the load and a context of ${CONTEXT} tokens, relative to the size of the file plus an f16 KV cache of that context` },
];

/** The medians with the figures of every run, and their ratios to the references: above 1 is better than the reference. */
export function summaries(entries, fileBytes) {
  const contenders = entries.map(({ definition: { id, name }, ran, failed, runs }) => {
    const figures = {};
    const all = runs.map((figures) => ({ ...figures, memoryShare: figures.memoryBytes && figures.memoryBytes / leastMemory(fileBytes) }));
    for (const key of ["memoryBytes", "warmCachedTokens", ...FIGURES.map(({ key }) => key)]) {
      const values = all.map((figures) => figures[key]).filter((value) => value !== undefined);
      if (values.length > 0) figures[key] = spread(values);
    }
    return { id, name, ran, failed, runs: runs.length, figures };
  });
  for (const { key, less } of FIGURES) {
    for (const [id] of REFERENCES) {
      const reference = contenders.find((contender) => contender.id === id)?.figures[key]?.median;
      for (const { figures } of contenders) {
        if (!reference || !figures[key]) continue;
        figures[key].timesAsGood = { ...figures[key].timesAsGood, [id]: less ? reference / figures[key].median : figures[key].median / reference };
      }
    }
  }
  return contenders;
}

/**
 * The tables.
 *
 * @param {object} results the results that bench.mjs prints as JSON
 */
export function table(results) {
  const { chromium, repetitions, quick, contenders } = results;
  const times = (value) => (value === undefined ? "-" : value.toFixed(2));
  const sections = FIGURES.filter(({ key }) => contenders.some(({ figures }) => figures[key])).map(({ key, title, unit, digits, less, meaning }) => {
    const text = (value) => value.toFixed(digits);
    const rows = contenders
      .filter(({ figures }) => Object.keys(figures).length > 0)
      .map(({ name, figures: { [key]: figure } }) =>
        figure
          ? [`  ${name}`, text(figure.median), range(figure, text), ...REFERENCES.map(([id]) => times(figure.timesAsGood?.[id]))]
          : [`  ${name}`, "-", "", ...REFERENCES.map(() => "-")],
      );
    return { meaning: `${title}: ${meaning}; ${less ? "less" : "more"} is better.`, rows: [[title, unit, "", ...REFERENCES.map(([, head]) => head)], ...rows] };
  });
  // Align all tables together, so that their columns have the same widths.
  const lines = aligned(sections.flatMap(({ rows }) => rows));
  const blocks = sections.map(({ rows }) => lines.splice(0, rows.length));
  const failures = contenders.filter(({ failed }) => failed).map(({ name, runs, failed }) => `Failed: ${name} (the table contains ${runs} of ${repetitions} runs): ${failed}`);
  return [
    `${setting(results)}${chromium ? `; Chromium ${chromium}` : ""}`,
    `Median of ${repetitions} ${repetitions === 1 ? "run" : "runs"} each, with lowest–highest beside it. The contenders alternate; each run uses a new page or process. Greedy sampling. After a warm-up, except the load.`,
    `"× wllama" and "× ours": ratio to wllama and to the package's build simd128, each with 1 thread; above 1 is better.`,
    ...(quick ? ["Quick: one run, no measurements at 2,000 tokens."] : []),
    ...sections.map(({ meaning }) => meaning),
    ...blocks.flatMap((block) => ["", ...block]),
    ...(contenders.some(({ ran }) => ran) ? ["", "Version or build and threads, as each contender reports them:", ...contenders.filter(({ ran }) => ran).map(({ name, ran }) => `  ${name}: ${ran}`)] : []),
    ...(failures.length > 0 ? ["", ...failures] : []),
  ].join("\n");
}
