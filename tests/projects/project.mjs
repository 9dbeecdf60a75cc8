// Projects as users have them: a temporary folder with the packed package and published ones in it, and the programs that run there.

import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { freePort } from "../../scripts/lib/ports.mjs";
import { eachLine } from "../../scripts/lib/process.mjs";
import { root, withNode22 } from "../../scripts/lib/project.mjs";
import { pack } from "../package/pack.mjs";
import { scriptedModel } from "../scripted-model.mjs";

/** The answer of the model, whatever is asked. */
export const SAYS = "Hello there!";
export const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const START_LIMIT_MS = 60_000;

const execute = promisify(execFile);

/**
 * A Worker whose paths call `env.AI` in every way.
 *
 * @param {string} [binding] its name
 */
export const worker = (binding = "AI") => `import { DurableObject } from "cloudflare:workers";

const MODEL = "${MODEL}";

export class Room extends DurableObject {
  async ask() {
    return (await this.env.${binding}.run(MODEL, { prompt: "Hi" })).response;
  }
}

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    const ai = env.${binding};
    if (pathname === "/stream") return new Response(await ai.run(MODEL, { prompt: "Hi", stream: true }), { headers: { "content-type": "text/event-stream" } });
    if (pathname === "/room") return new Response(await env.ROOM.getByName("room").ask());
    if (pathname === "/models") return Response.json((await ai.models({ search: "llama" })).map(({ name }) => name));
    if (pathname === "/fetch") return ai.fetch("https://workers-binding.ai/v1/models");
    if (pathname === "/variables") return Response.json({ ...env, ROOM: undefined, ${binding}: undefined });
    if (pathname === "/raw") {
      const response = await ai.run(MODEL, { prompt: "Hi" }, { returnRawResponse: true });
      return Response.json({ status: response.status, id: response.headers.get("cf-ai-req-id"), last: ai.lastRequestId, ...(await response.json()) });
    }
    if (pathname === "/error") {
      try {
        await ai.run("@cf/no/such", { prompt: "Hi" });
      } catch (error) {
        return Response.json({ name: error.name, message: error.message, isError: error instanceof Error });
      }
    }
    return Response.json({ ...(await ai.run(MODEL, { prompt: "Hi" })), class: ai.constructor.name });
  },
};
`;

/** The configuration of that Worker. */
export const config = (more = {}) => ({
  name: "project",
  main: "src/index.js",
  compatibility_date: "2026-04-21",
  durable_objects: { bindings: [{ name: "ROOM", class_name: "Room" }] },
  migrations: [{ tag: "v1", new_sqlite_classes: ["Room"] }],
  ai: { binding: "AI" },
  ...more,
});

/** The environment of every program: our model and a cache of its own, no network, no questions. */
export async function environment(folder) {
  await writeFile(path.join(folder, "model.gguf"), scriptedModel().bytes);
  return withNode22({
    CI: "true",
    NO_COLOR: "1",
    FORCE_COLOR: "0",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_LOG_PATH: path.join(folder, "logs"),
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    CLOUDFLARE_API_TOKEN: "",
    CLOUDFLARE_ACCOUNT_ID: "",
    WORKERS_AI_LOCAL_MODEL: path.join(folder, "model.gguf"),
    WORKERS_AI_LOCAL_CACHE: path.join(folder, "cache"),
    HF_ENDPOINT: "",
    HF_TOKEN: "",
    npm_config_loglevel: "error",
  });
}

/**
 * A folder for projects. Packages that are installed in it are seen by all of them.
 *
 * @param {object} [options]
 * @param {string[]} [options.install] packages of the registry, with exact versions
 * @param {string[]} [options.link] packages of this project's own node_modules
 */
