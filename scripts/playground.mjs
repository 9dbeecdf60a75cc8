// The playground's server. It serves only the playground's files, and only on this machine.

import { createServer } from "node:http";
import { refuse, staticFiles } from "../pkg/cli/static-files.js";
import { listening } from "./lib/ports.mjs";
import { UserError } from "./lib/report.mjs";

/**
 * Starts the server.
 *
 * @param {object} [options] `port`, and the options of `staticFiles`
 * @param {number} [options.port] default: any free port
 * @returns {Promise<{url: string, close(): Promise<void>}>} `url` has no final slash
 * @throws {UserError} if it cannot listen on the port
 */
export async function startPlayground({ port = 0, ...files } = {}) {
  const answer = staticFiles(files);
  const server = createServer(async (request, response) => {
    try {
      // The page asks whether this server computes. It has only files.
      if (request.url === "/local/status") return void response.writeHead(204).end();
      if (await answer(request, response)) return;
      if (request.method === "GET" || request.method === "HEAD") refuse(request, response, 404, `no ${request.url}`);
      else refuse(request, response, 405, "GET or HEAD only", { allow: "GET, HEAD" });
    } catch (error) {
      // A client that disconnects in the middle of a file is not an error.
      if (error.code !== "ERR_STREAM_PREMATURE_CLOSE") console.error(`playground: ${request.url}: ${error.message}`);
      response.destroy();
    }
  });
  return listening(server, port).catch((error) => {
    throw new UserError(`the playground cannot listen on port ${port} (${error.code})`);
  });
}
