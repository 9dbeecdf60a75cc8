// The command-line tool, each call in a separate process.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ai } from "workers-ai-local";
import { engineFrom } from "../../pkg/cli/engine.js";
import { table } from "../../pkg/cli/models.js";
import "../own-cache.mjs";
import { MODEL } from "../real-model.mjs";
import { CHATML, USER_DEFINED, scriptedFile } from "../scripted-model.mjs";

const CLI = fileURLToPath(new URL("../../pkg/cli.js", import.meta.url));

const start = (...args) => spawn(process.execPath, [CLI, ...args], { stdio: ["pipe", "pipe", "pipe"] });

/** Runs the command until it exits. */
async function cli(args, { input = "" } = {}) {
  const child = start(...args);
  child.stdin.on("error", () => {}).end(input);
  const [out, error, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { out, error, code };
}

/** Nothing that only a program can do. */
const isForTerminal = (text) => assert.doesNotMatch(text, /configuration|new Ai\b|strict: true|backend: "/);

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

test("an answer of either shape is written alike, a thought only with --json", async (t) => {
  const script = ["<think>", "I", " wonder", ".", "</think>", "Hello", "!"];
  const tokens = ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED }));
  const file = await scriptedFile({ template: `${CHATML}{% if enable_thinking is false %}<think></think>{% endif %}`, script, tokens });
  t.after(() => file.remove());
  for (const id of ["@cf/meta/llama-3.1-8b-instruct", "@cf/zai-org/glm-5.3", "@cf/qwen/qwen3-30b-a3b-fp8"]) {
    const model = ["--gguf", file.path, "--model", id];
    assert.deepEqual(await cli(["run", ...model, "Hi"]), { out: "Hello!\n", error: "", code: 0 }, id);
    const { usage, ...object } = JSON.parse((await cli(["run", "--json", ...model, "Hi"])).out);
    // A text completion has no place for a thought.
    const thought = id.includes("qwen") ? {} : { reasoning_content: "I wonder." };
    assert.deepEqual(object, { response: "Hello!", ...thought, finish_reason: "stop" });
    assert.equal(usage.completion_tokens, script.length);
    const { out, error } = await cli(["chat", "--stats", ...model], { input: "Hi\nAnd?\n" });
    assert.equal(out, "Hello!\nHello!\n");
    assert.match(error, /^\[7 tokens, /);
  }
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
  assert.match(out, /^@cf\/meta\/llama-2-7b-chat-int8 +2048 +response +Llama 2 /m);
  assert.match(out, /^@cf\/zai-org\/glm-5\.3 +\d+ +chat +tools reasoning +Z\.ai /m);
  const catalogue = JSON.parse((await cli(["models", "--json"])).out);
  assert.equal(out.trimEnd().split("\n").length, catalogue.length + 1);
});

test("lists the models that a search finds: every word, in the id, the description or the features", async () => {
  const found = async (...args) => JSON.parse((await cli(["models", "--json", "--search", ...args])).out).map(({ name }) => name);
  assert.deepEqual(await found("GLM flash tools"), ["@cf/zai-org/glm-4.7-flash", "@cf/zai-org/glm-5.3-flash"]);
  assert.ok((await found("reasoning")).includes("@cf/qwen/qwen3.8-27b"), "by a feature");
  const { out, error, code } = await cli(["models", "--search", "no such"]);
  assert.deepEqual([out, error, code], ["", 'error: no model matches "no such"\n', 1]);
});

test("the list of the catalogue fits an 80-column terminal; a wider one shows the descriptions, and a search always does", async () => {
  const long = { name: `@cf/${"n".repeat(41)}`, context: "1310720", answer: "response", features: "tools reasoning", description: "What it is. ".repeat(7).trim() };
  const short = { ...long, name: "@cf/a/b", features: "" };
  const rows = [long, short];
  const at = (width, described) => {
    const lines = table(rows, { width, described });
    for (const line of lines) assert.ok(line.length <= (width ?? Infinity), line);
    return lines;
  };
  const [head, first, second, ...more] = at(80);
  assert.deepEqual(more, []);
  assert.match(head, /^MODEL +CONTEXT +ANSWER +FEATURES$/);
  assert.equal(first, `${long.name} 1310720  response  tools reasoning`);
  assert.equal(second, `@cf/a/b${" ".repeat(39)}1310720  response`);
  assert.match(at(120)[1], /tools reasoning  What it is\. What it is\. .*…$/);
  assert.equal(at(80, true)[2], `    ${long.description.slice(0, 75)}…`);
  assert.equal(at(120, true)[2], `    ${long.description}`);
  for (const lines of [at(undefined), at(undefined, true), at(200, true)]) assert.deepEqual([lines.length, lines[1].endsWith(long.description)], [3, true]);
});

test("prints its version and its help", async () => {
  const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
  assert.equal((await cli(["--version"])).out, `${version}\n`);
  const { out } = await cli(["--help"]);
  assert.match(out, /^Usage: /);
  for (const same of [[], ["help"], ["-h"]]) assert.equal((await cli(same)).out, out);
});

