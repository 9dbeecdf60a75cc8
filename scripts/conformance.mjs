// docs/conformance.md: what of the contract holds, as the tests found it. As a command: runs these tests and writes the page.

import path from "node:path";
import { pathToFileURL } from "node:url";
import { ROUTES, SECTIONS, SURFACES } from "../tests/conformance.mjs";
import { inProject, npmBin, withNode22 } from "./lib/project.mjs";
import { run } from "./lib/process.mjs";
import { main } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";

export const PAGE = inProject("docs", "conformance.md");

const HEAD = `# Conformance

What of Workers AI's text generation holds here, field by field and on each surface. This page is written by the tests that
prove it (\`tests/node/conformance.test.mjs\`; \`node scripts/conformance.mjs\` writes it), and \`npm test\` fails where it says
anything else than they find.

✓ holds · a number is the error that it gives, documented and with its HTTP status · – does not apply

The surfaces: \`run()\` of the class; the wire of the genuine binding, REST and OpenAI's API over \`fetch()\`. The rows run in
Node. In workerd and in browsers the same WebAssembly answers through the same class; \`tests/workerd\` and \`tests/browser\` show
that it gives the same texts there, and put the genuine binding and published clients in front of it.
`;

/** The page; `marks` has for each row what was found on each surface, and for each route what its answer was. */
export function pageOf(marks) {
  const sections = SECTIONS.map(({ title, rows }) => {
    const columns = [title === "Errors" ? "code" : "field", title === "Errors" ? "when" : "meaning", ...Object.values(SURFACES), "notes"];
    const cells = (row) => Object.keys(SURFACES).map((surface) => marks.get(row)[surface] ?? "–");
    return `## ${title}\n\n${table(
      columns,
      rows.map((row) => [row.field, row.meaning, ...cells(row), row.note ?? ""]),
    )}`;
  });
  const routes = table(
    ["route", "what", ""],
    ROUTES.map((row) => [row.route, row.what, marks.get(row)]),
  );
  const errors = "Each in the form of its surface.";
  return [
    HEAD,
    sections[0],
    sections[1],
    sections[2].replace("\n\n", `\n\n${errors}\n\n`),
    `## Routes\n\n\`…\` is \`/client/v4/accounts/:account\`.\n\n${routes}`,
  ].join("\n");
}

function table(columns, rows) {
  const line = (cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(columns), `|${"---|".repeat(columns.length)}`, ...rows.map(line), ""].join("\n");
}

if (import.meta.url === pathToFileURL(path.resolve(process.argv[1] ?? "")).href) {
  await main(async () => {
    const WORKERS_AI_LOCAL_MODEL = await ensureModel();
    const suite = path.join("tests", "node", "conformance.test.mjs");
    await run(npmBin("node"), ["--test", "--test-reporter=spec", suite], { env: withNode22({ WORKERS_AI_LOCAL_MODEL, UPDATE: "1" }) });
  });
}
