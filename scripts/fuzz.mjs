// `npm run fuzz`: random and damaged inputs, for a given number of minutes. To the built package: requests, chat templates, model files, schemas, and
// answers with what looks like tool calls. Any answer and any documented error is right; a trap of the engine, a hang and everything else is a fault.
// And to every parser of the crate, natively (kinds `native:…`), which must have the properties in `tests/properties/`.

import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { newSeed } from "../tests/random.mjs";
import { KINDS } from "./fuzz/kinds.mjs";
import { NATIVE, openNative } from "./fuzz/native.mjs";
import { inProject } from "./lib/project.mjs";
import { UserError, duration, main, say } from "./lib/report.mjs";

const HELP = `Usage: npm run fuzz [-- options]

  --minutes N       how long (default: 10); every kind gets the same time
  --kind A,B        only these kinds: KINDS
  --seed S          the seed of each kind's first input; input n has the seed S + n
  --cases N         at most so many inputs of each kind, and of each property of a native kind; with --kind and --seed: repeats one
  --templates DIR   a folder of .jinja files: chat templates besides our own`;

const ALL = [...Object.keys(KINDS), ...NATIVE];

/** An input that takes longer hangs. */
const HANG_MS = 10_000;
/** Milliseconds of one kind before the next one's turn. */
const TURN_MS = 20_000;
/** Distinct errors that the report lists for each kind. */
const LISTED = 12;

await main(async () => {
  const options = optionsFrom(process.argv.slice(2));
  if (options.help) return void console.log(HELP.replace("KINDS", ALL.join(", ")));
  const { seed, minutes, cases, kinds, templates } = options;
  const needsPackage = kinds.some((kind) => kind in KINDS);
  if (needsPackage && !existsSync(inProject("pkg/wasm/builds.js"))) throw new UserError("the package is not built: run npm run build");
  const native = kinds.some((kind) => NATIVE.includes(kind)) ? await openNative() : undefined;
  say(`seed ${seed}`);

  const reports = kinds.map((kind) => ({ kind, next: seed, left: cases, inputs: 0, milliseconds: 0, outcomes: new Map(), faults: [], slowest: { milliseconds: 0 }, memory: 0 }));
  const end = Date.now() + minutes * 60_000;
  while (Date.now() < end && reports.some(({ left }) => left > 0)) {
    // The kind that had the least time so far.
    const report = reports.filter(({ left }) => left > 0).reduce((a, b) => (b.milliseconds < a.milliseconds ? b : a));
    const started = Date.now();
    const until = Math.min(end, started + Math.min(TURN_MS, (minutes * 60_000) / reports.length));
    await (NATIVE.includes(report.kind) ? native.turn(report, { until }) : turn(report, { until, templates }));
    report.milliseconds += Date.now() - started;
    const faults = reports.reduce((sum, { faults }) => sum + faults.length, 0);
    say(`${report.kind}: ${report.inputs} inputs, ${report.outcomes.size} distinct outcomes; ${duration(Math.max(0, end - Date.now()))} left, ${faults} faults`);
  }
  await native?.close();
  console.log(`\n${table(reports)}`);
  process.exitCode = reports.some(({ faults }) => faults.length > 0) ? 1 : 0;
});

function optionsFrom(args) {
  let values;
  try {
    const text = { type: "string" };
    ({ values } = parseArgs({ args, options: { minutes: text, kind: text, seed: text, cases: text, templates: text, help: { type: "boolean", short: "h" } } }));
  } catch (error) {
    throw new UserError(`${error.message.split("\n")[0]}\n${HELP}`);
  }
  const number = (name, otherwise) => {
    const value = Number(values[name] ?? otherwise);
    if (Number.isFinite(value) && value >= 0) return value;
    throw new UserError(`--${name} takes a number, not "${values[name]}"`);
  };
  const kinds = values.kind?.split(",") ?? ALL;
  const unknown = kinds.find((kind) => !ALL.includes(kind));
  if (unknown) throw new UserError(`--kind: there is no "${unknown}"; choose from ${ALL.join(", ")}`);
  return { help: values.help, minutes: number("minutes", 10), seed: number("seed", newSeed()), cases: number("cases", 1e12), kinds, templates: values.templates };
}

