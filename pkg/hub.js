// The Hugging Face hub: the name of a model → the addresses, sizes and hashes of its files.

import { AiInternalError } from "./errors.js";
import { hubOf, parseName } from "./names.js";
import { partNames, request, sourceError, statusError } from "./source.js";
import { nearest } from "./suggest.js";

/**
 * @import { HubName } from "./names.js"
 *
 * @typedef {object} HubFile
 * @property {string} url
 * @property {string} file its path in the repository
 * @property {number} size in bytes
 * @property {string} [sha256] of the file; the hub knows none of small files that are in the repository itself
 *
 * @typedef {object} HubModel
 * @property {string} name the name that was asked for, in full
 * @property {string} [quant] the quantisation that was chosen
 * @property {HubFile[]} files one, or those of a split model in their order
 *
 * @typedef {object} HubOptions
 * @property {string} [endpoint] of a mirror, for instance
 * @property {string} [token] for repositories that are gated or private. No other origin than the endpoint's gets it
 * @property {typeof globalThis.fetch} [fetch]
 * @property {AbortSignal} [signal]
 *
 * @typedef {{type: string, path: string, size: number, lfs?: {oid: string, size: number}}} Entry of a listing
 * @typedef {{stem: string, quant: string | undefined, files: Entry[], count: number}} Group the files of one model
 */

export const ENDPOINT = "https://huggingface.co";

