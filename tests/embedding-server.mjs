// A server of the embedding model's files, which tells what was asked for. For tests in every runtime.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { listening } from "../scripts/lib/ports.mjs";
import { EMBEDDING_FILES } from "./real-embeddings.mjs";

/**
 * Starts the server.
 *
 * @returns {Promise<{url: string, files: {weights: string, config: string, tokenizer: string}, asked: string[], close(): Promise<void>}>} `files`: the
 *   addresses of the model's files; `asked`: the names of those that were asked for
 */
export async function startEmbeddingServer() {
  const asked = [];
  const { url, close } = await listening(
    createServer(async (request, response) => {
      const name = request.url?.slice(1) ?? "";
      const headers = { "access-control-allow-origin": "*" };
      if (!(name in EMBEDDING_FILES)) return response.writeHead(404, headers).end();
      const { size } = await stat(EMBEDDING_FILES[name]);
      response.writeHead(200, { ...headers, "content-length": size, "last-modified": "Sat, 01 Aug 2026 00:00:00 GMT" });
      if (request.method === "HEAD") return response.end();
      asked.push(name);
      createReadStream(EMBEDDING_FILES[name]).pipe(response);
    }),
  );
  return { url, files: { weights: `${url}/weights`, config: `${url}/config`, tokenizer: `${url}/tokenizer` }, asked, close };
}
