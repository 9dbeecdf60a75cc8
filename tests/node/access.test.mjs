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
    return { status: response.statusCode, body: await text(response), headers: response.headers };
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

  for (const path of ["/pkg/../v1/models", "/pkg/%2e%2e/v1/models", "/vendor/..\\v1/models", "/pkg/%ff/../../v1/models"]) {
    test(`asks for its key although a path begins as the page's own: ${path}`, async () => assert.notEqual((await ask({}, path)).status, 200));
  }

  test("asks for its key where headers have another path than the page's own", async () => {
    assert.equal((await ask({ "mf-url": "http://ai/v1/models" }, "/pkg/x")).status, 401);
    assert.equal((await ask({ "mf-url": "http://ai/v1/models", authorization }, "/pkg/x")).status, 200);
  });

  test("answers the page's own paths with its files or not at all", async () => {
    assert.equal((await ask({}, "/pkg/browser.js")).status, 200);
    const { status, body } = await ask({}, "/pkg/x");
    assert.deepEqual([status, body], [404, "no such file\n"]);
  });

  test("takes no path that leads elsewhere than it says", async () => {
    for (const path of ["/client/v4/accounts/x/ai/run/../../../../../../v1/models", "/v1/%2E./v1/models", "/./v1/models"]) assert.equal((await ask({ authorization }, path)).status, 400, path);
  });

  test("lets only its own pages show the page in a frame", async () => {
    for (const [path, policy] of [["/", "frame-ancestors 'self'"], ["/index.html", "frame-ancestors 'self'"], ["/sandbox.html", "sandbox allow-scripts; frame-ancestors 'self'"]]) {
      assert.equal((await ask({}, path)).headers["content-security-policy"], policy, path);
    }
  });

  test("refuses others", async () => {
    assert.equal((await ask({ host: "other.example", authorization })).status, 403);
    assert.equal((await ask({ origin: "https://b.example", authorization })).status, 403);
  });
});
