// Models that are split into several files: the answer is that of the whole file, however the files are given; and what is wrong with them is
// said with the name of the file and what to do.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Ai, AiInternalError, DEFAULT_MODEL, InferenceUpstreamError } from "workers-ai-local";
import "../own-cache.mjs";
import { listening } from "../../scripts/lib/ports.mjs";
import { parseHeader, partName, splitFile, withEntry } from "../gguf-fixtures.mjs";
import { MODEL as REAL, MODEL_PATH } from "../real-model.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { CLI, startServe } from "../serve-process.mjs";

const MODEL = "@cf/own/split";
const HI = { messages: [{ role: "user", content: "Hi" }] };
const SAYS = "All of it.";
const whole = scriptedModel({ script: [SAYS] }).bytes;
/** The first part has no tensor, and the second only some of the layer's: none works alone. */
const PARTS = splitFile(whole, [0, 5]);
const COUNT = PARTS.length;
const TOTAL = PARTS.reduce((sum, { length }) => sum + length, 0);
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** A folder with the parts as `model-0000N-of-00003.gguf`, and with the same files under names without numbers. */
let folder;
/** Serves `served`: path without the query → bytes, or a function that answers. With the query `locked`, only with a header. */
let server;
let served;
let asked = [];
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-split-"));
  for (const [part, bytes] of PARTS.entries()) {
    await writeFile(path.join(folder, partName("model", part, COUNT)), bytes);
    await writeFile(path.join(folder, `${"abc"[part]}.gguf`), bytes);
  }
  server = await listening(
    createServer((request, response) => {
      const [address, query] = request.url.split("?");
      asked.push({ path: address, query, range: request.headers.range, turn: asked.filter((other) => other.path === address).length + 1 });
      const file = served[address];
      if (query === "locked" && request.headers.authorization !== "Bearer key") return response.writeHead(401).end();
      if (file === undefined) return response.writeHead(404).end();
      if (typeof file === "function") return file(request, response, asked.at(-1));
      send(file, request, response);
    }),
  );
});
after(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

function send(file, request, response) {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  response.writeHead(from > 0 ? 206 : 200, { "content-length": file.length - from, ...(from > 0 && { "content-range": `bytes ${from}-${file.length - 1}/${file.length}` }) });
  response.end(file.subarray(from));
}

/** Serves parts as `/models/model-0000N-of-0000M.gguf`. */
function serve(parts, { prefix = "/models/model", name = partName } = {}) {
  asked = [];
  served = Object.fromEntries(parts.map((bytes, part) => [name(prefix, part, parts.length), bytes]));
}

const at = (part, count = COUNT) => path.join(folder, partName("model", part, count));
const address = (part, query = "", count = COUNT, prefix = "/models/model") => server.url + partName(prefix, part, count) + query;

/** A file of a program's own, which counts how many are open. */
const custom = (name, bytes, open = { now: 0, most: 0, times: 0 }) => ({
  name,
  async open(offset) {
    open.times += 1;
    open.most = Math.max(open.most, (open.now += 1));
    let at = offset;
    let isOpen = true;
    return {
      size: bytes.length,
      async read() {
        const piece = bytes.subarray(at, at + 100_000);
        at += piece.length;
        return piece.length > 0 ? piece : undefined;
      },
      cancel() {
        if (isOpen) open.now -= 1;
        isOpen = false;
      },
    };
  },
});

/** An R2 bucket with these objects. */
const bucket = (objects) => ({
  async get(key, { range } = {}) {
    const bytes = objects[key];
    return bytes ? { key, size: bytes.length, body: new Blob([bytes.subarray(range?.offset ?? 0)]).stream(), bodyUsed: false } : null;
  },
});
const BUCKET = bucket(Object.fromEntries(PARTS.map((bytes, part) => [partName("own/model", part, COUNT), bytes])));

/** Makes a file the default model of this process until the end of a test. */
function withModel(t, file) {
  const { WORKERS_AI_LOCAL_MODEL: before } = process.env;
  t.after(() => (before === undefined ? delete process.env.WORKERS_AI_LOCAL_MODEL : (process.env.WORKERS_AI_LOCAL_MODEL = before)));
  process.env.WORKERS_AI_LOCAL_MODEL = file;
}

const ask = async (source, config = {}) => (await new Ai({ models: { [MODEL]: source }, onWarning() {}, ...config }).run(MODEL, HI)).response;
const rejected = (source, code, says) =>
  assert.rejects(ask(source), (error) => {
    assert.ok(error instanceof InferenceUpstreamError, error.stack);
    assert.match(error.message, new RegExp(`^${code}: `));
    assert.match(error.message, says);
    return true;
  });

describe("a split model is found by the name of any of its files", () => {
  const encoded = (prefix, part, count) => partName(prefix, part, count).replace(/-(?=\d|of)/g, "%2D").replace("gguf", "GGUF");
  const KINDS = {
    "a path": () => at(0),
    "the path of another part": () => at(2),
    "a relative path": () => path.relative("", at(0)),
    "a file URL": () => pathToFileURL(at(1)),
    "an http URL": () => new URL(address(0)),
    "an http URL with a query": () => address(0, "?token=a-00001-of-00003.gguf"),
    "the http URL of another part": () => address(2, "?locked=no#-00001-of-00003.gguf"),
    "an http URL with headers": () => ({ url: address(1, "?locked"), headers: { authorization: "Bearer key" } }),
    "an http URL with other characters": () => `${server.url}${encoded("/models/model", 0, COUNT)}`,
    "a key of R2": () => ({ bucket: BUCKET, key: partName("own/model", 0, COUNT) }),
  };
  for (const [kind, make] of Object.entries(KINDS)) {
    test(kind, async () => {
      serve(PARTS, kind.endsWith("characters") ? { name: encoded } : {});
      assert.equal(await ask(make()), SAYS);
      const { search } = new URL(make().url ?? make(), "file:");
      for (const { query } of asked) assert.equal(query ?? "", search.slice(1), "the query stays");
    });
  }

  test("a file that is not split may have such a name", async () => {
    const alone = path.join(folder, partName("alone", 1, 7));
    await writeFile(alone, whole);
    assert.equal(await ask(alone), SAYS);
  });

  test("with the real model: the same text as of the whole file", async () => {
    const files = splitFile(new Uint8Array(await readFile(MODEL_PATH)), [100, 100]);
    for (const [part, bytes] of files.entries()) await writeFile(path.join(folder, partName("real", part, 3)), bytes);
    const input = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 11, max_tokens: 12 };
    const { response } = await new Ai().run(REAL, input);
    assert.equal((await new Ai({ default: path.join(folder, partName("real", 0, 3)) }).run(REAL, input)).response, response);
    const blobs = files.map((bytes) => new Blob([bytes]));
    assert.equal((await new Ai({ default: [blobs[2], blobs[0], blobs[1]] }).run(REAL, input)).response, response);
  });
});