export async function workspace({ install = [], link = [] } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-projects-"));
  const env = await environment(folder);
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ name: "workspace", private: true, type: "module" }));
  const tarball = await pack(folder);
  await execute("npm", ["install", "--no-audit", "--no-fund", ...(install.length > 0 ? install : ["--offline"]), tarball], {
    cwd: folder,
    env: { ...process.env, ...env },
    maxBuffer: 16 << 20,
  });
  for (const name of link) await symlink(path.join(root, "node_modules", name), path.join(folder, "node_modules", name));
  return {
    folder,
    env,
    command: path.join(folder, "node_modules", "workers-ai-local", "pkg", "cli.js"),
    /** Creates a project from the texts of its files. */
    async project(name, files) {
      const place = path.join(folder, name);
      for (const [file, content] of Object.entries({ "package.json": '{"private": true, "type": "module"}\n', ...files })) {
        await mkdir(path.dirname(path.join(place, file)), { recursive: true });
        await writeFile(path.join(place, file), typeof content === "string" ? content : `${JSON.stringify(content, null, 2)}\n`);
      }
      return place;
    },
    remove: () => rm(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}

/** Runs a program of a project to its end. */
export async function run({ env }, place, command, ...args) {
  const options = { cwd: place, env: { ...process.env, ...env }, maxBuffer: 16 << 20 };
  const [program, all] = command.endsWith("js") ? [process.execPath, [command, ...args]] : [command, args];
  const { code = 0, stdout, stderr } = await execute(program, all, options).catch((error) => error);
  return { code, out: stdout, said: stderr };
}

/** The path of a command that a package installs, as a program for Node. */
export async function bin({ folder }, name, command = name) {
  const manifest = JSON.parse(await readFile(path.join(folder, "node_modules", name, "package.json"), "utf8"));
  return path.join(folder, "node_modules", name, typeof manifest.bin === "string" ? manifest.bin : manifest.bin[command]);
}

/**
 * Starts a server of a project, and resolves when `ready` matches a line that it prints.
 *
 * @param {{env: object}} workspace
 * @param {string} place the project's folder
 * @param {string[]} command a program for Node, and its arguments
 * @param {{ready?: RegExp}} [options] its first group is the URL
 */
export async function start({ env }, place, command, { ready = /Ready on (http:\S+)/ } = {}) {
  // A group of its own, which shows whether a process was left behind.
  const child = spawn(process.execPath, command, { cwd: place, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const lines = [];
  // A failed test leaves nothing running.
  const kill = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // Already gone.
    }
  };
  process.once("exit", kill);
  const ended = new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal)));
  const server = {
    lines,
    child,
    ended,
    /** Ends it, as a terminal that is closed does; resolves to its exit code. */
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      const overdue = setTimeout(kill, 15_000);
      const code = await ended;
      clearTimeout(overdue);
      return code;
    },
    get: (pathname) => fetch(`${server.url}${pathname}`, { signal: AbortSignal.timeout(30_000) }),
    json: async (pathname) => (await server.get(pathname)).json(),
    text: async (pathname) => (await server.get(pathname)).text(),
    /** Resolves when a line matches that was printed after the call. */
    async says(pattern) {
      const from = lines.length;
      for (const end = Date.now() + START_LIMIT_MS; !lines.slice(from).some((line) => pattern.test(line)); await new Promise((resolve) => setTimeout(resolve, 50))) {
        if (Date.now() > end) throw new Error(`never said ${pattern}:\n${lines.join("\n")}`);
      }
    },
    /** The processes of its group that still run. */
    async left() {
      const { stdout } = await execute("ps", ["-eo", "pgid=,stat=,args="]);
      return stdout.split("\n").filter((line) => line.trim().startsWith(`${child.pid} `) && !/^\s*\d+\s+Z/.test(line));
    },
  };
  await new Promise((resolve, reject) => {
    const failed = (reason) => reject(new Error(`${command.join(" ")} ${reason}:\n${lines.join("\n")}`));
    const overdue = setTimeout(() => {
      kill();
      failed("is not ready");
    }, START_LIMIT_MS);
    const take = (line) => {
      lines.push(line);
      server.url ??= ready.exec(line.replace(/\x1b\[[0-9;]*m/g, ""))?.[1]?.replace(/\/$/, "");
      if (!server.url) return;
      clearTimeout(overdue);
      resolve();
    };
    eachLine(child.stdout, take);
    eachLine(child.stderr, take);
    ended.then((code) => failed(`ended with ${code}`));
    ended.finally(() => clearTimeout(overdue));
  });
  return server;
}

/** Starts `workers-ai-local dev`. */
export async function startDev(workspace, place, ...args) {
  const ports = ["--port", String(await freePort()), "--inspector-port", String(await freePort())];
  return start(workspace, place, [workspace.command, "dev", ...args, ...ports]);
}

/** The content of all files of a project, except what wrangler keeps and what is installed. */
export async function contents(place) {
  const names = (await readdir(place, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ parentPath, name }) => path.join(parentPath, name));
  const own = names.filter((name) => !/[\\/](\.wrangler|node_modules)[\\/]/.test(name)).sort();
  return Object.fromEntries(await Promise.all(own.map(async (name) => [path.relative(place, name), await readFile(name, "utf8")])));
}
