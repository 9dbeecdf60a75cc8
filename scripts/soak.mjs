// `npm run soak`: many mixed requests, four at once, to the package in Node and to `workers-ai-local serve`. Every text must be the one that the
// same request gets when it is alone, whatever was computed, cancelled or left beside it, and the memory must not grow.

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Ai } from "workers-ai-local";
import { Random, newSeed } from "../tests/random.mjs";
import { MODEL } from "../tests/real-model.mjs";
import { startServe } from "../tests/serve-process.mjs";
import { SMALL, realQuestions, smallModel, smallQuestions } from "../tests/soak-requests.mjs";
import { surfacesOf } from "../tests/surfaces.mjs";
import { capture } from "./lib/process.mjs";
import { inProject } from "./lib/project.mjs";
import { UserError, duration, main, say } from "./lib/report.mjs";
import { ensureModel } from "./setup/model.mjs";

/**
 * @import { Question } from "../tests/soak-requests.mjs"
 * @import { Outcome } from "../tests/surfaces.mjs"
 */

const HELP = `Usage: npm run soak [-- options]

  --requests N   number of requests, half of them in Node and half to serve (default: 1000)
  --seed S       repeats the mix of an earlier run
  --real SHARE   share of the requests that go to the real model, 0 to 1 (default: 0.1)
  --only TARGET  only the half to this target: node or serve`;

/** Requests in progress at the same time. */
const AT_ONCE = 4;
/** Distinct questions to each model; each is asked many times, on every surface. */
const QUESTIONS = { small: 150, real: 24 };
/** How often the memory is measured during the requests to one target. */
const SAMPLES = 32;
/** The memory may grow by this share over the second half of the requests. With fewer requests it still grows to what they need at most. */
const MAX_GROWTH = 0.02;
const MIN_FOR_MEMORY = 200;
/** A request that takes longer hangs. */
const LATE_MS = 60_000;
/** The package's limit of unfinished requests per model. */
const QUEUE = 64;
const QUEUE_IS_FULL = 3040;

// Streams that their readers left are freed by garbage collection, which also makes the measurements of memory comparable.
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

await main(async () => {
  const options = optionsFrom(process.argv.slice(2));
  if (options.help) return void console.log(HELP);
  if (!existsSync(inProject("pkg/wasm/builds.js"))) throw new UserError("the package is not built: run npm run build");
  process.env.WORKERS_AI_LOCAL_MODEL = await ensureModel();
  const { seed, requests, real, only } = options;
  say(`seed ${seed}: repeat this mix with npm run soak -- --requests ${requests} --real ${real} --seed ${seed}`);

  const random = new Random(seed);
  const questions = { small: smallQuestions(random, QUESTIONS.small), real: real > 0 ? realQuestions(random, QUESTIONS.real) : [] };
  const small = await smallModel();
  try {
    const faults = [];
    const alone = await answersAlone(small, [...questions.small, ...questions.real], faults);
    const draw = () => plan(random, random.chance(real) ? random.pick(questions.real) : random.pick(questions.small));
    const half = Math.ceil(requests / 2);
    const plans = { node: Array.from({ length: half }, draw), serve: Array.from({ length: requests - half }, draw) };
    const reports = [];
    if (only !== "serve") reports.push(await soak("Node", await inNode(small), plans.node, alone));
    if (only !== "node") reports.push(await soak("serve", await overServe(small), plans.serve, alone));
    console.log(`\n${table(reports)}`);
    process.exitCode = faults.length > 0 || reports.some((report) => report.faults.length > 0) ? 1 : 0;
  } finally {
    await small.remove();
  }
  // A stream that was left keeps its connection, and with it this process.
  process.exit();
});

function optionsFrom(args) {
  let values;
  try {
    ({ values } = parseArgs({
      args,
      options: { requests: { type: "string" }, seed: { type: "string" }, real: { type: "string" }, only: { type: "string" }, help: { type: "boolean", short: "h" } },
    }));
  } catch (error) {
    throw new UserError(`${error.message.split("\n")[0]}\n${HELP}`);
  }
  const number = (name, otherwise, valid) => {
    const value = Number(values[name] ?? otherwise);
    if (!valid(value)) throw new UserError(`--${name} cannot be "${values[name]}"\n${HELP}`);
    return value;
  };
  if (values.only && !["node", "serve"].includes(values.only)) throw new UserError(`--only takes node or serve, not "${values.only}"`);
  return {
    help: values.help,
    only: values.only,
    requests: number("requests", 1000, (value) => Number.isInteger(value) && value >= 2),
    seed: number("seed", newSeed(), (value) => Number.isInteger(value) && value >= 0),
    real: number("real", 0.1, (value) => value >= 0 && value <= 1),
  };
}

