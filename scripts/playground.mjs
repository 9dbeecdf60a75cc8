// The playground's server: its files and nothing else, on this machine only.

import { createServer } from "node:http";
import { refuse, staticFiles } from "../pkg/cli/static-files.js";
import { listening } from "./lib/ports.mjs";
import { UserError } from "./lib/report.mjs";

/**
 * @param {object} [options] beside these, those of `staticFiles`
 * @param {number} [options.port] any free port where absent
 */
export async function startPlayground({ port = 0, ...files } = {}) {
  const answer = staticFiles(files);
  const server = createServer(async (request, response) => {
    try {
      if (await answer(request, response)) return;
      if (request.method === "GET" || request.method === "HEAD") refuse(request, response, 404, `no ${request.url}`);
      else refuse(request, response, 405, "GET or HEAD only", { allow: "GET, HEAD" });
    } catch (error) {
      // A reader that went away mid-file is no fault of ours.
      if (error.code !== "ERR_STREAM_PREMATURE_CLOSE") console.error(`playground: ${request.url}: ${error.message}`);
      response.destroy();
    }
  });
  return listening(server, port).catch((error) => {
    throw new UserError(`the playground cannot listen on port ${port} (${error.code})`);
  });
}