describe("a split model may be a list, in any order", () => {
  const own = PARTS.map((bytes, part) => custom(`part ${part}`, bytes));
  const KINDS = {
    "of paths": () => ["c", "a", "b"].map((name) => path.join(folder, `${name}.gguf`)),
    "of paths that say which parts they are": () => [at(1), at(2), at(0)],
    "of URLs, each with its own query": () => [2, 0, 1].map((part) => address(part, `?signature=${part}`)),
    "of URLs with their SHA-256": () => [0, 2, 1].map((part) => ({ url: address(part), sha256: sha256(PARTS[part]) })),
    "of Blobs": () => [1, 0, 2].map((part) => new Blob([PARTS[part]])),
    "of bytes": () => [2, 1, 0].map((part) => PARTS[part]),
    "of bytes in one buffer": () => {
      const all = new Uint8Array(Buffer.concat(PARTS));
      const ends = [PARTS[0].length, PARTS[0].length + PARTS[1].length];
      return [all.subarray(ends[1]), all.subarray(0, ends[0]), all.subarray(ends[0], ends[1])];
    },
    "of keys of R2": () => [1, 2, 0].map((part) => ({ bucket: BUCKET, key: partName("own/model", part, COUNT) })),
    "of custom sources": () => [own[2], own[0], own[1]],
    "of different kinds": () => [new Blob([PARTS[2]]), PARTS[0], address(1)],
  };
  for (const [kind, make] of Object.entries(KINDS)) {
    test(kind, async () => {
      serve(PARTS);
      assert.equal(await ask(make()), SAYS);
    });
  }

  test("of one file, which is not split", async () => assert.equal(await ask([whole]), SAYS));

  test("of two parts, and of many", async () => {
    assert.equal(await ask(splitFile(whole, [7])), SAYS);
    const { tensors } = parseHeader(whole);
    assert.equal(await ask(splitFile(whole, tensors.slice(1).map(() => 1)).toReversed()), SAYS);
  });

  test("and never more than two files are open at the same time", async () => {
    const open = { now: 0, most: 0, times: 0 };
    assert.equal(await ask([2, 0, 1].map((part) => custom(`counted ${part}`, PARTS[part], open))), SAYS);
    assert.deepEqual(open, { now: 0, most: 2, times: 5 }, "a further part is opened for its header, and again for its tensors");
  });

  test("shared by several ids, which load it once", async () => {
    const blobs = PARTS.map((bytes) => new Blob([bytes]));
    const other = splitFile(scriptedModel({ script: ["Another."] }).bytes, [0, 5]);
    const ai = new Ai({ models: { "@cf/own/a": blobs, "@cf/own/b": [...blobs], "@cf/own/other": other }, onWarning() {} });
    for (const id of ["@cf/own/a", "@cf/own/b"]) assert.equal((await ai.run(id, HI)).response, SAYS);
    assert.equal((await ai.stats()).models.length, 1);
    assert.equal((await ai.run("@cf/own/other", HI)).response, "Another.");
  });
});