// ── Targets ──

/**
 * What is soaked.
 *
 * @typedef {object} Target
 * @property {Record<string, (question: object, model: string, signal?: AbortSignal) => Promise<Outcome>>} ask reads a whole answer, by surface
 * @property {Record<string, (question: object, model: string, signal?: AbortSignal) => Promise<ReadableStream>>} open a stream, by surface
 * @property {() => Promise<Record<string, number>>} memory bytes, by what they are
 * @property {() => Promise<string[]>} leftovers what is still there after the last request
 * @property {boolean} [isOurs] the streams are the package's own
 * @property {() => Promise<void>} close
 */

async function inNode(small) {
  const ai = new Ai({ models: { [SMALL]: small.path }, onWarning() {} });
  await ai.load(SMALL);
  await ai.load(MODEL);
  const client = (signal) => {
    // Each request has its own fields: those of `ai` belong to whichever request ended last.
    const own = {
      async run(model, input) {
        try {
          return await ai.run(model, input, { signal });
        } catch (error) {
          own.lastRequestInternalStatusCode = error.internalCode;
          own.lastRequestHttpStatusCode = error.httpCode;
          throw error;
        }
      },
      fetch: (url, init) => ai.fetch(url, { ...init, signal }),
    };
    return own;
  };
  return {
    ...askingBy(client, ["run", "wire", "rest", "openAi"]),
    isOurs: true,
    async memory() {
      return { wasm: (await ai.stats()).memoryBytes, rss: process.memoryUsage().rss };
    },
    async leftovers() {
      const busy = async () => (await ai.stats()).models.filter(({ active }) => active > 0);
      for (let tries = 0; tries < 50 && (await busy()).length > 0; tries += 1) {
        collectGarbage();
        await sleep(100);
      }
      return (await busy()).map(({ name, active }) => `${active} requests to ${name} are still active`);
    },
    close: () => ai.close(),
  };
}

async function overServe(small) {
  const server = await startServe("--port", "0", "--model", SMALL, "--gguf", small.path);
  const at = (url) => url.replace(/^https:\/\/[^/]+/, server.url);
  const client = (signal) => ({ fetch: (url, init) => fetch(at(url), { ...init, signal }) });
  const { ask, open } = askingBy(client, ["wire", "rest", "openAi"]);
  return {
    ask,
    open,
    async memory() {
      return { rss: 1024 * Number(await capture("ps", ["-o", "rss=", "-p", String(server.child.pid)])) };
    },
    /** `serve` shows no counters, but it accepts exactly as many requests at once as its queue has places only if no earlier one is active. */
    async leftovers() {
      for (let tries = 0; tries < 5; tries += 1) {
        collectGarbage();
        await sleep(200);
      }
      const leave = new AbortController();
      // An answer that cannot end early.
      const json_schema = { type: "array", items: { const: 1 }, minItems: 900 };
      const input = { prompt: "Go on.", seed: 1, max_tokens: 2000, response_format: { type: "json_schema", json_schema } };
      const opened = [];
      for (let count = 0; count <= QUEUE; count += 1) opened.push(open.rest(input, SMALL, leave.signal));
      const accepted = (await Promise.allSettled(opened)).filter(({ status }) => status === "fulfilled").length;
      leave.abort();
      return accepted === QUEUE ? [] : [`of ${QUEUE + 1} requests at once serve accepts ${accepted} instead of ${QUEUE}, its limit: earlier ones are still active`];
    },
    close: () => server.stop(),
  };
}

/** `ask` and `open` of a target by the name of the surface. */
function askingBy(client, names) {
  const by = (method) =>
    Object.fromEntries(names.map((name) => [name, (input, model, signal) => surfacesOf(client(signal))[name][method](input, model)]));
  return { ask: by("ask"), open: by("open") };
}

// ── The answers that are expected ──

/**
 * The answer to each question, from a fresh server and one at a time.
 *
 * @returns {Promise<Map<Question, {said: string, text?: string}>>} `said`: everything that must be equal; `text`: what a stream's begins with
 */
