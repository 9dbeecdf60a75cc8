// `workers-ai-local serve`: `Ai.fetch` as an HTTP server, and the playground.

import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { homedir } from "node:os";
import path from "node:path";
import { DEFAULT_MODEL, modelFolder } from "../default-model.js";
import { Ai } from "../node.js";
import { CommandError, UsageError, numberOf } from "./arguments.js";
import { MODEL_PATHNAME, refuse, staticFiles } from "./static-files.js";
import { clearStatus, loadProgress, note, say } from "./terminal.js";

/** Nobody else's machine reaches the server, unless told otherwise. */
const HOST = "127.0.0.1";
const PORT = 8788;

/** @param {Record<string, string | string[] | undefined>} values options, @param {string[]} positionals none are expected */
export async function serve(values, positionals) {
  if (positionals.length > 0) throw new UsageError(`serve takes no argument "${positionals[0]}"`);
  const { gguf, model } = values;
  const port = portFrom(values);
  const { env } = process;
  const ai = new Ai({
    ...weights(gguf, model),
    cors: originsFrom(values),
    onProgress: loadProgress(path.basename(gguf ?? env.WORKERS_AI_LOCAL_MODEL ?? DEFAULT_MODEL.file)),
    onWarning: note,
  });
  const modelPath = env.WORKERS_AI_LOCAL_MODEL || path.join(modelFolder(env, homedir()), DEFAULT_MODEL.file);
  const server = createServer(ai, { modelPath, log: say });
  const stop = () => {
    clearStatus();
    server.close(() => process.exit(0));
    // Ends the computations too: their clients are gone.
    server.closeAllConnections();
  };
  // Once: a second Ctrl+C ends the process the hard way.
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, stop);

  // Before the model, which may take minutes; who asks meanwhile waits for it.
  const url = await listen(server, port, values.host ?? HOST);
  const loaded = await ai.load(model).finally(clearStatus);
  const body = { model: model ?? DEFAULT_MODEL.id, messages: [{ role: "user", content: "Why is the sky blue?" }] };
  say(`Listening on ${url} with ${path.basename(loaded.model)} (${loaded.backend})

  Playground  ${url}/
  Try         curl ${url}/v1/chat/completions -H "content-type: application/json" -d '${JSON.stringify(body)}'

Ctrl+C stops.`);
}

/** A file alone answers for every id; a file with an id for that one. */
function weights(gguf, model) {
  if (gguf === undefined) return {};
  return model === undefined ? { default: gguf } : { models: { [model]: gguf } };
}

function portFrom(values) {
  const port = numberOf(values, "port") ?? PORT;
  if (Number.isInteger(port) && port >= 0 && port < 65536) return port;
  throw new UsageError(`--port takes a number from 0 to 65535, not "${values.port}"`);
}

function originsFrom({ cors }) {
  const wrong = cors?.find((origin) => !/^(\*|[a-z][a-z\d+.-]*:\/\/[^\s/]+\/?)$/i.test(origin));
  if (wrong !== undefined) throw new UsageError(`--cors takes an origin such as http://localhost:3000, or *, not "${wrong}"`);
  return cors?.map((origin) => origin.replace(/\/$/, ""));
}

/** Resolves to the server's address, without a final slash. */
async function listen(server, port, host) {
  try {
    await once(server.listen(port, host), "listening");
  } catch ({ code }) {
    throw new CommandError(
      code === "EADDRINUSE"
        ? `port ${port} is taken: stop what uses it, or choose another one with --port`
        : `cannot listen on port ${port} of ${host} (${code}): choose another one with --port and --host`,
    );
  }
  const { address, family, port: taken } = server.address();
  return `http://${family === "IPv6" ? `[${address}]` : address}:${taken}`;
}

/**
 * The server, which does not listen yet.
 *
 * @param {{fetch(request: Request): Promise<Response>}} ai
 * @param {object} [options]
 * @param {string} [options.modelPath] the default model's file, for the playground
 * @param {(line: string) => void} [options.log] told of each request once it is over
 */
export function createServer(ai, { modelPath, log = () => {} } = {}) {
  const sendFile = staticFiles({ modelPath });
  return createHttpServer(async (request, response) => {
    const { method } = request;
    const pathname = request.url.replace(/\?.*$/s, "");
    const started = performance.now();
    const left = new AbortController();
    response.once("close", () => {
      left.abort();
      const end = response.writableFinished ? "" : ", cut off";
      log(`${method} ${pathname} ${response.statusCode} ${Math.round(performance.now() - started)} ms${end}`);
    });
    // A connection that breaks: "close" follows.
    response.on("error", () => {});
    try {
      if (await sendFile(request, response)) return;
      // The page computes with the default model, which may never have been downloaded here.
      if (pathname === MODEL_PATHNAME) return refuse(request, response, 302, "not here", { location: DEFAULT_MODEL.url });
      const asked = toRequest(request, left.signal);
      if (!asked) return refuse(request, response, 400, "this is no request that can be answered");
      await send(await ai.fetch(asked), response, left.signal);
    } catch (error) {
      if (!left.signal.aborted && !request.errored) log(`${method} ${pathname}: ${error.message}`);
      // A stream that fails must not look as if it had ended.
      if (response.headersSent) response.destroy();
      else refuse(request, response, 500, "internal error");
    }
  });
}

/** Node's request as the web's; `null` for a method or an address that the web has not. */
function toRequest(request, signal) {
  const { method } = request;
  const body = method === "GET" || method === "HEAD" ? undefined : bodyOf(request);
  try {
    return new Request(new URL(request.url, "http://localhost"), { method, headers: Object.entries(request.headers), body, duplex: "half", signal });
  } catch {
    return null;
  }
}

/** A request's bytes, read as they are wanted. A rest that is not wanted is thrown away: only then clients hear the answer. */
function bodyOf(request) {
  const chunks = request.iterator({ destroyOnReturn: false });
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return();
        request.resume();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Sends an answer as fast as it is read: a client that stops reading stops the computation. */
async function send(answer, response, signal) {
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.flushHeaders();
  for await (const chunk of answer.body ?? []) {
    if (!response.write(chunk)) await once(response, "drain", { signal });
  }
  response.end();
}
