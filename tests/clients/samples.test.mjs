// The documentation's samples, from the former "Text Generation" page and from the pages of models. They run verbatim except for the
// host. They sample without a seed, so their answers differ between runs.

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { answerIn, eventsIn } from "../sse.mjs";
import { eventually } from "./checks.mjs";
import objectWorker from "./samples/object.ts";
import streamingWorker from "./samples/streaming.ts";
import { startServer } from "./server.mjs";

const HOST = "https://api.cloudflare.com";

const LEGACY_JAVASCRIPT = `
async function run(model, prompt) {
  const messages = [
    { role: 'system', content: 'You are a friendly assistant' },
    { role: 'user', content: prompt }
  ];

  const response = await fetch(
    \`https://api.cloudflare.com/client/v4/accounts/{ACCOUNT_ID}/ai/run/\${model}\`,
    {
      headers: { Authorization: "Bearer {API_TOKEN}" },
      method: "POST",
      body: JSON.stringify({ messages }),
    }
  );
  const result = await response.json();
  return result;
}

run('@cf/meta/llama-2-7b-chat-int8', 'Tell me a story').then((response) => {
  console.log(JSON.stringify(response));
});
`;

const LEGACY_PYTHON = `
import requests

API_BASE_URL = "https://api.cloudflare.com/client/v4/accounts/{account_id}/ai/run/"
headers = {"Authorization": "Bearer {API_TOKEN}"}

def run(model, prompt):
  input = {
    "messages": [
      { "role": "system", "content": "You are a friendly assistant" },
      { "role": "user", "content": prompt }
    ]
  }
  response = requests.post(f"{API_BASE_URL}{model}", headers=headers, json=input)
  return response.json()

output = run("@cf/meta/llama-2-7b-chat-int8", "Tell me a story")
print(output)
`;

const LEGACY_CURL = `
curl https://api.cloudflare.com/client/v4/accounts/{ACCOUNT_ID}/ai/run/@cf/meta/llama-2-7b-chat-int8 \\
  -X POST \\
  -H "Authorization: Bearer {API_TOKEN}" \\
  -d '{ "messages": [{ "role": "system", "content": "You are a friendly assistant" }, { "role": "user", "content": "Why is pizza so good" }]}'
`;

/** Models whose pages have the same samples, each with its own id. */
const PAGES = ["@cf/meta/llama-2-7b-chat-int8", "@cf/meta/llama-3-8b-instruct", "@cf/meta/llama-3.1-70b-instruct"];

const pythonOf = (model) => `
import os
import requests

ACCOUNT_ID = "your-account-id"
AUTH_TOKEN = os.environ.get("CLOUDFLARE_AUTH_TOKEN")

prompt = "Tell me all about PEP-8"
response = requests.post(
  f"https://api.cloudflare.com/client/v4/accounts/{ACCOUNT_ID}/ai/run/${model}",
    headers={"Authorization": f"Bearer {AUTH_TOKEN}"},
    json={
      "messages": [
        {"role": "system", "content": "You are a friendly assistant"},
        {"role": "user", "content": prompt}
      ]
    }
)
result = response.json()
print(result)
`;

const curlOf = (model) => `
curl https://api.cloudflare.com/client/v4/accounts/$CLOUDFLARE_ACCOUNT_ID/ai/run/${model} \\
  -X POST \\
  -H "Authorization: Bearer $CLOUDFLARE_AUTH_TOKEN" \\
  -d '{ "messages": [{ "role": "system", "content": "You are a friendly assistant" }, { "role": "user", "content": "Why is pizza so good" }]}'
`;

/** The part of Python's `requests` that the samples use, for machines without that package. */
const REQUESTS = `
import json as _json
import urllib.error
import urllib.parse
import urllib.request

class Response:
    def __init__(self, body):
        self.body = body
    def json(self):
        return _json.loads(self.body)

def post(url, headers, json):
    url = urllib.parse.quote(url, safe="!#$%&'()*+,/:;=?@[]~")
    headers = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(url, _json.dumps(json).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return Response(answer.read())
    except urllib.error.HTTPError as error:
        return Response(error.read())
`;

/** A Python program that converts a printed dictionary to JSON. */
const LITERAL_TO_JSON = "import ast, json, sys; print(json.dumps(ast.literal_eval(sys.argv[1])))";

let server;
before(async () => {
  server = await startServer();
});
after(() => server?.stop());