async function answersAlone(small, questions, faults) {
  const target = await overServe(small);
  const answers = new Map();
  try {
    const progress = progressOf("expected texts", questions.length);
    for (const question of questions) {
      const { model, input } = question;
      const said = saidBy(await target.ask.rest(input, model), input);
      // The stream has the text as it was computed, where the object has a JSON value.
      const streamed = await target.ask.rest({ ...input, stream: true }, model).catch((error) => ({ failed: error }));
      if (!streamed.failed && saidBy(streamed, input) !== said) {
        blame(faults, `alone, an object and a stream differ\n  object   ${said}\n  stream   ${saidBy(streamed, input)}\n  request  ${JSON.stringify(question)}`);
      }
      answers.set(question, { said, text: streamed.failed ? undefined : streamed.text });
      progress(answers.size);
    }
  } finally {
    await target.close();
  }
  return answers;
}

/** What an answer says, in every form the same: its error, or its text or JSON value, calls, length and end. */
function saidBy({ code, response, text, tool_calls, usage, finish_reason }, { response_format }) {
  if (code !== undefined) return JSON.stringify({ code });
  const value = response_format ? (response === undefined ? JSON.parse(text) : response) : text || null;
  return JSON.stringify({ value, calls: tool_calls, tokens: usage.completion_tokens, finish_reason });
}

// ── Requests ──

/**
 * How a request is made, and how its client ends it: `read` to the end, `abort` by a signal, `cancel` the stream, or `leave` it unread.
 *
 * @typedef {{question: Question, surface: number, stream: boolean, end: "read" | "abort" | "cancel" | "leave", after: number}} Plan
 */

/** @returns {Plan} */
function plan(random, question) {
  const stream = random.chance(0.6);
  const end = random.chance(0.65) ? "read" : stream ? random.pick(["abort", "cancel", "cancel", "leave"]) : "abort";
  // Pieces of a stream, or milliseconds of an object.
  return { question, surface: random.int(0, 11), stream, end, after: random.int(0, stream ? 12 : 300) };
}

/**
 * Makes all requests, `AT_ONCE` at the same time, and checks each answer.
 *
 * @param {string} name
 * @param {Target} target
 * @param {Plan[]} plans
 */
async function soak(name, target, plans, alone) {
  const report = { name, requests: plans.length, cancelled: 0, compared: 0, refused: 0, differ: 0, faults: [], memory: [] };
  const started = Date.now();
  const progress = progressOf(name, plans.length);
  const each = Math.ceil(plans.length / SAMPLES);
  for (let from = 0; from < plans.length; from += each) {
    const rest = plans.slice(from, from + each);
    const worker = async () => {
      for (let next; (next = rest.shift()); ) await inTime(check(target, next, alone.get(next.question), report), next, report);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    collectGarbage();
    await sleep(20);
    report.memory.push(await target.memory());
    progress(Math.min(from + each, plans.length), `${report.faults.length} faults, ${inMegabytes(report.memory.at(-1))}`);
  }
  for (const left of await target.leftovers()) blame(report.faults, `${name}: ${left}`);
  report.milliseconds = Date.now() - started;
  report.growth = growthOf(report.memory);
  for (const [what, { from, to }] of plans.length < MIN_FOR_MEMORY ? [] : Object.entries(report.growth)) {
    if (to > from * (1 + MAX_GROWTH)) blame(report.faults, `${name}: ${what} grew over the second half, from ${megabytes(from)} to ${megabytes(to)}`);
  }
  await target.close();
  return report;
}

/** Waits for one request, but not forever: one that never ends is a fault. */
async function inTime(checked, { question, ...how }, { name, faults }) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(blame(faults, `${name}: no end within ${duration(LATE_MS)}\n  how      ${JSON.stringify(how)}\n  request  ${JSON.stringify(question)}`)), LATE_MS);
  });
  await Promise.race([checked, late]).finally(() => clearTimeout(timer));
}

