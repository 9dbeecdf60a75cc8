// A running `wrangler dev` with a probe in it, for the tests in workerd.

import assert from "node:assert/strict";
import { startDevWorker } from "../../scripts/dev-worker.mjs";

/** An error that the Worker caught, as it saw it. */
export class Thrown extends Error {
  constructor({ name, message, isError }) {
    super(message);
    this.name = name;
    this.isError = isError;
  }
}

/** Starts a fixture of `fixtures/`, and the Workers that `configs` names. */
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
    /** The Response to `run`. `init`: for the request that the test itself makes. */
    respond: (model, input, options, init) => post("/run", { model, input, options }, init),
    /** The object answer of `run`. */
    async run(model, input, options) {
      const response = await post("/run", { model, input, options });
      assert.equal(response.status, 200, await response.clone().text());
      return response.json();
    },
    /** The first chunks of a stream, which the Worker then cancels. */
    cancelled: async (model, input, chunks) => (await post("/cancel", { model, input, chunks })).json(),
    /** What another member gives. */
    async call(member, ...args) {
      return (await post("/call", { member, args })).json();
    },
  };
}

/** Requests in progress, and tokens computed so far. */
export async function activity(worker) {
  const { models } = await worker.call("stats");
  return { active: models[0].active, tokens: models[0].tokens };
}

/** Waits until `check` resolves to something true; not so long that collected garbage would do. */
export async function eventually(what, check, patience = 3_000) {
  for (const end = Date.now() + patience; Date.now() < end; ) {
    if (await check()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`not within ${patience / 1000} s: ${what}`);
}
