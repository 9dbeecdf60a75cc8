// Names of models: `hf:owner/repo:Q4_K_M`, the address of a file, the short name of a curated model → what they stand for.

import { CURATED_MODELS } from "./curated-models.js";
import { AiInternalError } from "./errors.js";

/**
 * @import { CuratedModel } from "./curated-models.js"
 *
 * @typedef {object} HubName a file, or the files of one quantisation, in a repository of the hub
 * @property {"hub"} kind
 * @property {string} name as it is written: `hf:owner/repo@revision:QUANT` or `hf:owner/repo@revision/path/file.gguf`
 * @property {string} owner
 * @property {string} repo
 * @property {string} revision a branch, a tag or a commit
 * @property {string} [quant] a quantisation, for instance `Q4_K_M`; in any case of its letters
 * @property {string} [file] the path of a file in the repository
 *
 * @typedef {{kind: "curated", name: string, model: CuratedModel, hub: HubName}} CuratedName
 * @typedef {{kind: "url", name: string, url: string}} UrlName
 */

const PREFIX = "hf:";
const MAIN = "main";
/** The parts of a name behind `hf:`. A revision has no slash and no colon: they are written as %2F and %3A. */
const HUB_NAME = /^([\w.-]+)\/([\w.-]+)(?:@([^\s/:@]+))?(?::([\w.-]+)|\/([^\s].*))?$/;
/** The pages of a repository and of its files on the hub's own site, as they are copied from a browser. */
const HUB_PAGE = /^https:\/\/(?:huggingface\.co|hf\.co)\/([\w.-]+)\/([\w.-]+)(?:\/(tree|blob)\/([^/?#]+)(?:\/([^?#]+))?)?\/?(?:[?#].*)?$/;
/** First segments of paths that are no owners. */
const NO_OWNERS = new Set(["api", "datasets", "spaces", "docs", "collections", "papers", "models", "settings", "join", "blog"]);

export const HOW_TO_NAME = "Write hf:owner/repo, hf:owner/repo:Q4_K_M or hf:owner/repo/file.gguf, with @revision behind the repository if it is not main";

/**
 * What a name of a model stands for; `undefined` if the text is none of these names, which in Node makes it a path.
 *
 * @param {string} text
 * @returns {HubName | CuratedName | UrlName | undefined}
 * @throws {AiInternalError} if it begins as a name of the hub and is none
 */
export function parseName(text) {
  if (text.toLowerCase().startsWith(PREFIX)) return hubName(text);
  const model = CURATED_MODELS.find(({ name }) => name === text.toLowerCase());
  if (model) return { kind: "curated", name: model.name, model, hub: hubName(model.source) };
  if (!/^https?:\/\//i.test(text)) return undefined;
  return fromPage(text) ?? { kind: "url", name: text, url: text };
}

/**
 * The part of a name that the hub answers for; `undefined` for addresses and paths.
 *
 * @param {ReturnType<typeof parseName>} name
 */
export const hubOf = (name) => (name?.kind === "hub" ? name : name?.kind === "curated" ? name.hub : undefined);

/**
 * @param {string} text
 * @returns {HubName}
 */
function hubName(text) {
  const [, owner, repo, revision = MAIN, quant, file] = HUB_NAME.exec(text.slice(PREFIX.length)) ?? [];
  const wrong = !owner || [owner, repo, ...(file ?? "x").split("/")].some((segment) => segment === "" || segment === "." || segment === "..");
  if (wrong) throw new AiInternalError(`"${text}" is not the name of a model. ${HOW_TO_NAME}.`);
  return named({ owner, repo, revision: decoded(revision), ...(quant && { quant }), ...(file && { file }) });
}

/**
 * The name of what a page of the hub's site shows.
 *
 * @param {string} address
 */
function fromPage(address) {
  const [, owner, repo, view, revision = MAIN, path] = HUB_PAGE.exec(address) ?? [];
  if (!owner || NO_OWNERS.has(owner) || (view === "tree" && path !== undefined) || (view === "blob" && path === undefined)) return undefined;
  return named({ owner, repo, revision: decoded(revision), ...(path && { file: decoded(path) }) });
}

/**
 * @param {Omit<HubName, "kind" | "name">} parts
 * @returns {HubName}
 */
function named(parts) {
  const { owner, repo, revision, quant, file } = parts;
  const at = revision === MAIN ? "" : `@${encodeURIComponent(revision)}`;
  return { kind: "hub", name: `${PREFIX}${owner}/${repo}${at}${quant ? `:${quant}` : ""}${file ? `/${file}` : ""}`, ...parts };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