test("prints the help of one command, with every option that it has and no other", async () => {
  for (const command of ["run", "chat", "tokenize", "serve", "models"]) {
    const { out } = await cli([command, "--help"]);
    assert.ok(out.startsWith(`Usage: workers-ai-local ${command} `), out);
    assert.equal((await cli(["help", command])).out, out);
    const shown = [...out.matchAll(/^ {2}(?:-\w, )?--([a-z-]+)( [A-Z])?/gm)];
    // Each exists, and takes a value if the help says so: otherwise the message would be about it.
    const given = shown.map(([, option, value]) => (value ? `--${option}=1` : `--${option}`));
    assert.match((await cli([command, ...given, "--no-such-option"])).error, /^error: unknown option --no-such-option/);
    const options = shown.map(([, option]) => option);
    assert.equal(options.includes("port"), command === "serve");
    assert.equal(options.includes("max-tokens"), command === "run" || command === "chat");
    for (const line of out.split("\n")) assert.ok(line.length <= 80, `longer than 80 characters: ${line}`);
  }
});

for (const [args, says, expected = 2] of [
  [["sing"], 'unknown command "sing": the commands are run, chat, '],
  [["rnu", "Hi"], 'unknown command "rnu": did you mean run?'],
  [["help", "serv"], 'unknown command "serv": did you mean serve?'],
  [["run", "--max_tokens", "3", "Hi"], "unknown option --max_tokens: did you mean --max-tokens?"],
  [["run", "--tempreature=0", "Hi"], "unknown option --tempreature: did you mean --temperature?"],
  [["run", "--port", "1", "Hi"], "unknown option --port: it is an option of serve"],
  [["run", "--threads", "many", "Hi"], '--threads takes a number, not "many"'],
  [["run", "--threads", "65", "Hi"], '--threads takes a whole number from 1 to 64, not "65"'],
  [["run", "--backend", "gpu", "Hi"], '--backend takes auto, webgpu or cpu, not "gpu"'],
  [["run", "--json-schema", "no-such.json", "Hi"], "--json-schema takes JSON or a file, and there is no file no-such.json"],
  [["run", "--json-schema", "{", "Hi"], "--json-schema is not JSON: "],
  [["run", "--json-schema", "package.json/x", "Hi"], "the file of --json-schema, package.json/x, cannot be read (ENOTDIR)", 1],
  [["chat", "Hi"], "chat takes no prompt: "],
  [["--loud"], "unknown option --loud"],
  [["run", "--loud", "Hi"], "unknown option --loud"],
  [["run", "--seed"], "--seed needs a value"],
  [["run", "--raw=yes", "Hi"], "--raw takes no value"],
  [["run", "--temperature", "hot", "Hi"], '--temperature takes a number, not "hot"'],
  [["run", "--raw", "--system", "Be brief.", "Hi"], "--raw cannot be combined with --system"],
  [["run", " "], "the prompt is empty"],
  [["models", "glm"], 'models takes no argument "glm": to look for it, use --search'],
]) {
  test(`invalid arguments cause a one-line error: ${args.join(" ")}`, async () => {
    const { out, error, code } = await cli(args);
    assert.equal(code, expected);
    assert.equal(out, "");
    assert.ok(error.startsWith(`error: ${says}`) && error.indexOf("\n") === error.length - 1, error);
  });
}

test("a failed request causes a one-line error and exit code 1", async () => {
  for (const [args, says] of [
    [["--temperature", "9"], "error: 5006: "],
    [["--model", "@cf/no/such"], "error: 5007: No such model @cf/no/such or task"],
    [["--gguf", "/no/such.gguf"], "error: 3042: "],
    [["--strict", "--model", "@cf/meta/llama-3.1-8b-instruct"], "error: 5007: "],
    [["--backend", "webgpu"], "error: 5004: "],
  ]) {
    const { error, code } = await cli(["run", ...args, "Hi"]);
    assert.equal(code, 1);
    assert.ok(error.startsWith(says) && error.indexOf("\n") === error.length - 1, error);
    isForTerminal(error);
  }
});

test("a warning advises the command's options", async () => {
  const { error, code } = await cli(["run", ...GREEDY, "--model", "@cf/meta/llama-3.1-8b-instruct", "Hi"]);
  assert.equal(code, 0);
  assert.match(error, /^note: .* Give it a GGUF with --gguf\.$/m);
  isForTerminal(error);
});

test("--stop ends the answer before any of its texts", async () => {
  const { out: whole } = await cli(["run", "--raw", ...GREEDY, "1, 2, 3,"]);
  assert.match(whole, /4, 5/);
  assert.equal((await cli(["run", "--raw", ...GREEDY, "--stop", "no", "--stop", ", 5", "1, 2, 3,"])).out, `${whole.slice(0, whole.indexOf(", 5"))}\n`);
});

