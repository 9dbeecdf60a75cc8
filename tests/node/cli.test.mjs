// The command-line tool, each call in a separate process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../pkg/cli.js", import.meta.url));

const start = (...args) => spawn(process.execPath, [CLI, ...args], { stdio: ["pipe", "pipe", "pipe"] });

/** Runs the command until it exits. */
async function cli(args, { input = "" } = {}) {
  const child = start(...args);
  child.stdin.on("error", () => {}).end(input);
  const [out, error, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { out, error, code };
}

const GREEDY = ["--temperature", "0", "--max-tokens", "6"];

test("writes the answer to stdout, and the speed to stderr only with --stats", async () => {
  const { out, code } = await cli(["run", ...GREEDY, "What is", "2+2?"]);
  assert.equal(code, 0);
  assert.match(out, /^\S.*\n$/s);
  const stats = await cli(["run", ...GREEDY, "--stats", "What is 2+2?"]);
  assert.equal(stats.out, out, "arguments are joined into one prompt; greedy answers are deterministic");
  assert.match(stats.error, /\[6 tokens, [\d.]+ tokens\/s, first token after [\d.]+ s, cut off: see --max-tokens\]\n$/);
});

test("reads the prompt from stdin, without the final line ending", async () => {
  const { out } = await cli(["run", "--raw", ...GREEDY, "The capital of France is"]);
  assert.equal((await cli(["run", "--raw", ...GREEDY], { input: "The capital of France is\n" })).out, out);
  assert.equal((await cli(["run", "--raw", ...GREEDY, "The capital of", "-"], { input: "France is\r\n" })).out, out);
});

test("prints one object with --json", async () => {
  const { out } = await cli(["run", "--json", "--system", "Be brief.", ...GREEDY, "Hi"]);
  const { response, usage, finish_reason } = JSON.parse(out);
  assert.equal(typeof response, "string");
  assert.equal(usage.completion_tokens, 6);
  assert.equal(finish_reason, "length");
});

test("tokenize prints the prompt as the model reads it, and its tokens", async () => {
  const { out, code } = await cli(["tokenize", "--raw", "The capital of France is"]);
  assert.equal(code, 0);
  assert.equal(out, "The capital of France is\n\n5 tokens: 504 3575 282 4649 314\n");
  const { tokens, text } = JSON.parse((await cli(["tokenize", "--json", "--system", "Be brief.", "Hi"])).out);
  assert.match(text, /^<\|im_start\|>system\nBe brief\.<\|im_end\|>\n<\|im_start\|>user\nHi<\|im_end\|>\n/);
  assert.equal(tokens.filter((token) => token === 1).length, 3, "<|im_start|> is one token");
});

test("lists the catalogue", async () => {
  const { out, code } = await cli(["models"]);
  assert.equal(code, 0);
  assert.match(out, /^@cf\/meta\/llama-2-7b-chat-int8 +2048 /m);
  assert.ok(JSON.parse((await cli(["models", "--json"])).out).length > 6);
});

test("prints its version and its help", async () => {
  const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
  assert.equal((await cli(["--version"])).out, `${version}\n`);
  const { out } = await cli(["--help"]);
  assert.match(out, /^Usage: /);
  for (const same of [[], ["help"], ["-h"], ["run", "--help"]]) assert.equal((await cli(same)).out, out);
});

for (const [args, says] of [
  [["sing"], 'unknown command "sing"'],
  [["--loud"], "unknown option --loud"],
  [["run", "--loud", "Hi"], "unknown option --loud"],
  [["run", "--seed"], "--seed needs a value"],
  [["run", "--raw=yes", "Hi"], "--raw takes no value"],
  [["run", "--temperature", "hot", "Hi"], '--temperature takes a number, not "hot"'],
  [["run", "--raw", "--system", "Be brief.", "Hi"], "--raw cannot be combined with --system"],
  [["run", " "], "the prompt is empty"],
]) {
  test(`invalid arguments cause a one-line error and exit code 2: ${args.join(" ")}`, async () => {
    const { out, error, code } = await cli(args);
    assert.equal(code, 2);
    assert.equal(out, "");
    assert.ok(error.startsWith(`error: ${says}`) && error.indexOf("\n") === error.length - 1, error);
  });
}

test("a failed request causes a one-line error and exit code 1", async () => {
  for (const [args, says] of [
    [["--temperature", "9"], "error: 5006: "],
    [["--model", "@cf/no/such"], "error: 5007: No such model @cf/no/such or task"],
    [["--gguf", "/no/such.gguf"], "error: 3042: "],
  ]) {
    const { error, code } = await cli(["run", ...args, "Hi"]);
    assert.equal(code, 1);
    assert.ok(error.startsWith(says) && error.indexOf("\n") === error.length - 1, error);
  }
});

test("Ctrl+C ends the answer with exit code 130", { skip: process.platform === "win32" }, async () => {
  const child = start("run", "--max-tokens", "4000", "--raw", "1, 2, 3, 4,");
  await once(child.stdout, "data");
  child.kill("SIGINT");
  const [code] = await once(child, "close");
  assert.equal(code, 130);
});

test("a closed stdout is not an error", async () => {
  const child = start("run", "--max-tokens", "4000", "--raw", "1, 2, 3, 4,");
  const said = text(child.stderr);
  await once(child.stdout, "data");
  child.stdout.destroy();
  const [code] = await once(child, "close");
  assert.equal(code, 0);
  assert.doesNotMatch(await said, /error|EPIPE/i);
});
