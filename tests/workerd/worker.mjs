// Starts `wrangler dev` with a Worker that tests can call through the paths of probe.js.

import assert from "node:assert/strict";
import { Ai } from "workers-ai-local";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { parityTexts } from "../parity-inputs.mjs";

/** An error that the Worker caught, with the fields that it saw. */
export class Thrown extends Error {
  constructor({ name, message, isError }) {
    super(message);
    this.name = name;
    this.isError = isError;
  }
}

/** Starts a Worker of `fixtures/`, and those of the wrangler.toml files in `configs`. */
export async function startProbe({ fixture, configs = [], ...options }) {
  const own = `tests/workerd/fixtures/${fixture}/wrangler.toml`;
  const worker = await startDevWorker({ quiet: true, ...options, configs: [own, ...configs] });
  const post = async (path, body, init) => {
    const response = await fetch(`${worker.url}${path}`, { method: "POST", body: JSON.stringify(body), ...init });
    if (response.status === 599) throw new Thrown(await response.json());
    return response;
  };
  return {
    ...worker,
    /** The Response to `run`. `init`: options of the `fetch` from the test to the Worker. */
    respond: (model, input, options, init) => post("/run", { model, input, options }, init),
    /** The answer of `run` as an object. */
    async run(model, input, options) {
      const response = await post("/run", { model, input, options });
      assert.equal(response.status, 200, await response.clone().text());
      return response.json();
    },
    /** The first chunks of a stream; the Worker then cancels it. */
    cancelled: async (model, input, chunks) => (await post("/cancel", { model, input, chunks })).json(),
    /** The result of another member. */
    async call(member, ...args) {
      return (await post("/call", { member, args })).json();
    },
  };
}

/** The numbers of requests in progress and of tokens computed so far. */
export async function activity(worker) {
  const { models } = await worker.call("stats");
  return { active: models[0].active, tokens: models[0].tokens };
}

/**
 * Waits until `check` resolves to a truthy value; fails after `patience` milliseconds. The default is short enough that garbage
 * collection cannot be the cause of a success.
 */
export async function eventually(what, check, patience = 3_000) {
  for (const end = Date.now() + patience; Date.now() < end; ) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not within ${patience / 1000} s: ${what}`);
}

/** The local AI Worker with its variable BUILD; `ask` sends a request to its REST surface. */
export async function startWithBuild(build) {
  const worker = await startDevWorker({ configs: ["wrangler.toml"], vars: { BUILD: build }, quiet: true });
  const ask = (model, input) => fetch(`${worker.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body: JSON.stringify(input) });
  return { ...worker, ask };
}

/** Checks that the local AI Worker with this build returns the texts of Node. */
export async function checkParity(t, build) {
  const worker = await startWithBuild(build);
  t.after(() => worker.stop());
  const node = new Ai({ onWarning() {} });
  const inNode = await parityTexts((model, input) => node.run(model, input));
  assert.deepEqual(await parityTexts(async (model, input) => (await (await worker.ask(model, input)).json()).result), inNode);
}
