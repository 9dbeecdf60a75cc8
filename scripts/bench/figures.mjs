// Helpers of both reports: medians, and text in columns.

/** The median, minimum and maximum of the figures of several runs, and the figures themselves. */
export function spread(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1), values };
}

/** "1.0–2.0", or an empty string if both ends are printed alike. `text` formats a figure. */
export function range({ min, max }, text) {
  const [low, high] = [text(min), text(max)];
  return low === high ? "" : `${low}–${high}`;
}

/** Formats rows of cells as lines of text: the first column is aligned to the left, all others to the right. */
export function aligned(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => row.map((text, column) => (column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]))).join("  ").trimEnd());
}

/** The first line of a report: the model file and the machine. */
export function setting({ model, machine }) {
  return `${model.file}, ${(model.bytes / 1e6).toFixed(1)} MB, ${onMachine(machine)}`;
}

export const onMachine = ({ processor, cores, loadAverage }) => `on ${processor}, ${cores} cores, load average before ${loadAverage.toFixed(1)}`;