/** Tries inputs of one kind in a process of its own until a time, or until the process hangs or ends. */
async function turn(report, { until, templates = "" }) {
  const { kind, next, left } = report;
  const child = fork(inProject("scripts", "fuzz", "child.mjs"), [kind, next, left, until, templates].map(String), { stdio: ["ignore", "ignore", "pipe", "ipc"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr = (stderr + text).slice(-3000)));
  let current = next;
  let input = "";
  let timer;
  // The child said so, or was ended because it hangs.
  let done = false;
  const fault = (what, text) => {
    report.faults.push(what);
    console.log(`\n✗ ${kind}: ${what}: ${text}\n  repeat it: npm run fuzz -- --kind ${kind} --seed ${current} --cases 1${templates && ` --templates ${templates}`}\n  input: ${input}\n`);
  };
  child.on("message", (message) => {
    if ("began" in message) {
      [current, input] = [message.began, ""];
      clearTimeout(timer);
      timer = setTimeout(() => {
        fault("hang", `no answer within ${HANG_MS / 1000} s`);
        done = true;
        report.next = current + 1;
        report.left -= 1;
        child.kill("SIGKILL");
      }, HANG_MS);
    } else if ("input" in message) {
      ({ input } = message);
    } else if ("ended" in message) {
      const { outcomes, fault: error, trap, milliseconds, memory } = message;
      clearTimeout(timer);
      report.next = current + 1;
      report.left -= 1;
      report.inputs += 1;
      report.memory = Math.max(report.memory, memory);
      if (milliseconds > report.slowest.milliseconds) report.slowest = { milliseconds, seed: current };
      for (const outcome of outcomes) report.outcomes.set(blanked(outcome), (report.outcomes.get(blanked(outcome)) ?? 0) + 1);
      if (trap) fault("trap", trap);
      else if (error) fault("fault", error);
    } else {
      done = true;
    }
  });
  await new Promise((resolve) => {
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      if (!done) {
        fault("the process ended", `${signal ?? `exit code ${code}`} ${stderr}`);
        report.next = current + 1;
        report.left -= 1;
      }
      resolve();
    });
  });
}

/** A text with its numbers and quotes blanked, so that errors of the same kind count as one. */
function blanked(text) {
  const code = /^\d{4}: /.exec(text)?.[0] ?? "";
  const rest = text.slice(code.length).replace(/'[^']*'|"[^"]*"|`[^`]*`/gs, "'…'").replace(/\d[\d.,e+]*/g, "#");
  return (code + rest).slice(0, 160);
}

function table(reports) {
  const line = (...cells) => `  ${cells.map((cell, index) => (index === 0 ? String(cell).padEnd(18) : String(cell).padStart(13))).join("")}`;
  const count = ({ faults }, what) => faults.filter((fault) => fault === what).length;
  const others = (report) => report.faults.length - count(report, "trap") - count(report, "hang");
  const rows = reports.map((report) => {
    const { kind, inputs, outcomes, milliseconds, slowest, memory } = report;
    return line(kind, inputs, outcomes.get("answer") ?? 0, [...outcomes.keys()].filter((key) => key !== "answer").length, count(report, "trap"), count(report, "hang"), others(report), duration(milliseconds), `${slowest.milliseconds} ms`, memory > 0 ? `${Math.round(memory / 1e6)} MB` : "");
  });
  const errors = reports.flatMap(({ kind, outcomes }) => {
    const list = [...outcomes].filter(([text]) => text !== "answer").sort(([, a], [, b]) => b - a);
    const more = list.length > LISTED ? [`  … and ${list.length - LISTED} more`] : [];
    return list.length > 0 ? ["", `${kind}:`, ...list.slice(0, LISTED).map(([text, times]) => `  ${String(times).padStart(7)} × ${text}`), ...more] : [];
  });
  return [line("", "inputs", "answers", "errors", "traps", "hangs", "others", "time", "slowest", "memory"), ...rows, ...errors].join("\n");
}
