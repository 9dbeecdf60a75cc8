// The genuine binding, `cloudflare-internal:ai-api` of workerd itself, in front of the local Worker: the capnp configuration, and
// what a test asks of it.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { inProject } from "../../scripts/lib/project.mjs";
import { Thrown } from "./worker.mjs";
import { startWorkerd } from "./workerd.mjs";

const FIXTURES = inProject("tests", "workerd", "fixtures");
const PACKAGE = inProject("pkg");
/** No answer of a test takes so long: a failure, not a hang. */
const PATIENCE_MS = 30_000;

/** What workerd makes of a file in the package; others are none of its modules. */
const MODULE_KINDS = { ".js": "esModule", ".wasm": "wasm" };

/**
 * Starts the user's Worker of `fixtures/genuine/` and the local Worker, whose variables are `vars`.
 * `how` of a method: `own` asks the `Ai` that the user's Worker made, instead of its binding; `upload` sends a stream along; the
 * rest is for the request that the test itself makes.
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
    /** The Response to `run`, with the fields of the `Ai` afterwards in `fields`. */
    respond: (model, input, options, how) => post("/run", { model, input, options }, how),
    /** The object answer of `run`. */
    async run(model, input, options, how) {
      const response = await post("/run", { model, input, options }, how);
      assert.equal(response.headers.get("content-type"), "application/json", "an object, not a stream");
      return response.json();
    },
    /** The first chunks of a stream, which the Worker then cancels. */
    cancelled: (model, input, chunks, how) => json("/cancel", { model, input, chunks }, how),
    /** What came of a run that was aborted "before", "in flight", "mid-stream" or "never". */
    aborted: (model, input, when, how) => json("/abort", { model, input, when }, how),
    /** What another member gives. */
    call: (member, ...args) => json("/call", { member, args }),
    /** The Response that `fetch` gives. */
    fetch: (url, init) => post("/call", { member: "fetch", args: [url, init] }),
    /** Requests in progress, and tokens computed so far. */
    async activity() {
      const { models } = await json("/local", { member: "stats" });
      return { active: models[0]?.active ?? 0, tokens: models[0]?.tokens ?? 0 };
    },
  };
}

/** The local Worker runs as its wrangler.toml says. */
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

/** Every module of the package but the builds for several threads; the first one is the Worker itself. */
function packageModules() {
  const files = readdirSync(PACKAGE, { recursive: true }).filter((name) => path.extname(name) in MODULE_KINDS);
  const own = files.map((name) => name.split(path.sep).join("/")).filter((name) => !/^wasm\/(.*threads\/|builds\.js)/.test(name));
  const names = own.sort((a, b) => (b === "worker.js") - (a === "worker.js"));
  return names.map((name) => [name, path.join(PACKAGE, name)]);
}
