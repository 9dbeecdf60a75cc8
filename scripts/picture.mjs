// docs/run.svg, the terminal in README.md: runs its commands and draws what they print. `node scripts/picture.mjs` writes it anew; a test
// compares it with what the commands print.

import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { inProject } from "./lib/project.mjs";
import { main, say } from "./lib/report.mjs";

/** The file, relative to the project. */
export const PICTURE = "docs/run.svg";

/** What is typed, each with a fixed result: a seed, or the likeliest tokens. */
const COMMANDS = [
  { shown: 'run --seed 1 --stop "To understand" "Why is the sky blue?"', args: ["run", "--seed", "1", "--stop", "To understand", "Why is the sky blue?"] },
  { shown: 'tokenize --raw "The capital of France is"', args: ["tokenize", "--raw", "The capital of France is"] },
];

const COLUMNS = 84;
const [WIDTH, LINE, CHARACTER, MARGIN, BAR] = [752, 20, 8.43, 22, 40];
const COLOURS = { back: "#0f172a", bar: "#1e293b", text: "#e2e8f0", prompt: "#4ade80", dots: ["#f87171", "#fbbf24", "#4ade80"] };

/** Runs the commands and returns the picture as SVG. */
export async function picture() {
  const lines = [];
  for (const { shown, args } of COMMANDS) {
    if (lines.length > 0) lines.push("");
    lines.push({ command: `npx workers-ai-local ${shown}` });
    const { stdout } = await promisify(execFile)(process.execPath, [inProject("pkg", "cli.js"), ...args]);
    lines.push(...stdout.trim().split("\n").flatMap(wrapped));
  }
  return svg(lines);
}

/** A line as a terminal of `COLUMNS` characters shows it, but broken between words. */
function wrapped(line) {
  const rows = [""];
  for (const word of line.split(" ")) {
    const last = rows.at(-1);
    if (last && last.length + 1 + word.length > COLUMNS) rows.push(word);
    else rows[rows.length - 1] = last ? `${last} ${word}` : word;
  }
  return rows;
}

function svg(lines) {
  const height = BAR + MARGIN + lines.length * LINE + MARGIN / 2;
  const text = (content) => content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  // The length is given, so that any monospaced font fits.
  const at = (column, row, content, colour) =>
    content && `<text x="${(MARGIN + column * CHARACTER).toFixed(1)}" y="${BAR + MARGIN + row * LINE}" textLength="${(content.length * CHARACTER).toFixed(1)}" fill="${colour}">${text(content)}</text>`;
  const drawn = lines.flatMap((line, row) =>
    line.command ? [at(0, row, "$", COLOURS.prompt), at(2, row, line.command, "#ffffff")] : [at(0, row, line, COLOURS.text)],
  );
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="workers-ai-local in a terminal">`,
    `<rect width="${WIDTH}" height="${height}" rx="10" fill="${COLOURS.back}"/>`,
    `<path d="M0 ${BAR - 10}V10a10 10 0 0 1 10-10H${WIDTH - 10}a10 10 0 0 1 10 10V${BAR - 10}z" fill="${COLOURS.bar}"/>`,
    ...COLOURS.dots.map((colour, index) => `<circle cx="${22 + index * 20}" cy="15" r="6" fill="${colour}"/>`),
    '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="14" xml:space="preserve">',
    ...drawn.filter(Boolean),
    "</g>",
    "</svg>",
  ].join("\n")}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(async () => {
    await writeFile(inProject(PICTURE), await picture());
    say(`${PICTURE} is written.`);
  });
}
