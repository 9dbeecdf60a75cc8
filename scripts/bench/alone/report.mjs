// Summarises several runs of the package as medians: as objects for the JSON output, and as a table.

import { aligned, range, setting, spread } from "../figures.mjs";

/**
 * The figures of one run.
 *
 * @typedef {object} Measured
 * @property {string} backend the backend that computed: `cpu` or `webgpu`
 * @property {number} loadSeconds
 * @property {number} firstTokenSeconds
 * @property {number} prefillTokensPerSecond
 * @property {number} decodeTokensPerSecond
 * @property {number} [loadMemoryBytes]
 * @property {number} [peakMemoryBytes]
 * @property {number} prefillTokens number of tokens of the measured prompt
 * @property {number} decodeTokens number of tokens of the measured answer
 */

/**
 * The columns: the property of `Measured`, the unit in the table, and the explanation below it. `perFile`: shown as a multiple of the
 * file size.
 */
const COLUMNS = [
  { key: "loadSeconds", title: "load", unit: "s", digits: 2, meaning: "from the import of the package until the model is loaded, in a new process or browser; the file is in the system's cache" },
  { key: "firstTokenSeconds", title: "first token", unit: "s", digits: 2, meaning: "from the first request after the load (a short chat prompt) until the first piece of its answer" },
  { key: "prefillTokensPerSecond", title: "prefill", unit: "tok/s", digits: 1, meaning: "tokens of a long prompt per second, none of them cached, after a warm-up" },
  { key: "decodeTokensPerSecond", title: "decode", unit: "tok/s", digits: 1, meaning: "tokens of an answer per second, one request at a time, measured by the reader of the stream, after a warm-up" },
  { key: "loadMemoryBytes", title: "mem. load", unit: "× file", digits: 2, perFile: true, meaning: "WebAssembly memory after the load, relative to the size of the model file; it never shrinks, so the load needed no more" },
  { key: "peakMemoryBytes", title: "mem. peak", unit: "× file", digits: 2, perFile: true, meaning: "WebAssembly memory at the end of the run, relative to the size of the model file" },
];

/**
 * The medians of one runtime's runs, with the figures of every run.
 *
 * @param {{id: string, name: string, version: string}} runtime
 * @param {Measured[]} runs
 * @param {number} fileBytes size of the model file in bytes
 */
export function summary({ id, name, version }, runs, fileBytes) {
  const figures = {};
  for (const { key, perFile } of COLUMNS) {
    const values = runs.map((run) => run[key]).filter((value) => value !== undefined);
    if (values.length === 0) continue;
    figures[key] = spread(values);
    if (perFile) figures[key].medianPerFileByte = figures[key].median / fileBytes;
  }
  const { backend, prefillTokens, decodeTokens } = runs[0];
  return { id, name, version, backend, prefillTokens, decodeTokens, ...figures };
}

/**
 * The table, followed by an explanation of its columns.
 *
 * @param {{model: {file: string, bytes: number}, machine: {processor: string, cores: number, loadAverage: number}, repetitions: number, runtimes: object[]}} results
 */
export function table({ model, machine, repetitions, runtimes }) {
  const cell = (runtime, { key, digits, perFile }) => {
    const figure = runtime[key];
    if (!figure) return ["-", ""];
    const text = (value) => (value / (perFile ? model.bytes : 1)).toFixed(digits);
    return [text(figure.median), range(figure, text)];
  };
  const rows = [["", ...COLUMNS.map(({ title }) => title)], ["", ...COLUMNS.map(({ unit }) => unit)]];
  for (const runtime of runtimes) {
    const cells = COLUMNS.map((column) => cell(runtime, column));
    rows.push([`${runtime.name} ${runtime.version}`, ...cells.map(([median]) => median)]);
    rows.push([`  on ${runtime.backend}`, ...cells.map(([, range]) => range)]);
  }
  const [{ prefillTokens, decodeTokens }] = runtimes;
  const titleWidth = Math.max(...COLUMNS.map(({ title }) => title.length));
  return [
    setting({ model, machine }),
    `Median of ${repetitions} cold ${repetitions === 1 ? "run" : "runs"}, lowest–highest below it. Prefill of ${prefillTokens} tokens, decode of ${decodeTokens}.`,
    "",
    ...aligned(rows),
    "",
    ...COLUMNS.map(({ title, meaning }) => `${title.padEnd(titleWidth)}  ${meaning}`),
  ].join("\n");
}