/** Makes one request. */
async function check(target, { question, surface: index, stream, end, after }, expected, report) {
  const { model, input } = question;
  const surface = Object.keys(target.ask)[index % Object.keys(target.ask).length];
  const fault = (what, got) =>
    blame(report.faults, `${report.name}, ${surface}, ${stream ? "stream" : "object"}, ${end} after ${after}: ${what}\n  got      ${got}\n  expected ${expected.said}\n  request  ${JSON.stringify({ model, input })}`);
  const differ = (got) => {
    report.differ += 1;
    fault("the answer differs", got);
  };
  const leave = new AbortController();
  try {
    if (end === "read") {
      const answer = await target.ask[surface]({ ...input, stream }, model);
      report.compared += 1;
      if (saidBy(answer, input) !== expected.said) differ(saidBy(answer, input));
      return;
    }
    report.cancelled += 1;
    if (!stream) {
      const timer = setTimeout(() => leave.abort(), after);
      const answer = await target.ask[surface](input, model, leave.signal).finally(() => clearTimeout(timer));
      report.compared += 1;
      if (saidBy(answer, input) !== expected.said) differ(saidBy(answer, input));
      return;
    }
    const received = await beginning(await target.open[surface](input, model, leave.signal), after, end, leave, target.isOurs);
    report.compared += 1;
    if (expected.text !== undefined && !expected.text.startsWith(received)) differ(JSON.stringify(received));
  } catch (error) {
    if (error.name === "AbortError" && leave.signal.aborted) return;
    const { code = Number(/^(\d{4}): /.exec(error.message)?.[1]) || undefined } = error;
    if (code === QUEUE_IS_FULL && /queue/i.test(error.message)) return void (report.refused += 1);
    if (stream && isExpected(error, expected)) return;
    fault("an error", error.stack ?? String(error));
  }
}

/**
 * Whether a stream failed because its answer is an error. Over HTTP, an error before the answer is a response without a stream, and one during the
 * answer cuts the connection.
 */
function isExpected(error, { said }) {
  const { code } = JSON.parse(said);
  return code !== undefined && (error.internalCode === code || error.code === "ERR_ASSERTION" || error.message === "terminated");
}

/** Reads at least `pieces` events of a stream, if it has so many, then ends the reading; returns the text so far. `isOurs`: the stream is the package's own, not one of Node's `fetch`. */
async function beginning(stream, pieces, end, leave, isOurs) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let data = "";
  let done = false;
  const events = () => data.split("\n\n").slice(0, -1);
  while (!done && events().length < pieces) {
    const read = await reader.read();
    done = read.done;
    if (!done) data += decoder.decode(read.value, { stream: true });
  }
  const text = events()
    .map((event) => event.slice("data: ".length))
    .filter((event) => event !== "[DONE]")
    .map((event) => JSON.parse(event))
    .map(({ response, choices }) => response ?? choices?.[0]?.delta.content ?? "")
    .join("");
  if (end === "cancel") await reader.cancel();
  if (end === "abort") {
    leave.abort();
    const next = isOurs ? await reader.read().catch(() => ({ done: true })) : { done: true };
    if (!next.done) throw new Error("a stream continues after its signal was aborted");
  }
  return text;
}

// ── Report ──

/** Adds a fault to a list, and prints it at once. */
function blame(faults, text) {
  faults.push(text);
  console.log(`\n✗ ${text}\n`);
}

/** Prints how far it is, at most every five seconds. */
function progressOf(label, total) {
  const started = Date.now();
  let last = started;
  return (done, more = "") => {
    if (Date.now() - last < 5_000 && done < total) return;
    last = Date.now();
    say(`${label}: ${done} of ${total}, ${duration(last - started)}${more && `, ${more}`}`);
  };
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function inMegabytes(memory) {
  return Object.entries(memory).map(([what, bytes]) => `${what} ${megabytes(bytes)}`).join(", ");
}

/** The memory after the first half and at the end: medians of the quarters that begin and end the second half, because garbage comes and goes. */
function growthOf(samples) {
  const second = samples.slice(Math.floor(samples.length / 2));
  const quarter = Math.max(1, Math.floor(second.length / 4));
  const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
  const of = (part, what) => median(part.map((sample) => sample[what]));
  return Object.fromEntries(Object.keys(samples[0]).map((what) => [what, { from: of(second.slice(0, quarter), what), to: of(second.slice(-quarter), what) }]));
}

function table(reports) {
  const change = ({ from, to }) => `${megabytes(from)} → ${megabytes(to)} (${((100 * (to - from)) / from).toFixed(1)} %)`;
  const rows = [
    ["", ({ name }) => name],
    ["requests", ({ requests }) => requests],
    ["of them cancelled", ({ cancelled }) => cancelled],
    ["refused: queue full", ({ refused }) => refused],
    ["answers compared", ({ compared }) => compared],
    ["answers that differ", ({ differ }) => differ],
    ["faults in all", ({ faults }) => faults.length],
    ["RSS, half → end", ({ growth }) => change(growth.rss)],
    ["WebAssembly memory", ({ growth }) => (growth.wasm ? change(growth.wasm) : "")],
    ["time", ({ milliseconds }) => duration(milliseconds)],
  ];
  return rows.map(([label, cell]) => `  ${label.padEnd(21)}${reports.map((report) => String(cell(report)).padStart(34)).join("")}`).join("\n");
}
