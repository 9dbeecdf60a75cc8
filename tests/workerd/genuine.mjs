// Starts workerd with the genuine binding (`cloudflare-internal:ai-api`, a part of workerd) connected to the local Worker: the capnp
// configuration, and the functions that tests call.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { inProject } from "../../scripts/lib/project.mjs";
import { Thrown } from "./worker.mjs";
import { startWorkerd } from "./workerd.mjs";

const FIXTURES = inProject("tests", "workerd", "fixtures");
const PACKAGE = inProject("pkg");
/** Time limit for a request. No test needs this long; it turns a hang into a failure. */
const PATIENCE_MS = 30_000;

/** File extension → kind of workerd module. Other files of the package are not modules. */
const MODULE_KINDS = { ".js": "esModule", ".wasm": "wasm" };

/**
 * Starts the user's Worker of `fixtures/genuine/` and the local Worker, whose variables are `vars`.
 *
 * The parameter `how` of a method: `own` uses the `Ai` that the user's Worker created instead of its binding; `upload` adds a stream to
 * the input; all other fields are options of the `fetch` from the test to the user's Worker.
 */
export async function startGenuine(vars) {
  const worker = await startWorkerd((embed) => configuration(embed, vars));
  const post = async (place, body, { own = false, upload = false, ...init } = {}) => {
    const query = [own && "own", upload && "upload"].filter(Boolean).join("&");
    const request = { method: "POST", body: JSON.stringify(body), signal: AbortSignal.timeout(PATIENCE_MS), ...init };
    const response = await fetch(`${worker.url}${place}?${query}`, request);
    const fields = JSON.parse(response.headers.get("ai-fields"));
    if (response.status === 599) throw Object.assign(new Thrown(await response.json()), { fields });
    return Object.assign(response, { fields });
  };
  const json = async (...request) => (await post(...request)).json();
  return {
    ...worker,
    /** The Response to `run`; its `fields` contains the fields of the `Ai` after the call. */
    respond: (model, input, options, how) => post("/run", { model, input, options }, how),
    /** The answer of `run` as an object. */
    async run(model, input, options, how) {
      const response = await post("/run", { model, input, options }, how);
      assert.equal(response.headers.get("content-type"), "application/json", "an object, not a stream");
      return response.json();
    },
    /** The first chunks of a stream; the Worker then cancels it. */
    cancelled: (model, input, chunks, how) => json("/cancel", { model, input, chunks }, how),
    /** The outcome of a run that is aborted "before", "in flight", "mid-stream" or "never". */
    aborted: (model, input, when, how) => json("/abort", { model, input, when }, how),
    /** The result of another member. */
    call: (member, ...args) => json("/call", { member, args }),
    /** The Response of the binding's `fetch`. */
    fetch: (url, init) => post("/call", { member: "fetch", args: [url, init] }),
    /** The numbers of requests in progress and of tokens computed so far. */
    async activity() {
      const { models } = await json("/local", { member: "stats" });
      return { active: models[0]?.active ?? 0, tokens: models[0]?.tokens ?? 0 };
    },
  };
}

/** The workerd configuration. The compatibility date and flags are those of the local Worker's wrangler.toml. */
function configuration(embed, vars) {
  const setting = (name) => new RegExp(`^${name} = (.+)$`, "m").exec(readFileSync(inProject("wrangler.toml"), "utf8"))?.[1];
  const compatibility = `
    compatibilityDate = ${setting("compatibility_date")},
    compatibilityFlags = ${setting("compatibility_flags") ?? "[]"},`;
  const modules = (files) => files.map(([name, file]) => `(name = "${name}", ${MODULE_KINDS[path.extname(file)]} = ${embed(file)})`).join(",\n      ");
  const variables = Object.entries(vars).map(([name, value]) => `(name = "${name}", text = ${JSON.stringify(value)})`);
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "user", worker = .user),
    (name = "local-ai", worker = .localAi),
    (name = "models", network = (allow = ["private"])),
  ],
  sockets = [(name = "http", service = "user", http = ())],
);

const user :Workerd.Worker = (
    modules = [
      ${modules(["genuine/user.js", "probe.js"].map((name) => [name, path.join(FIXTURES, name)]))}
    ],${compatibility}
    bindings = [
      (name = "AI", wrapped = (moduleName = "cloudflare-internal:ai-api", innerBindings = [(name = "fetcher", service = "local-ai")])),
      (name = "SERVICE", service = "local-ai"),
      (name = "LOCAL", service = (name = "local-ai", entrypoint = "Ai")),
    ],
);

const localAi :Workerd.Worker = (
    modules = [
      ${modules(packageModules())}
    ],${compatibility}
    bindings = [${variables.join(", ")}],
    globalOutbound = "models",
);
`;
}

/** All modules of the package except the builds with threads. The first one is the Worker's entry, as workerd requires. */
function packageModules() {
  const files = readdirSync(PACKAGE, { recursive: true }).filter((name) => path.extname(name) in MODULE_KINDS);
  const own = files.map((name) => name.split(path.sep).join("/")).filter((name) => !/^wasm\/(.*threads\/|builds\.js)/.test(name));
  const names = own.sort((a, b) => (b === "worker.js") - (a === "worker.js"));
  return names.map((name) => [name, path.join(PACKAGE, name)]);
}
