// The comparison's figures → a table for each, with the distance to two of the contenders.

import { aligned, range, setting, spread } from "../figures.mjs";
import { CONTEXT, leastMemory } from "../page/workload.js";

/** The contenders that the others are compared with, and the column's head. */
const REFERENCES = [
  ["wllama-1", "× wllama"],
  ["ours-simd128", "× ours"],
];

/** What is measured; `less` where less is better. */
const FIGURES = [
  { key: "readySeconds", title: "Load → first token", unit: "s", digits: 2, less: true, meaning: "from the import in a fresh page (or process) over the load from this machine to the first piece of a short answer" },
  { key: "decodeTokensPerSecond", title: "Decode", unit: "tok/s", digits: 1, meaning: "128 tokens after a prompt of 30" },
  { key: "prefillTokensPerSecond", title: "Prefill", unit: "tok/s", digits: 1, meaning: "a prompt of 510 tokens, none of them cached" },
  { key: "shallowTokensPerSecond", title: "Decode at 50", unit: "tok/s", digits: 1, meaning: "32 tokens after a prompt of 47" },
  { key: "deepTokensPerSecond", title: "Decode at 2,000", unit: "tok/s", digits: 1, meaning: "32 tokens after a context of 1,971 (the stock candle: the last 32 before 2,048)" },
  { key: "deepShare", title: "Decode at 2,000 : at 50", unit: "ratio", digits: 3, meaning: "what a long context leaves of the speed" },
  { key: "coldSeconds", title: "Cold turn", unit: "s", digits: 3, less: true, meaning: "first piece of the answer to a prompt of 509 tokens, none of them cached" },
  { key: "warmSeconds", title: "Warm turn", unit: "s", digits: 3, less: true, meaning: "the same for a prompt that shares its first 498 tokens with that one" },
  { key: "warmShare", title: "Warm : cold turn", unit: "ratio", digits: 3, less: true, meaning: "what a prefix cache leaves of the wait; \"-\" where there is none by default" },
  { key: "memoryShare", title: "WebAssembly memory", unit: "ratio", digits: 2, less: true, meaning: `after the load and a context of ${CONTEXT} tokens, in lengths of the file and that context's keys and values as f16` },
];

/** Medians with every single figure, and how many times as good as the references they are. */
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

/** @param {object} results what bench.mjs prints as JSON */
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
  // Aligned together, so that the figures stand under one another throughout.
  const lines = aligned(sections.flatMap(({ rows }) => rows));
  const blocks = sections.map(({ rows }) => lines.splice(0, rows.length));
  const failures = contenders.filter(({ failed }) => failed).map(({ name, runs, failed }) => `Failed: ${name} (${runs} of ${repetitions} runs are in the table): ${failed}`);
  return [
    `${setting(results)}${chromium ? `; Chromium ${chromium}` : ""}`,
    `Median of ${repetitions} ${repetitions === 1 ? "run" : "runs"} each, in turns, each in a fresh page or process; beside it lowest–highest. Greedy. After a warm-up, except the load.`,
    `"× wllama" and "× ours": how many times as good as wllama and as ours, each with 1 thread; above 1 is better.`,
    ...(quick ? ["Quick: one run, nothing at 2,000 tokens."] : []),
    ...sections.map(({ meaning }) => meaning),
    ...blocks.flatMap((block) => ["", ...block]),
    ...(contenders.some(({ ran }) => ran) ? ["", "What ran, in its own words:", ...contenders.filter(({ ran }) => ran).map(({ name, ran }) => `  ${name}: ${ran}`)] : []),
    ...(failures.length > 0 ? ["", ...failures] : []),
  ].join("\n");
}
