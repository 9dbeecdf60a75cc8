// TCP ports on this machine.

import { createServer } from "node:net";
import { UserError } from "./report.mjs";

export const HOST = "127.0.0.1";

function listen(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(port, HOST, () => {
      const { port: taken } = server.address();
      server.close(() => resolve(taken));
    });
  });
}

/** Returns a port that is free at this moment. */
export const freePort = () => listen(0);

/**
 * Checks that a port is free.
 *
 * @param {number} port
 * @param {string} setting the environment variable that sets the port, for the error message
 * @throws {UserError} if the port cannot be used
 */
export async function requirePort(port, setting) {
  try {
    await listen(port);
  } catch (error) {
    throw new UserError(
      error.code === "EADDRINUSE"
        ? `port ${port} is taken: stop the program that uses it, or choose another one with ${setting}=…`
        : `port ${port} cannot be used (${error.code}): choose another one with ${setting}=…`,
    );
  }
}

/**
 * Makes an HTTP server listen on `port` (0: any free port) and resolves to its URL, without a final slash. `close` also closes all its
 * connections.
 */
export async function listening(server, port = 0) {
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, HOST, resolve));
  return {
    url: `http://${HOST}:${server.address().port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

/**
 * The port in the environment variable `setting`, or `otherwise` if it is not set.
 *
 * @throws {UserError} if the value is not a port number
 */
export function portFrom(setting, otherwise) {
  const port = Number(process.env[setting] || otherwise);
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw new UserError(`${setting}=${process.env[setting]} is not a port number`);
}