/** Which quantisation is taken where a name says none: the first one that a repository has. */
const PREFERRED = ["Q4_K_M", "Q4_0", "Q8_0", "Q4_K_S", "Q4_1", "IQ4_NL", "IQ4_XS", "Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q3_K_M", "Q3_K_L", "Q3_K_S", "Q2_K", "BF16", "F16", "F32"];
/** The name of a quantisation inside that of a file, as llama.cpp's tools and their users write it. */
const QUANT = /(?:^|[-._/ ])((?:UD-)?I?Q\d(?:_[A-Z\d]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F(?:P)?16|F(?:P)?32)(?=$|[-._/ ])/gi;
/** Files in GGUF that are no language models: parts for images, and statistics of a quantisation. */
const OTHER = /(^|[-._/])(mmproj|imatrix)([-._/]|$)/i;
const MODEL_FILE = /\.gguf$/i;
const PART = /-\d{5}-of-\d{5}$/;
/** A listing has at most so many pages of 1,000 files. */
const MAX_PAGES = 20;
const MOST_SHOWN = 12;

/**
 * The files that a name stands for.
 *
 * @param {string | HubName} name `hf:…`, or the name of a curated model
 * @param {HubOptions} [options]
 * @returns {Promise<HubModel>}
 * @throws an error with a `kind`, see source.js, and with what to do
 */
export async function resolveHub(name, options = {}) {
  const hub = typeof name === "string" ? hubOf(parseName(name)) : name;
  if (!hub) throw new AiInternalError(`"${name}" is not a name on the hub.`);
  const { endpoint, token, ...rest } = { ...options, endpoint: endpointOf(options.endpoint) };
  const entries = await listing(hub, endpoint, token, rest);
  const { files, quant } = hub.file === undefined ? chosen(entries, hub) : { files: filesAt(entries, hub), quant: undefined };
  return { name: hub.name, ...(quant && { quant }), files: files.map((entry) => fileOf(entry, hub, endpoint)) };
}

/**
 * The files of a model, first the one that its name names: in a list, each name stands for its own file.
 *
 * @param {HubFile[]} files
 * @param {HubName} name
 */
export const namedFirst = (files, name) => [...files].sort((one, other) => Number(other.file === name.file) - Number(one.file === name.file));

/**
 * @param {string} [endpoint]
 * @throws {AiInternalError} if it is not the address of a server
 */
export function endpointOf(endpoint = ENDPOINT) {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) throw new AiInternalError(`The hub's endpoint "${endpoint}" is not a URL. Give one such as ${ENDPOINT} (hub.endpoint, or HF_ENDPOINT).`);
  return url.href.replace(/[?#].*$/, "").replace(/\/+$/, "");
}

/**
 * The headers of a request to an address: the token only for the hub.
 *
 * @param {string} url
 * @param {{endpoint?: string, token?: string}} hub
 * @returns {Record<string, string>}
 */
export function hubHeaders(url, { endpoint, token }) {
  return token && new URL(url).origin === new URL(endpointOf(endpoint)).origin ? { authorization: `Bearer ${token}` } : {};
}

/**
 * An address of the hub on the mirror that is configured.
 *
 * @param {string} url
 * @param {string} [endpoint]
 */
export const onEndpoint = (url, endpoint) => (url.startsWith(`${ENDPOINT}/`) ? endpointOf(endpoint) + url.slice(ENDPOINT.length) : url);

/**
 * A file of a default model where the configuration says that the hub is.
 *
 * @param {{url: string, sha256: string}} file
 * @param {Pick<HubOptions, "endpoint" | "token">} [hub]
 */
export function defaultFile({ url, sha256 }, hub = {}) {
  const address = onEndpoint(url, hub.endpoint);
  return { url: address, headers: hubHeaders(address, hub), sha256 };
}

/**
 * What went wrong with a request, if the hub says that the file is not for everybody or not there; `undefined` for all else.
 *
 * @param {{status?: number, code?: string | null}} answer its status, and the header `x-error-code`
 * @param {string} what the repository or the file, for the message
 * @param {{endpoint?: string, token?: string, page?: string}} hub `page`: where the repository is shown
 */
export function hubError({ status, code }, what, { endpoint, token, page }) {
  const home = endpointOf(endpoint);
  const tokens = `${home}/settings/tokens`;
  const how = "in HF_TOKEN, or in hub: { token } of new Ai()";
  if (status === 403 && !token) return sourceError("refused", `${what}: the hub gives no access (HTTP 403). With access to ${page ?? home}, create a token at ${tokens} and give it ${how}`);
  if (status === 403) {
    return sourceError("refused", `${what}: the hub's token has no access (HTTP 403). Accept the licence at ${page ?? home} with the account of the token; a fine-grained token also needs the permission to read gated repositories (${tokens})`);
  }
  if (status === 401 && token) return sourceError("refused", `${what}: the hub does not accept the token (HTTP 401). Create another one at ${tokens} and give it ${how}; if the name may be wrong, look at ${page ?? home}`);
  if (status === 401 && code === "GatedRepo") return sourceError("refused", `${what} is gated (HTTP 401). Accept its licence at ${page ?? home}, create a token at ${tokens}, and give it ${how}`);
  // Of what does not exist, the hub says to strangers the same as of what is private.
  if (status === 401) return sourceError("refused", `${what} does not exist, or is private or gated (HTTP 401). Check the name; with access to ${page ?? home}, give a token ${how}`);
  return undefined;
}

/**
 * The files of a repository.
 *
 * @param {HubName} hub
 * @param {string} endpoint
 * @param {string | undefined} token
 * @param {Pick<HubOptions, "fetch" | "signal">} options
 * @returns {Promise<Entry[]>}
 */
async function listing(hub, endpoint, token, options) {
  const { owner, repo, revision } = hub;
  const entries = [];
  /** @type {string | undefined} */
  let url = `${endpoint}/api/models/${owner}/${repo}/tree/${encodeURIComponent(revision)}?recursive=true`;
  for (let page = 0; url !== undefined && page < MAX_PAGES; page += 1) {
    const response = await request(url, hubHeaders(url, { endpoint, token }), {}, options).catch((error) => {
      if (error.kind || error.name === "AbortError") throw error;
      throw sourceError("interrupted", `${endpoint} cannot be reached: ${error.cause?.message ?? error.message}`);
    });
    if (!response.ok) throw await listingError(response, hub, endpoint, token);
    entries.push(...(await entriesIn(response, endpoint)));
    url = nextPage(response, endpoint);
  }
  return entries.filter(({ type }) => type === "file");
}

/**
 * @param {Response} response
 * @param {string} endpoint
 * @returns {Promise<Entry[]>}
 */
async function entriesIn(response, endpoint) {
  const entries = await response.json().catch(() => undefined);
  const isListing = Array.isArray(entries) && entries.every((entry) => typeof entry?.path === "string");
  if (!isListing) throw sourceError("refused", `${endpoint} does not answer as the hub does: check the endpoint (hub.endpoint, or HF_ENDPOINT)`);
  return entries;
}

/**
 * The address of a listing's next page, on the same server.
 *
 * @param {Response} response
 * @param {string} endpoint
 */
function nextPage(response, endpoint) {
  const next = /<([^>]+)>\s*;\s*rel="?next"?/i.exec(response.headers.get("link") ?? "")?.[1];
  const url = next !== undefined && URL.canParse(next, endpoint) ? new URL(next, endpoint) : undefined;
  return url?.origin === new URL(endpoint).origin ? url.href : undefined;
}

/**
 * @param {Response} response
 * @param {HubName} hub
 * @param {string} endpoint
 * @param {string | undefined} token
 */
async function listingError(response, { owner, repo, revision }, endpoint, token) {
  const page = `${endpoint}/${owner}/${repo}`;
  const code = response.headers.get("x-error-code");
  await response.body?.cancel().catch(() => {});
  const refused = hubError({ status: response.status, code }, `${owner}/${repo}`, { endpoint, token, page });
  if (refused) return refused;
  if (response.status === 404 && code === "RevisionNotFound") return sourceError("not-found", `${owner}/${repo} has no revision ${revision}: see ${page}/tree/main`);
  if (response.status === 404) return sourceError("not-found", `there is no repository ${owner}/${repo} on ${endpoint}: check its name`);
  const error = statusError(response);
  return Object.assign(error, { message: `the files of ${owner}/${repo} cannot be listed: ${error.message}` });
}

/**
 * @param {Entry} entry
 * @param {HubName} hub
 * @param {string} endpoint
 * @returns {HubFile}
 */
function fileOf({ path, size, lfs }, { owner, repo, revision }, endpoint) {
  const url = `${endpoint}/${owner}/${repo}/resolve/${encodeURIComponent(revision)}/${path.split("/").map(encodeURIComponent).join("/")}`;
  return { url, file: path, size: lfs?.size ?? size, ...(lfs && /^[\da-f]{64}$/.test(lfs.oid) && { sha256: lfs.oid }) };
}

/**
 * The file of a name that names one; of a split model, all of its files.
 *
 * @param {Entry[]} entries
 * @param {HubName} hub
 */
function filesAt(entries, { owner, repo, file = "" }) {
  const names = partNames(file);
  const found = names.map((name) => entries.find(({ path }) => path === name));
  const missing = names.find((_, index) => !found[index]);
  if (missing === undefined) return /** @type {Entry[]} */ (found);
  const paths = entries.map(({ path }) => path);
  const models = paths.filter((path) => MODEL_FILE.test(path));
  const meant = nearest(missing, paths);
  throw sourceError("not-found", `${owner}/${repo} has no file ${missing}: ${meant ? `did you mean ${meant}?` : `it has ${shown(models.length > 0 ? models : paths)}`}`);
}

/**
 * The files of the quantisation that a name asks for, or of the one that is preferred.
 *
 * @param {Entry[]} entries
 * @param {HubName} hub
 */
function chosen(entries, { owner, repo, quant }) {
  const groups = groupsOf(entries);
  const name = `${owner}/${repo}`;
  if (groups.length === 0 && entries.some(({ path }) => path === "adapter_config.json")) {
    throw sourceError("not-found", `${name} has a LoRA adapter, and no model in GGUF: give it as an adapter, in loras or with --lora NAME=hf:${name}`);
  }
  if (groups.length === 0) throw sourceError("not-found", `${name} has no GGUF file${/gguf/i.test(repo) ? "" : `: look for a repository such as ${repo}-GGUF`}`);
  const quants = [...new Set(groups.flatMap(({ quant }) => quant ?? []))];
  const wanted = quant ?? PREFERRED.find((each) => quants.includes(each));
  const fitting = wanted === undefined ? groups : groups.filter((group) => group.quant === wanted.toUpperCase());
  if (fitting.length === 0) {
    const meant = nearest(String(wanted), quants);
    throw sourceError("not-found", `${name} has no ${wanted}: ${meant ? `did you mean hf:${name}:${meant}?` : `it has ${shown(quants)}`}`);
  }
  if (fitting.length > 1) {
    const files = fitting.map(({ files }) => `hf:${name}/${files[0].path}`);
    throw sourceError("refused", `${name} has several models${wanted === undefined ? "" : ` in ${wanted}`}: name one of ${shown(files)}`);
  }
  const [{ files, count, stem }] = fitting;
  if (files.length !== count) throw sourceError("not-found", `${name} has ${files.length} of the ${count} files of ${stem}`);
  return { files, quant: fitting[0].quant };
}

/**
 * The models among files: each with its quantisation, and all files if it is split.
 *
 * @param {Entry[]} entries
 * @returns {Group[]}
 */
function groupsOf(entries) {
  /** @type {Map<string, Group>} */
  const groups = new Map();
  for (const entry of entries.filter(({ path }) => MODEL_FILE.test(path) && !OTHER.test(withoutQuant(path)))) {
    const stem = entry.path.replace(MODEL_FILE, "").replace(PART, "");
    const group = groups.get(stem) ?? { stem, quant: quantOf(entry.path), files: [], count: partNames(entry.path).length };
    group.files.push(entry);
    groups.set(stem, group);
  }
  for (const { files } of groups.values()) files.sort((one, other) => (one.path < other.path ? -1 : 1));
  return [...groups.values()];
}

/**
 * A path with which statistics are told from models that were quantised with their help: those have the quantisation in their names.
 *
 * @param {string} path
 */
const withoutQuant = (path) => (quantOf(path) === undefined ? path : path.replaceAll(/imatrix/gi, ""));

/**
 * The quantisation in the name of a file or of its folder, in capitals.
 *
 * @param {string} path
 * @returns {string | undefined}
 */
export function quantOf(path) {
  const stem = path.replace(MODEL_FILE, "").replace(PART, "");
  const [file, ...folders] = stem.split("/").reverse();
  for (const part of [file, ...folders]) {
    const last = [...part.matchAll(QUANT)].at(-1)?.[1];
    if (last) return last.toUpperCase().replace(/^FP/, "F");
  }
  return undefined;
}

/** @param {string[]} texts */
const shown = (texts) => (texts.length > MOST_SHOWN ? `${texts.slice(0, MOST_SHOWN).join(", ")} and ${texts.length - MOST_SHOWN} others` : texts.join(", "));
