// What the reports share: medians, and columns of text.

/** The median of some runs with every single figure. */
export function spread(values) {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1), values };
}

/** "1.0–2.0", or nothing where there is no range. */
export function range({ min, max }, text) {
  const [low, high] = [text(min), text(max)];
  return low === high ? "" : `${low}–${high}`;
}

/** Lines of text from rows of cells: the first column to the left, figures to the right. */
export function aligned(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => row.map((text, column) => (column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column]))).join("  ").trimEnd());
}

/** The head of a report: on which file and machine. */
export function setting({ model, machine }) {
  return `${model.file}, ${(model.bytes / 1e6).toFixed(1)} MB, ${onMachine(machine)}`;
}

export const onMachine = ({ processor, cores, loadAverage }) => `on ${processor}, ${cores} cores, load average before ${loadAverage.toFixed(1)}`;