describe("loading a split model", () => {
  test("reports the progress over all files", async () => {
    for (const source of [at(0), PARTS.toReversed()]) {
      const told = [];
      const ai = new Ai({ models: { [MODEL]: source }, onProgress: (step) => told.push(step) });
      await ai.load(MODEL);
      const amounts = told.map(({ loaded }) => loaded);
      assert.deepEqual(amounts, amounts.toSorted((a, b) => a - b), "progress never decreases");
      const totals = told.map(({ total }) => total);
      assert.deepEqual([...new Set(totals)], [null, TOTAL], "unknown until all headers are read");
      assert.equal(amounts.at(-1), TOTAL);
    }
  });

  test("goes on where the connection to one file was lost", async () => {
    serve(PARTS);
    // The first request is for the header.
    served[partName("/models/model", 2, COUNT)] = (request, response, { turn }) => {
      if (turn !== 2) return send(PARTS[2], request, response);
      response.writeHead(200, { "content-length": PARTS[2].length });
      response.write(PARTS[2].subarray(0, 400_000), () => response.destroy());
    };
    assert.equal(await ask({ url: address(0) }), SAYS);
    assert.deepEqual(asked.filter(({ path }) => path.includes("00003-of")).map(({ range }) => range), [undefined, undefined, "bytes=400000-"]);
  });

  test("compares the SHA-256 of each file that has one, also of those without a tensor", async () => {
    serve(PARTS);
    const list = (wrong) => PARTS.map((bytes, part) => ({ url: address(part), sha256: sha256(part === wrong ? whole : bytes) }));
    for (const part of [0, 1, 2]) await rejected(list(part), 5004, new RegExp(`-0000${part + 1}-of-00003\\.gguf is not the expected file: its SHA-256 is ${sha256(PARTS[part])}`));
  });

  test("works for WORKERS_AI_LOCAL_MODEL, too", async (t) => {
    withModel(t, at(0));
    assert.equal((await new Ai({ onWarning() {} }).run("@cf/meta/llama-3.1-8b-instruct", HI)).response, SAYS);
  });
});

