// Which requests `serve` answers: names, origins and a key. Over node:http, because `fetch` sets these headers itself.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, test } from "node:test";
import { text } from "node:stream/consumers";
import { Ai } from "workers-ai-local";
import { createServer } from "../../pkg/cli/serve.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const ai = new Ai({ default: scriptedModel().bytes, onWarning() {} });
const CHAT = JSON.stringify({ model: "@cf/meta/llama-3.1-8b-instruct", messages: [{ role: "user", content: "Hi" }] });

/** A server with this access; `ask` sends a chat completion, or a GET of `path`, with these headers. */
function serverWith(access) {
  const server = {};
  before(async () => Object.assign(server, await listening(createServer(ai, { access }))));
  after(() => server.close());
  const ask = async (headers, path) => {
    const { port } = new URL(server.url);
    const sent = request({ port, host: "127.0.0.1", path: path ?? "/v1/chat/completions", method: path ? "GET" : "POST", headers: { host: `127.0.0.1:${port}`, ...headers } });
    sent.end(path ? undefined : CHAT);
    const response = await new Promise((resolve, reject) => sent.once("response", resolve).once("error", reject));
    return { status: response.statusCode, body: await text(response) };
  };
  return { ask, port: () => new URL(server.url).port };
}

describe("a server on this machine only", () => {
  const { ask, port } = serverWith({});

  for (const host of ["localhost", "LOCALHOST:80", "dev.localhost", "127.0.0.1", "127.1.2.3:8788", "[::1]:8788"]) {
    test(`answers as ${host}`, async () => assert.equal((await ask({ host })).status, 200));
  }

  for (const host of ["evil.example", "evil.example:8788", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]) {
    test(`refuses to be ${JSON.stringify(host)}`, async () => {
      const { status, body } = await ask({ host });
      assert.equal(status, 403);
      assert.match(body, /--allow-host/);
      assert.equal((await ask({ host }, "/")).status, 403, "the playground too");
    });
  }

  test("answers pages of its own", async () => assert.equal((await ask({ origin: `http://127.0.0.1:${port()}` })).status, 200));

  for (const headers of [
    { origin: "https://a.example" },
    { origin: "https://a.example", "content-type": "text/plain" },
    { origin: "http://127.0.0.1:1" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" },
  ]) {
    test(`refuses pages of others: ${JSON.stringify(headers)}`, async () => assert.equal((await ask(headers)).status, 403));
  }

  test("refuses a page whose name resolves to this machine, though its origin is its own host", async () => {
    assert.equal((await ask({ host: `evil.example:${port()}`, origin: `http://evil.example:${port()}` })).status, 403);
  });

  test("shows the playground to somebody who followed a link", async () => {
    const { status } = await ask({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" }, "/");
    assert.equal(status, 200);
  });
});

describe("a server with --allow-host, --cors and --key", () => {
  const { ask } = serverWith({ hosts: ["dev.example"], origins: ["https://a.example"], key: "secret" });
  const authorization = "Bearer secret";

  test("answers these", async () => {
    assert.equal((await ask({ host: "dev.example:8788", authorization })).status, 200);
    assert.equal((await ask({ origin: "https://a.example", authorization })).status, 200);
  });

  for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: "Bearer secrets" }, { authorization: "secret" }]) {
    test(`asks for its key: ${JSON.stringify(headers)}`, async () => assert.equal((await ask(headers)).status, 401));
  }

  test("refuses others", async () => {
    assert.equal((await ask({ host: "other.example", authorization })).status, 403);
    assert.equal((await ask({ origin: "https://b.example", authorization })).status, 403);
  });
});
