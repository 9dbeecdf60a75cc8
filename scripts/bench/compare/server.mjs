// The server of the comparison's pages, on this machine only: it serves the pages, the package, the model and the other packages.

import { createServer } from "node:http";
import { refuse, staticFiles } from "../../../pkg/cli/static-files.js";
import { listening } from "../../lib/ports.mjs";
import { inProject } from "../../lib/project.mjs";

/**
 * Starts the server.
 *
 * @param {string} modelPath
 * @param {Record<string, string>} folders the folders of the other packages, by the URL path under which they are served
 */
export async function startServer(modelPath, folders) {
  const page = staticFiles({ modelPath, wwwFolder: inProject("scripts", "bench", "page") });
  const peers = Object.entries(folders).map(([prefix, folder]) => [prefix, staticFiles({ wwwFolder: folder })]);
  const server = createServer(async (request, response) => {
    try {
      const [prefix, answer] = peers.find(([prefix]) => request.url.startsWith(prefix)) ?? ["/", page];
      request.url = `/${request.url.slice(prefix.length)}`;
      if (!(await answer(request, response))) refuse(request, response, 404, `no ${request.url}`);
    } catch {
      // A page that is closed in the middle of a file is not an error.
      response.destroy();
    }
  });
  return listening(server);
}
