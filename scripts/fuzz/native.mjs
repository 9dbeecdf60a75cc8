// The native properties (`tests/properties/`) as kinds of inputs of `npm run fuzz`: one for each parser of the crate.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { compileNative } from "../lib/native.mjs";
import { capture, eachLine } from "../lib/process.mjs";
import { say } from "../lib/report.mjs";

const PREFIX = "native:";
/** Milliseconds without a line of the program, which prints one each second while inputs are tried. */
const HANG_MS = 60_000;

/** The kinds: the modules of `tests/properties/` that try a parser. */
export const NATIVE = ["call_reader", "characters", "files", "gguf", "http", "requests", "schemas", "stops", "templates"].map((name) => PREFIX + name);

/**
 * Compiles the properties.
 *
 * @returns `turn(report, {until})`, which tries inputs of one kind until a time, and `close()`
 */
export async function openNative() {
  const folder = await mkdtemp(path.join(os.tmpdir(), "workers-ai-local-fuzz-"));
  const program = path.join(folder, "properties");
  say("compiling the native properties …");
  await compileNative(["test", "--test", "properties", "--no-run"], program);
  const names = (await capture(program, ["--list"])).split("\n").flatMap((line) => /^(\S+): test$/.exec(line)?.[1] ?? []);
  const properties = new Map();
  return {
    async turn(report, { until }) {
      const prefix = `${report.kind.slice(PREFIX.length)}::`;
      const all = properties.get(report.kind) ?? names.filter((name) => name.startsWith(prefix)).map((name) => ({ name, next: report.next, left: report.left }));
      properties.set(report.kind, all);
      // Each property gets the same time.
      const open = all.filter(({ left }) => left > 0);
      for (const [index, property] of open.entries()) {
        const now = Date.now();
        await tryProperty(report, property, { program, until: now + (until - now) / (open.length - index), current: path.join(folder, "current") });
      }
      report.left = Math.max(...all.map(({ left }) => left));
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Runs one property in a process of its own, until a time, or until the process hangs or ends. */
async function tryProperty(report, property, { program, until, current }) {
  const env = {
    ...process.env,
    // As in `npm test`: descriptions of where errors were made would count as memory.
    RUST_LIB_BACKTRACE: "0",
    RUST_BACKTRACE: "0",
    WORKERS_AI_LOCAL_CASES: String(Math.min(property.left, Number.MAX_SAFE_INTEGER)),
    WORKERS_AI_LOCAL_MINUTES: String(Math.max(0, until - Date.now()) / 60_000),
    WORKERS_AI_LOCAL_SEED: String(property.next),
    WORKERS_AI_LOCAL_CURRENT: current,
  };
  const child = spawn(program, ["--exact", property.name, "--nocapture", "--test-threads=1"], { env, stdio: ["ignore", "pipe", "pipe"] });
  const stderr = [];
  eachLine(child.stderr, (line) => stderr.push(line));
  let last;
  let hangs = false;
  let timer;
  const watch = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      hangs = true;
      child.kill("SIGKILL");
    }, HANG_MS);
  };
  watch();
  eachLine(child.stdout, (line) => {
    watch();
    const at = line.indexOf('{"property"');
    if (at >= 0) last = JSON.parse(line.slice(at));
  });
  const [code, signal] = await new Promise((resolve) => child.on("close", (...how) => resolve(how)));
  clearTimeout(timer);
  const { inputs = 0, outcomes = {}, faults = [], panics = 0, slowest, next } = last ?? {};
  const took = (count) => {
    report.inputs += count;
    property.left -= count;
  };
  took(inputs);
  property.next = next ?? property.next;
  for (const [outcome, times] of Object.entries(outcomes)) report.outcomes.set(outcome, (report.outcomes.get(outcome) ?? 0) + times);
  if (slowest?.milliseconds > report.slowest.milliseconds) report.slowest = slowest;
  for (const [index, text] of faults.entries()) {
    report.faults.push(index < panics ? "trap" : "fault");
    console.log(`\n✗ ${text}\n`);
  }
  if (code === 0 || faults.length > 0) return;
  // Memory that ran out, a stack that overflowed, or no end.
  const seed = Number(await readFile(current, "utf8"));
  const what = hangs ? "hang" : "the process ended";
  report.faults.push(what);
  console.log(`\n✗ ${property.name}: ${what}: ${hangs ? `no end within ${HANG_MS / 1000} s` : `${signal ?? `exit code ${code}`} ${stderr.slice(-5).join("\n")}`}`);
  console.log(`  repeat it: WORKERS_AI_LOCAL_SEED=${seed} WORKERS_AI_LOCAL_CASES=1 cargo test --test properties ${property.name}\n`);
  took(Math.max(1, seed - property.next + 1));
  property.next = seed + 1;
}
