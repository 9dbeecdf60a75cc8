// `serve --any-model`: requests for ids that do not exist are answered by one that does. Programs have names such as gpt-4o written in them.

import { DEFAULT_EMBEDDINGS } from "../default-embeddings.js";

/** @typedef {{fetch(request: Request): Promise<Response>}} Fetcher */

/** The path of a REST request: what is before the model id, and the id as it is written there. */
const REST_RUN = /^(\/client\/v4\/accounts\/[^/]+\/ai\/run\/)(.+)$/;
/** The paths of OpenAI's API whose body names the model. */
const OPENAI = /\/v1\/(chat\/completions|responses|embeddings)\/?$/;
/** The header with which the binding names the model, possibly behind a prefix and a colon. */
const MODEL_HEADER = "cf-consn-model-id";

/**
 * Puts the model's id in place of an unknown one, in the path, in the binding's header or in the body of OpenAI's API; for embeddings the id of the
 * embedding model that stands in for others.
 *
 * @param {Fetcher} ai
 * @param {object} options
 * @param {string} options.model the id that answers
 * @param {string[]} [options.others] further ids that exist: the service answers them
 * @param {number} options.maxBodyBytes a longer body is passed on as it is, to be refused
 * @param {(text: string) => void} [options.onWarning] called once for each id that was replaced
 * @returns {Fetcher}
 */
export function answeringAny(ai, { model, others = [], maxBodyBytes, onWarning = () => {} }) {
  /** Whether an id exists, by the answers of the engine itself. @type {Map<string, boolean>} */
  const known = new Map(others.map((id) => [id, true]));
  const exists = async (/** @type {string} */ id, other = model) => {
    const found = known.get(id) ?? (await ai.fetch(new Request(`http://localhost/v1/models/${encodeURIComponent(id)}`))).ok;
    if (!known.has(id) && !found) onWarning(`${id} does not exist; ${other} answers instead.`);
    // Clients may send any number of names.
    if (known.size < 1000) known.set(id, found);
    return found;
  };

  return {
    async fetch(request) {
      if (request.method !== "POST") return ai.fetch(request);
      const url = new URL(request.url);
      const [, before, id] = REST_RUN.exec(url.pathname) ?? [];
      if (id !== undefined) {
        if (await exists(decoded(id))) return ai.fetch(request);
        url.pathname = `${before}${model}`;
        return ai.fetch(copy(request, url, request.body));
      }
      const header = request.headers.get(MODEL_HEADER);
      if (header !== null) {
        const prefix = /^[^@]*:(?=@)/.exec(header)?.[0] ?? "";
        if (await exists(header.slice(prefix.length))) return ai.fetch(request);
        const changed = copy(request, url, request.body);
        changed.headers.set(MODEL_HEADER, `${prefix}${model}`);
        return ai.fetch(changed);
      }
      const [, kind] = OPENAI.exec(url.pathname) ?? [];
      if (kind === undefined) return ai.fetch(request);
      const other = kind === "embeddings" ? DEFAULT_EMBEDDINGS.id : model;
      const body = await bodyOf(request, maxBodyBytes);
      const input = parsed(body);
      const replaces = typeof input?.model === "string" && !(await exists(input.model, other));
      return ai.fetch(copy(request, url, replaces ? JSON.stringify({ ...input, model: other }) : body));
    },
  };
}

/**
 * The same request with another address and body.
 *
 * @param {Request} request
 * @param {URL} url
 * @param {BodyInit | null} body
 */
function copy({ method, headers, signal }, url, body) {
  const rest = new Headers(headers);
  // It may be the length of another body.
  rest.delete("content-length");
  // TypeScript's DOM library does not know `duplex`, which streams as bodies require.
  const init = { method, headers: rest, body, duplex: "half", signal };
  return new Request(url, init);
}

/**
 * A request's body; of a longer one a start that is too long, too.
 *
 * @param {Request} request
 * @param {number} most
 */
async function bodyOf({ body }, most) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > most) break;
  }
  return Buffer.concat(chunks);
}

/**
 * The body as an object; `undefined` if it is none, which the engine then says.
 *
 * @param {Buffer} body
 */
function parsed(body) {
  try {
    const value = JSON.parse(body.toString());
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} id */
function decoded(id) {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}
