// Generates docs/conformance.md from the results of the conformance tests. As a command: runs these tests and writes the page.

import path from "node:path";
import { pathToFileURL } from "node:url";
import { ELSEWHERE, ROUTES, SECTIONS, SURFACES } from "../tests/conformance.mjs";
import { inProject, npmBin, withNode22 } from "./lib/project.mjs";
import { run } from "./lib/process.mjs";
import { main } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";

export const PAGE = inProject("docs", "conformance.md");

const HEAD = `# Conformance

Which parts of Workers AI's APIs for text generation and embeddings this package implements: fields and features on each API surface, routes, and
at the end what needs Cloudflare's services. The tests
in \`tests/node/conformance.test.mjs\` generate this page (\`node scripts/conformance.mjs\` runs them and writes it), and \`npm test\` fails if
the page differs from their results.

✓ implemented and tested · a number: rejected with this documented error code and its HTTP status · – does not apply

The surfaces are \`run()\` of the class \`Ai\` and, over \`fetch()\`, the wire format of the genuine binding, the REST API and OpenAI's API. These
tests run in Node. In workerd and in browsers the same WebAssembly and the same class compute the answers: \`tests/workerd\` and
\`tests/browser\` check that the texts are the same there. The genuine binding is tested in \`tests/workerd\`, published clients in
\`tests/clients\`.
`;

/** What stands above a section's table. */
const ABOUT = {
  Responses: "With OpenAI the route is `/v1/responses`. On the other surfaces the ids of gpt-oss take such an input.\n\n",
  Embeddings: "With OpenAI the route is `/v1/embeddings`.\n\n",
  Errors: "Each surface reports errors in its own format.\n\n",
};

/**
 * The text of the page.
 *
 * @param {Map<object, Record<string, string> | string>} marks the results: for a row of a section the mark of each surface (`✓` or an
 *   error code), for a route one mark (`✓` or an HTTP status)
 */
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
  const elsewhere = table(["member", "service"], ELSEWHERE.map(({ what, service }) => [what, service]));
  return [
    HEAD,
    ...sections.map((section, index) => section.replace("\n\n", `\n\n${ABOUT[SECTIONS[index].title] ?? ""}`)),
    `## Routes\n\n\`…\` is \`/client/v4/accounts/:account\`.\n\n${routes}`,
    `## Not available locally\n\nThese throw \`AiInternalError\`, which says so. Images as input are error 5006.\n\n${elsewhere}`,
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
