// Which requests `serve` answers. A page that a browser shows can send requests to this machine, also by a name of its own that resolves to it
// (DNS rebinding), so names and origins are checked, and a bearer token where one is set.

import { isSame } from "../secret.js";

/**
 * @import { IncomingMessage } from "node:http"
 * @typedef {object} Access
 * @property {string[]} [hosts] names besides those of this machine by which the server may be called
 * @property {string[]} [origins] origins whose pages may call it; `*` for any
 * @property {string} [key] the bearer token of every request that computes
 * @property {boolean} [loopback] the server listens on this machine only
 */

const LOOPBACK = /^(localhost|[^:/]+\.localhost|127(\.\d{1,3}){3}|\[::1\])$/i;

/**
 * Why a request is refused: a status and a text; `undefined` if it is answered.
 *
 * @param {Pick<IncomingMessage, "method" | "headers">} request
 * @param {Access} access
 * @returns {{status: number, text: string} | undefined}
 */
export function refusal({ method, headers }, { hosts = [], origins = [], key, loopback = true }) {
  const name = hostname(headers.host);
  // On other addresses the server's names are unknown, unless they were listed.
  const checksNames = loopback || hosts.length > 0;
  if (checksNames && !(name !== undefined && (LOOPBACK.test(name) || hosts.includes(name)))) {
    return { status: 403, text: `the host ${name ?? "(none)"} is not allowed: start the server with --allow-host ${name ?? "NAME"}` };
  }
  const { origin } = headers;
  const allowed = origins.includes("*") || (origin !== undefined && origins.includes(origin.toLowerCase()));
  const same = origin !== undefined && hostOf(origin) === headers.host?.toLowerCase();
  if (origin !== undefined && !same && !allowed) {
    return { status: 403, text: `pages of ${origin} may not call this server: start it with --cors ${origin}` };
  }
  // Requests of other sites without an origin: images, scripts, forms. Following a link to a page of this server is harmless.
  const follows = method === "GET" && headers["sec-fetch-mode"] === "navigate";
  if (headers["sec-fetch-site"] === "cross-site" && origin === undefined && !allowed && !follows) {
    return { status: 403, text: "pages of other sites may not call this server: start it with --cors and their origin" };
  }
  if (key !== undefined && method !== "OPTIONS" && !isKey(headers.authorization, key)) {
    return { status: 401, text: "this server needs the header Authorization: Bearer with its key" };
  }
  return undefined;
}

/** Whether an address is reachable from this machine only. @param {string} host */
export const isLoopback = (host) => host === "::1" || LOOPBACK.test(host);

/** The name in a `Host` header, in lower case, without the port. @param {string | undefined} host */
function hostname(host) {
  return /^(\[[^\]]+\]|[^:]+)(:\d+)?$/.exec(host ?? "")?.[1]?.toLowerCase();
}

/** @param {string} origin */
const hostOf = (origin) => /^https?:\/\/([^/]+)$/i.exec(origin)?.[1]?.toLowerCase();

/**
 * @param {string | undefined} authorization
 * @param {string} key
 */
function isKey(authorization, key) {
  const given = /^Bearer (.+)$/i.exec(authorization ?? "")?.[1];
  return given !== undefined && isSame(given, key);
}