describe("a split model of which something is wrong is an error:", () => {
  const other = splitFile(scriptedModel({ script: ["Another."] }).bytes, [0, 5]);

  test("one file alone, without a name that leads to the others", async () => {
    const says = (part) => new RegExp(`is part ${part} of 3 of a split model\\. Give all 3 files as a list, in any order, or one whose name ends in -0000${part}-of-00003\\.gguf, with the others beside it\\.`);
    await rejected(PARTS[0], 5004, says(1));
    await rejected(new Blob([PARTS[1]]), 5004, says(2));
    await rejected([PARTS[2]], 5004, says(3));
    await rejected(path.join(folder, "a.gguf"), 5004, says(1));
    await rejected({ bucket: bucket({ key: PARTS[0] }), key: "key" }, 5004, /^5004: R2 object key is part 1 of 3/);
  });

  test("a part that is not there", async () => {
    // The cache has no file of this address from another test.
    const prefix = "/models/missing";
    const [first, second, third] = [0, 1, 2].map((part) => address(part, "", COUNT, prefix));
    serve(PARTS, { prefix });
    delete served[partName(prefix, 1, COUNT)];
    await rejected(first, 3042, /-00002-of-00003\.gguf was not found: HTTP 404.* It belongs to http\S+-00001-of-00003\.gguf, a model of 3 files: put them all beside each other, or give all 3 files as a list/);
    const lonely = path.join(folder, partName("lonely", 0, 3));
    await writeFile(lonely, PARTS[0]);
    await rejected(lonely, 3042, /lonely-00002-of-00003\.gguf was not found: no such file/);
    await rejected({ bucket: bucket({ [partName("m", 2, 3)]: PARTS[2], [partName("m", 1, 3)]: PARTS[1] }), key: partName("m", 2, 3) }, 3042, /m-00001-of-00003\.gguf was not found/);
    await rejected([first, second, third], 3042, /-00002-of-00003\.gguf was not found: HTTP 404 Not Found\. Check the address in the configuration\.$/);
  });

  test("a part whose address is not as its name says", async () => {
    const prefix = "/models/signed";
    serve(PARTS, { prefix });
    served[partName(prefix, 1, COUNT)] = (_, response) => response.writeHead(403).end();
    await rejected(address(0, "?signature=1", COUNT, prefix), 3003, /-00002-of-00003\.gguf\?signature=1 cannot be read: HTTP 403.*give all 3 files as a list/);
  });

  test("but not a part that is gone from its server, if it is stored", async () => {
    const prefix = "/models/gone";
    serve(PARTS, { prefix });
    assert.equal(await ask(address(0, "", COUNT, prefix)), SAYS);
    served = {};
    assert.equal(await ask(address(0, "", COUNT, prefix)), SAYS);
  });

  test("a list with too few or too many files, or with one twice", async () => {
    await rejected([PARTS[0], PARTS[2]], 5004, /part 1 of 3 of a split model, but the list has 2 files\. Give all 3 files as a list/);
    await rejected([...PARTS, PARTS[1]], 5004, /but the list has 4 files/);
    await rejected([at(0), at(1), path.join(folder, "b.gguf")], 5004, /-00002-of-00003\.gguf and \S+b\.gguf are both part 2 of 3 of a split model\. Give each part once\./);
  });

  test("a list of which a file is not split, or split otherwise", async () => {
    await rejected([whole, PARTS[1]], 5004, /is not a part of a split model, but stands in a list of files\. Give it alone/);
    await rejected([PARTS[0], whole, PARTS[2]], 5004, /does not belong to the same model as .*, which is one of 3 files: it is not split\. Give the 3 files of one model\./);
    await rejected([PARTS[0], PARTS[1], splitFile(whole, [5])[1]], 5004, /which is one of 3 files: it is one of 2\./);
  });

  test("names that count other files than there are", async () => {
    const renamed = path.join(folder, partName("renamed", 0, 4));
    await writeFile(renamed, PARTS[0]);
    await rejected(renamed, 5004, /renamed-00001-of-00004\.gguf is part 1 of 3 of a split model, but is named as one of 4\. Rename the files, or give all 3 files as a list/);
  });

  test("a part of another model", async () => {
    // Split elsewhere: a tensor is in two files.
    await rejected([PARTS[0], PARTS[1], splitFile(whole, [0, 4])[2]], 5004, /\(\d+\) and .*\(\d+\) both have the tensor '\S+'\. One of them belongs to another model/);
    await rejected([PARTS[0], PARTS[1], splitFile(whole, [0, 6])[2]], 5004, /^5004: The 3 files of .* have 11 tensors together, but the model has 12\. One of them belongs to another model or is damaged/);
    const larger = splitFile(scriptedModel({ script: ["Another", " one."] }).bytes, [0, 5]);
    await rejected([PARTS[0], new File([PARTS[1]], "second.gguf"), new File([larger[2]], "third.gguf")], 5004, /^5004: third\.gguf \(\d+\) cannot be used as a model: tensor '\S+' is \[.*, but must be \[/);
  });

  test("a part that is cut off", async () => {
    const [first, second, third] = PARTS;
    await rejected([first, second, third.subarray(0, third.length - 4000)], 5004, /is cut off: it has \d+ bytes, its tensors need \d+\. Get the file again\./);
    await rejected([first, second.subarray(0, 100), third], 5004, /is cut off: it ends after 100 bytes/);
    const unknown = { name: "unknown", open: async () => ({ ...(await custom("", third.subarray(0, third.length - 4000)).open(0)), size: undefined }) };
    await rejected([first, second, unknown], 5004, /unknown is cut off: it ends after \d+ bytes/);
  });

  test("a file that becomes another between its header and its weights", async () => {
    serve(PARTS);
    served[partName("/models/model", 1, COUNT)] = (request, response, { turn }) => send(turn === 1 ? PARTS[1] : other[2], request, response);
    await rejected({ url: address(0) }, 3008, /-00002-of-00003\.gguf changed while it was read: its header lists other tensors now\. Try again\./);
  });

  test("numbers that no model has", async () => {
    const [first] = PARTS;
    const changed = (values) => splitFile(whole, [0, 5], (header) => Object.entries(values).reduce((all, [key, value]) => withEntry(all, key, value), header))[0];
    await rejected(changed({ "split.no": 3 }), 5004, /its 'split\.no' does not fit its 'split\.count' of 3/);
    await rejected(changed({ "split.no": "x" }), 5004, /its 'split\.no' does not fit/);
    await rejected(changed({ "split.count": "x" }), 5004, /its 'split\.count' is not a number/);
    for (const count of [1025, 65_535, 2 ** 32 - 1]) await rejected(changed({ "split.count": count }), 5004, /is split into too many files, at most 1024 are supported\. Merge them/);
    await rejected([first, ...PARTS.slice(1).map(() => changed({ "split.count": 2 ** 31 }))], 5004, /too many files/);
    for (const count of [0, 1]) await rejected(changed({ "split.count": count }), 5004, /has no tensor/);
    await rejected([changed({ "split.tensors.count": 2 ** 31 }), ...PARTS.slice(1)], 5004, /have 12 tensors together, but the model has 2147483648/);
    assert.equal(await ask([splitFile(whole, [0, 5], ({ entries, tensors }) => ({ tensors, entries: entries.filter(({ key }) => key !== "split.tensors.count") }))[0], ...PARTS.slice(1)]), SAYS);
  });

  test("the SHA-256 of one file, which says nothing about the others", async () => {
    serve(PARTS);
    await rejected({ url: address(0), sha256: sha256(PARTS[0]) }, 5004, /is part 1 of 3 of a split model, and its SHA-256 says nothing about the other parts\. Give all 3 files as a list, each with its own\./);
  });

  test("a configuration that is no list of files", () => {
    const refuses = (source, says) => assert.throws(() => new Ai({ models: { [MODEL]: source } }), (error) => error instanceof AiInternalError && says.test(error.message));
    refuses([], /^models\["@cf\/own\/split"\] is a list of 0 files\. A split model has 1 to 1024\./);
    refuses(Array.from({ length: 1025 }, () => PARTS[0]), /is a list of 1025 files/);
    refuses([PARTS[0], 7], /^models\["@cf\/own\/split"\]\[1\] is not a model file/);
    refuses([[PARTS[0]], PARTS[1]], /\[0\] is not a model file/);
  });
});

describe("the command", () => {
  const run = (...args) =>
    promisify(execFile)(process.execPath, [CLI, "run", "--max-tokens", "9", ...args, "Hi"]).then(({ stdout }) => stdout, ({ stderr }) => stderr);
  const letters = (...names) => names.flatMap((name) => ["--gguf", path.join(folder, `${name}.gguf`)]);

  test("takes one file by its name, or --gguf for each", async () => {
    assert.equal(await run("--gguf", at(1)), `${SAYS}\n`);
    assert.equal(await run(...letters("b", "c", "a")), `${SAYS}\n`);
  });

  test("says how to give the others", async () => {
    assert.match(await run(...letters("a")), /^error: 5004: \S+a\.gguf is part 1 of 3 of a split model\. Give --gguf 3 times, once for each file, in any order, or one whose name/);
  });

  test("serves it", async (t) => {
    const served = await startServe("--port", "0", ...letters("c", "b", "a"));
    t.after(served.stop);
    const response = await fetch(`${served.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify({ model: "@cf/meta/llama-3.1-8b-instruct", ...HI }) });
    assert.equal((await response.json()).choices[0].message.content, SAYS);
  });

  test("serves all files of WORKERS_AI_LOCAL_MODEL to the playground, which asks for the name of one", async (t) => {
    withModel(t, at(1));
    const served = await startServe("--port", "0");
    t.after(served.stop);
    const { headers } = await fetch(`${served.url}/models/${DEFAULT_MODEL.file}`, { method: "HEAD" });
    assert.equal(headers.get("content-location"), `/models/${partName("model", 1, COUNT)}`);
    for (const [part, bytes] of PARTS.entries()) {
      const response = await fetch(`${served.url}/models/${partName("model", part, COUNT)}`);
      assert.deepEqual(new Uint8Array(await response.arrayBuffer()), bytes);
      assert.equal(response.headers.get("content-location"), null);
    }
    for (const other of ["a.gguf", partName("model", 3, COUNT), partName("model", 0, 4)]) assert.equal((await fetch(`${served.url}/models/${other}`)).status, 404);
  });
});