test("--json-schema, as JSON or as a file, gives an answer that fits; --json has it as a value", async (t) => {
  const schema = { type: "object", properties: { name: { type: "string", maxLength: 9 } }, required: ["name"], additionalProperties: false };
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-cli-"));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(path.join(folder, "schema.json"), JSON.stringify(schema));
  const ask = ["--temperature", "0", "A colour, please"];
  const { out } = await cli(["run", "--json-schema", JSON.stringify(schema), ...ask]);
  assert.deepEqual(Object.keys(JSON.parse(out)), ["name"]);
  const { response } = JSON.parse((await cli(["run", "--json", "--json-schema", path.join(folder, "schema.json"), ...ask])).out);
  assert.deepEqual(response, JSON.parse(out));
});

test("the engine's options become its configuration", () => {
  const forward = ["@cf/a/b", "*=when-missing"];
  const remote = { "@cf/a/b": "always", "*": "when-missing" };
  assert.deepEqual(engineFrom({ threads: "3", backend: "cpu", strict: true, forward }), { threads: 3, backend: "cpu", strict: true, remote });
  assert.deepEqual(engineFrom({}), { threads: undefined, backend: undefined, strict: undefined, remote: undefined });
});

test("--threads and --backend configure the engine, and change no text", async () => {
  const one = await cli(["run", ...GREEDY, "--threads", "1", "--backend", "cpu", "Name a colour."]);
  assert.equal(one.code, 0);
  assert.doesNotMatch(one.error, /error|note/);
  assert.equal((await cli(["run", ...GREEDY, "Name a colour."])).out, one.out);
});

describe("chat", () => {
  test("answers each line of stdin with the turns before it in mind", async () => {
    const { out, error, code } = await cli(["chat", ...GREEDY, "--stats"], { input: "Name a fruit.\n\nWhy this one?\n/new\nName a fruit.\n/exit\nNot read.\n" });
    assert.equal(code, 0);
    assert.equal(error.match(/tokens\/s/g).length, 3);
    const model = new Ai({ onWarning() {} });
    const messages = [];
    const expected = [];
    for (const content of ["Name a fruit.", "Why this one?"]) {
      messages.push({ role: "user", content });
      const { response } = await model.run(MODEL, { messages, temperature: 0, max_tokens: 6, stream: false });
      messages.push({ role: "assistant", content: response });
      expected.push(response);
    }
    const without = await model.run(MODEL, { messages: messages.filter(({ role }) => role === "user"), temperature: 0, max_tokens: 6 });
    assert.notEqual(without.response, expected[1], "the answer depends on the model's own turn");
    assert.equal(out, [...expected, expected[0]].map((text) => `${text}\n`).join(""));
  });

  test("ends with an error message if a request fails and nobody sits there", async () => {
    const { error, code } = await cli(["chat", "--temperature", "9"], { input: "Hi\nHi\n" });
    assert.equal(code, 1);
    assert.match(error, /^error: 5006: .*\n$/);
  });

  test("Ctrl+C stops the answer, then ends with exit code 130", { skip: process.platform === "win32" }, async () => {
    const child = start("chat", "--max-tokens", "1500", "--temperature", "0");
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
    child.stdin.write("Tell me a very long story.\n");
    await once(child.stdout, "data");
    child.kill("SIGINT");
    while (!said.includes("(stopped)")) await once(child.stderr, "data");
    child.stdin.write("/oops\n");
    while (!said.includes("unknown command /oops")) await once(child.stderr, "data");
    child.kill("SIGINT");
    assert.deepEqual(await once(child, "close"), [130, null]);
  });

  // `script` of util-linux gives its command a terminal.
  const terminal = (...args) => spawn("script", ["-qec", [process.execPath, CLI, ...args].join(" "), "/dev/null"], { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, TERM: "xterm" } });
  const noScript = spawnSync("script", ["--version"]).error && "no `script` on this machine";
  test("in a terminal: a prompt, an error that ends nothing, and both keys", { skip: noScript, timeout: 60_000 }, async (t) => {
    /** Starts `chat`; `shows` waits until the terminal shows something after what it was last asked for. */
    const open = (...args) => {
      const child = terminal("chat", ...args);
      t.after(() => child.kill("SIGKILL"));
      let shown = "";
      const more = new EventTarget();
      child.stdout.setEncoding("utf8").on("data", (text) => {
        shown += text;
        more.dispatchEvent(new Event("text"));
      });
      const shows = async (pattern) => {
        while (!pattern.test(shown)) await new Promise((resolve) => more.addEventListener("text", resolve, { once: true }));
        shown = "";
      };
      return { child, shows, ended: once(child, "close").then(([code]) => code) };
    };
    const one = open(...GREEDY, "--stats");
    await one.shows(/\/exit ends\.[\s\S]*> /);
    one.child.stdin.write("Name a colour.\r");
    await one.shows(/tokens\/s[\s\S]*> /);
    one.child.stdin.write("\x03");
    assert.equal(await one.ended, 130);

    const other = open("--temperature", "9");
    await other.shows(/\/exit ends\.[\s\S]*> /);
    other.child.stdin.write("Hi\r");
    await other.shows(/error: 5006: [\s\S]*> /);
    other.child.stdin.write("\x04");
    assert.equal(await other.ended, 0);
  });
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