const env = {
  ...process.env,
  CLOUDFLARE_ACCOUNT_ID: "account",
  CLOUDFLARE_AUTH_TOKEN: "token",
  // The server runs on this machine: use no proxy.
  no_proxy: "127.0.0.1",
  NO_PROXY: "127.0.0.1",
};

/** Runs a program on a sample whose host is replaced by our server. Resolves to its stdout. */
function outputOf(program, args, sample, more = {}) {
  assert.equal(sample.split(HOST).length, 2, "the sample contains the host exactly once");
  return new Promise((resolve, reject) => {
    execFile(program, [...args, sample.replace(HOST, server.url)], { env: { ...env, ...more } }, (error, out, says) =>
      error ? reject(new Error(`${program}: ${error.message}\n${says}`)) : resolve(out),
    );
  });
}

const works = (program, ...args) => spawnSync(program, args, { env }).status === 0;

/** Checks an answer of Cloudflare's API with the default `max_tokens`, 256. */
function assertAnswer({ result, success, errors, messages, ...others }) {
  assert.deepEqual([success, errors, messages, others], [true, [], [], {}]);
  const { response, usage, finish_reason } = result;
  assert.ok(typeof response === "string" && response.length > 0);
  assert.ok(["stop", "length"].includes(finish_reason));
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.ok(usage.completion_tokens > 0 && usage.completion_tokens <= 256);
}

describe("curl", { skip: works("curl", "--version") ? false : "no curl on this machine" }, () => {
  const curl = (sample) => outputOf("sh", ["-c"], sample);

  test("the sample of the former Text Generation page", async () => {
    assertAnswer(JSON.parse(await curl(LEGACY_CURL)));
  });

  for (const model of PAGES) {
    test(`the sample of ${model}`, async () => {
      assertAnswer(JSON.parse(await curl(curlOf(model))));
    });
  }
});

const requests = works("python3", "-c", "import requests") ? "" : " (with urllib in place of requests, which is not installed)";
describe(`Python${requests}`, { skip: works("python3", "--version") ? false : "no python3 on this machine" }, () => {
  let folder;
  before(async () => {
    if (!requests) return;
    folder = await mkdtemp(path.join(tmpdir(), "requests-"));
    await writeFile(path.join(folder, "requests.py"), REQUESTS);
  });
  after(() => folder && rm(folder, { recursive: true }));

  async function python(sample) {
    const printed = await outputOf("python3", ["-c"], sample, folder ? { PYTHONPATH: folder } : {});
    const { status, stdout, stderr } = spawnSync("python3", ["-c", LITERAL_TO_JSON, printed], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout);
  }

  test("the sample of the former Text Generation page", async () => {
    assertAnswer(await python(LEGACY_PYTHON));
  });

  for (const model of PAGES) {
    test(`the sample of ${model}`, async () => {
      assertAnswer(await python(pythonOf(model)));
    });
  }
});

describe("JavaScript", () => {
  test("the REST sample of the former Text Generation page", async () => {
    assertAnswer(JSON.parse(await outputOf(process.execPath, ["-e"], LEGACY_JAVASCRIPT)));
  });

  // The Workers on that former page use the package @cloudflare/ai, which was required at that time.
  const ai = new Ai({ onWarning() {} });
  const request = new Request("http://localhost/");

  test("the Worker of the former Text Generation page that returns one object", async () => {
    const response = await objectWorker.fetch(request, { AI: ai });
    assertAnswer({ result: await response.json(), success: true, errors: [], messages: [] });
    assert.ok(ai.lastRequestId);
  });

  test("the Worker of the former Text Generation page that streams, read like the documentation's browser snippet", async () => {
    const response = await streamingWorker.fetch(request, { AI: ai });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const chunks = [];
    let text = "";
    for await (const chunk of response.body) {
      chunks.push(chunk);
      const events = eventsIn(...chunks);
      // `el.innerHTML += data.response`
      text = events.filter((data) => data !== "[DONE]").map((data) => JSON.parse(data).response).join("");
      // The answer may have up to 1,800 tokens.
      if (events.length >= 20) break;
    }
    assert.ok(text.length > 0 && !text.includes("undefined") && !text.includes("null"), text);
    if (eventsIn(...chunks).at(-1) === "[DONE]") answerIn(...chunks);
    await eventually("the computation ends when the reader stops", async () => (await ai.stats()).models[0].active === 0);
  });
});
