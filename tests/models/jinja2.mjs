// What Jinja2 makes of the templates, in a file of the folder `answers`: so the comparison needs no Python. `npm run oracle` writes it.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { brotliCompressSync, brotliDecompressSync, constants } from "node:zlib";
import { CONSTRUCTS, VARIABLES } from "./constructs.mjs";
import { PROBE_CONTEXTS, contextsOf, traitsOf } from "./contexts.mjs";
import { CONVERSATIONS } from "./conversations.mjs";
import { TEMPLATES } from "./templates.mjs";

/**
 * @typedef {object} Rendered
 * @property {string} [text]
 * @property {string} [error] why there is none
 * @property {boolean} [raised] whether the template says so itself
 *
 * @typedef {object} Answers
 * @property {string} inputs their hash
 * @property {Record<string, string>} sources of the templates that no package has
 * @property {Record<string, Rendered[]>} conversations by template
 * @property {Record<string, Rendered>} constructs
 */

/** When the templates are rendered, in seconds: a Thursday. */
export const NOW = Date.UTC(2024, 1, 29, 9, 5, 7) / 1000;

/** What the templates of `CONSTRUCTS` are rendered with, as the binding's input. */
export const CONSTRUCT_INPUT = { messages: [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }], chat_template_kwargs: VARIABLES };

export const templateOfConstruct = (lines) => `${lines.join("\n")}\n.`;

/** A hash of everything that the answers depend on. */
export function hashOfInputs(sources) {
  const tokens = Object.values(TEMPLATES).map(({ bos, eos }) => [bos, eos]);
  return createHash("sha256").update(JSON.stringify([NOW, sources, tokens, CONVERSATIONS, CONSTRUCTS, CONSTRUCT_INPUT])).digest("hex").slice(0, 16);
}

/** Asks Jinja2. @returns {Promise<Answers>} */
export async function askJinja2(sources) {
  const names = Object.keys(TEMPLATES);
  const specialOf = ({ bos, eos }) => ({ ...(bos !== null && { bos_token: bos }), eos_token: eos });
  const asked = (conversationsOf) => names.map((name) => ({ source: sources[name], special: specialOf(TEMPLATES[name]), conversations: conversationsOf(name) }));
  const probes = await rendered(asked(() => PROBE_CONTEXTS));
  const traits = Object.fromEntries(names.map((name, index) => [name, traitsOf(sources[name], probes[index])]));
  const conversations = await rendered(asked((name) => Object.values(CONVERSATIONS).map((input) => contextsOf(input, traits[name]))));
  const variables = { ...VARIABLES, messages: CONSTRUCT_INPUT.messages, add_generation_prompt: true };
  const constructs = await rendered(Object.values(CONSTRUCTS).map((lines) => ({ source: templateOfConstruct(lines), special: {}, conversations: [[variables]] })));
  const published = Object.entries(sources).filter(([name]) => TEMPLATES[name].llamaCpp || TEMPLATES[name].tested);
  return {
    inputs: hashOfInputs(sources),
    sources: Object.fromEntries(published),
    conversations: Object.fromEntries(names.map((name, index) => [name, conversations[index]])),
    constructs: Object.fromEntries(Object.keys(CONSTRUCTS).map((name, index) => [name, constructs[index][0]])),
  };
}

/** What Python says to templates and their variables. */
async function rendered(templates) {
  const python = spawn("python3", [new URL("render.py", import.meta.url).pathname], { stdio: ["pipe", "pipe", "inherit"] });
  python.stdin.end(JSON.stringify({ now: NOW, templates }));
  const code = new Promise((resolve, reject) => python.on("error", reject).on("close", resolve));
  const answer = await text(python.stdout);
  if ((await code) !== 0) throw new Error("Python failed; it needs the package jinja2");
  return JSON.parse(answer);
}

const FILE = new URL("answers/templates.json.br", import.meta.url);

export async function writeTemplates(answers) {
  const json = Buffer.from(JSON.stringify(answers));
  await writeFile(FILE, brotliCompressSync(json, { params: { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: json.length } }));
}

/** @returns {Promise<Answers>} */
export const readTemplates = async () => JSON.parse(brotliDecompressSync(await readFile(FILE)));
