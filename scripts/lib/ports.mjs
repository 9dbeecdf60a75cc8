// TCP ports of this machine.

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

/** A port that nobody uses at this moment. */
export const freePort = () => listen(0);

/** Says clearly when a port is taken. `setting` is the environment variable that chooses another. */
export async function requirePort(port, setting) {
  try {
    await listen(port);
  } catch (error) {
    throw new UserError(
      error.code === "EADDRINUSE"
        ? `port ${port} is taken: stop what uses it, or choose another one with ${setting}=…`
        : `port ${port} cannot be used (${error.code}): choose another one with ${setting}=…`,
    );
  }
}

/** Lets an HTTP server listen, on any free port where none is named. Closing it ends its connections too. */
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

/** A port from the environment. */
export function portFrom(setting, otherwise) {
  const port = Number(process.env[setting] || otherwise);
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw new UserError(`${setting}=${process.env[setting]} is not a port number`);
}
