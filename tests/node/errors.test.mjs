// Invalid files and input never break the instance: each causes its documented error, and the next request works.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { after, before, describe, test } from "node:test";
import { Ai, AiInternalError, InferenceUpstreamError } from "workers-ai-local";
import { narrow } from "../../pkg/instance.js";
import { giantHeader, headOf, parseHeader, patched, u32, u64, withEntry, writeHeader } from "../gguf-fixtures.mjs";
import { CUT, startModelServer } from "../model-server.mjs";
import { MODEL, MODEL_PATH, PARIS } from "../real-model.mjs";
import { chunksOf, readAnswer } from "../sse.mjs";

/** Checks for an `AiError` as the binding throws it: a code of the error table and a text. */
const aiError = (code, says) => (error) => {
  assert.ok(error instanceof InferenceUpstreamError && error instanceof Error, `not an AiError: ${error?.stack ?? error}`);
  assert.equal(error.name, "AiError");
  assert.match(error.message, new RegExp(`^${code}: ${says.source}`, says.flags));
  return true;
};
const internalError = (error) => {
  assert.ok(error instanceof AiInternalError, `not an AiInternalError: ${error?.stack ?? error}`);
  assert.equal(error.name, "AiInternalError");
  return true;
};

/** Checks that the same `Ai` answers the next request. */
async function works(ai) {
  assert.match((await ai.run(MODEL, { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
}

const head = await headOf(MODEL_PATH);
const header = parseHeader(head);
const entry = (key) => header.entries.find((entry) => entry.key === key);
const changed = (key, value) => writeHeader(withEntry(header, key, value));
const tensor = header.tensors[5];
const firstDimension = tensor.typeAt - 8 * tensor.dims.length;

/** A file that consists of `bytes`; it reports `size`, or no size. With `forever`, zeros without end follow the bytes. */
function source(name, bytes, { size, forever = false } = {}) {
  const zeros = new Uint8Array(1 << 20);
  return {
    name,
    async open(offset) {
      let rest = [bytes.subarray(offset)];
      return { size, read: async () => rest.pop() ?? (forever ? zeros : undefined), cancel() {} };
    },
  };
}

/** A file that begins with a list of `count` elements of a GGUF type. */
function beginningOfList(type, count) {
  const [tensors, entries, length, list] = [u64(1), u64(1), u64(1), 9];
  return Buffer.concat([Buffer.from("GGUF"), u32(3), tensors, entries, length, Buffer.from("a"), u32(list), u32(type), u64(count)]);
}

describe("a model file that cannot be used", () => {
  const cutOff = /.* is cut off: /;
  const FILES = {
    "an empty file": [new Uint8Array(), 5004, cutOff],
    "cut off in the first bytes": [head.subarray(0, 20), 5004, /.* is cut off: it ends after 20 bytes/],
    "cut off in the vocabulary": [head.subarray(0, entry("tokenizer.ggml.tokens").at + 1000), 5004, cutOff],
    "cut off in the tensor table": [head.subarray(0, header.tensors[100].typeAt), 5004, cutOff],
    "cut off in the tensor data": [head, 5004, new RegExp(`.* is cut off: it has ${head.length} bytes, its tensors need 98362432`)],
    "cut off in the tensor data, of unknown size": [source("short", head), 5004, new RegExp(`short is cut off: it ends after ${head.length} bytes`)],
    "another format": [new TextEncoder().encode("<!doctype html><title>Not found</title>"), 5004, /.*it is not a GGUF file/],
    "a wrong magic": [patched(head, 0, Buffer.from("GGML")), 5004, /.*it is not a GGUF file \(the magic number is wrong\)/],
    "an unknown version": [patched(head, 4, u32(99)), 5004, /.*GGUF version 99 is not known/],
    "an unknown architecture": [changed("general.architecture", "mamba"), 5004, /.*has the architecture 'mamba', which is not supported/],
    "a mixture of experts": [changed("llama.expert_count", 8), 5004, /.*mixture of experts/],
    "an unknown tensor type": [patched(head, tensor.typeAt, u32(99)), 5004, new RegExp(`.*tensor '${tensor.name}' has type 99, which is not supported`)],
    "a known but unsupported tensor type": [patched(head, tensor.typeAt, u32(16)), 5004, /.*has type 16, which is not supported/],
    "an unsupported tokenizer": [changed("tokenizer.ggml.model", "t5"), 5004, /.*tokenizer.*'t5' is not supported/],
    "an alignment of 0": [changed("general.alignment", 0), 5004, /.*'general\.alignment' is missing or out of range/],
    "a dimension that 32 bits take for another": [patched(head, firstDimension, u64(2n ** 32n + 32n)), 5004, /.*has a dimension of 4294967328/],
    "heads that overflow 32 bits": [changed("llama.attention.key_length", 1 << 24), 5004, /.*contradict each other/],
    "heads whose width is 0 in 32 bits": [writeHeader(withEntry(withEntry(header, "llama.attention.head_count", 1 << 8), "llama.attention.key_length", 1 << 24)), 5004, /.*contradict each other/],
    "a list of 100 MB": [source("list", beginningOfList(0, 1e8), { size: 1e12, forever: true }), 5004, /.*the lists in its metadata have more than 8388608 elements/],
    "a list of lists of 100 MB": [source("lists", beginningOfList(9, 1e8), { size: 1e12, forever: true }), 5004, /.*the lists in its metadata have more than 8388608 elements/],
    "no layers": [changed("llama.block_count", 0), 5004, /.*'llama\.block_count' is missing or out of range/],
    "a layer count above the number of layers": [changed("llama.block_count", 31), 5004, /.*it has no tensor 'blk\.30\.attn_norm\.weight'/],
    "contradictory head counts": [changed("llama.attention.head_count_kv", 4), 5004, /.*contradict each other/],
    "an embedding length that differs from the tensors' width": [changed("llama.embedding_length", 640), 5004, /.*must be \[/],
    "an absurd number of tensors": [patched(head, 8, u64(1n << 60n)), 5004, /.*its header gives a length of 1152921504606846976/],
    "more tensors than the file has bytes": [patched(head, 8, u64(1 << 27)), 5004, /.*/],
    "an absurd number of metadata entries": [patched(head, 16, u64(1n << 60n)), 5004, /.*its header gives a length of/],
    "an absurd name length": [patched(head, 24, u64(1n << 40n)), 5004, /.*its header gives a length of/],
    "a name longer than the file": [patched(head, 24, u64(1 << 27)), 5004, /.*/],
    "an absurd list length": [patched(head, entry("tokenizer.ggml.tokens").at + 4, u64(1n << 62n)), 5004, /.*its header gives a length of/],
    "an absurd dimension": [patched(head, firstDimension, u64(1n << 62n)), 5004, /.*/],
    "tensors larger than the memory limit": [source("giant", writeHeader(giantHeader(header)), { size: 1e12, forever: true }), 3040, /Out of memory: giant needs .* GB, and there can be .* GB here\. .*a smaller model needs less/],
    "a tensor larger than half the memory limit": [source("large", writeHeader(giantHeader(header, 1n << 22n)), { size: 1e12, forever: true }), 3040, /Out of memory/],
    "tensors larger than the memory limit, cut off": [writeHeader(giantHeader(header)), 5004, cutOff],
  };
  const names = Object.keys(FILES);
  const id = (name) => `@cf/unusable/${names.indexOf(name)}`;
  const ai = new Ai({ models: Object.fromEntries(names.map((name) => [id(name), FILES[name][0]])) });

  test("precondition: a header that is parsed and written again is unchanged", () => {
    assert.equal(Buffer.compare(writeHeader(header), head.subarray(0, header.dataStart)), 0);
  });

  for (const name of names) {
    const [, code, says] = FILES[name];
    test(`${name}: ${code}`, async () => {
      await assert.rejects(ai.run(id(name), PARIS), aiError(code, says));
      await works(ai);
    });
  }

  test("scales that are NaN: 5004 when they are loaded", async () => {
    const file = new Uint8Array(await readFile(MODEL_PATH));
    // The embedding: these bytes make every scale NaN.
    file.fill(0xff, header.dataStart, header.dataStart + Number(header.tensors[1].offset));
    const damaged = new Ai({ models: { "@cf/unusable/scales": file } });
    await assert.rejects(damaged.run("@cf/unusable/scales", PARIS), aiError(5004, /The model's weights are damaged: a scale is not a finite number/));
    await works(damaged);
  });

  test("weights that are NaN: 5004 when they are used", async () => {
    const file = new Uint8Array(await readFile(MODEL_PATH));
    // The final norm before the output matrix has F32 weights: these bytes make each of them NaN.
    const norm = header.tensors.find(({ name }) => name === "output_norm.weight");
    file.fill(0xff, header.dataStart + Number(norm.offset), header.dataStart + Number(norm.offset) + 576 * 4);
    const damaged = new Ai({ models: { "@cf/unusable/nan": file } });
    await assert.rejects(damaged.run("@cf/unusable/nan", { ...PARIS, max_tokens: 2 }), aiError(5004, /The model computed no usable logits/));
    const stream = await damaged.run("@cf/unusable/nan", { ...PARIS, max_tokens: 2, stream: true });
    await assert.rejects(chunksOf(stream), aiError(5004, /The model computed no usable logits/), "the stream fails instead of ending normally");
    await works(damaged);
  });

  test("the constructor of Ai rejects a value that is not a model source", () => {
    for (const value of [42, true, {}, { bucket: {} }]) {
      assert.throws(() => new Ai({ default: value }), internalError);
      assert.throws(() => new Ai({ models: { "@cf/own/model": value } }), internalError);
    }
  });
});

describe("a file that cannot be read", () => {
  let server;
  let ai;
  const asked = (path) => server.requests.filter((request) => request.path === path).map(({ range }) => range);
  before(async () => {
    server = await startModelServer();
    const files = ["missing", "forbidden", "locked", "broken", "cut", "cut-without-range", "cut-for-good", "busy-once"];
    const models = Object.fromEntries(files.map((name) => [`@cf/http/${name}`, { url: `${server.url}/${name}.gguf` }]));
    const gone = await startModelServer();
    await gone.close();
    models["@cf/http/gone"] = { url: `${gone.url}/model.gguf` };
    models["@cf/path/missing"] = "no-such-file.gguf";
    models["@cf/path/folder"] = tmpdir();
    ai = new Ai({ models });
  });
  after(() => server.close());

  const FAULTS = {
    "@cf/http/missing": [3042, /The model file .*missing\.gguf was not found: HTTP 404/],
    "@cf/http/forbidden": [3003, /The model file .*forbidden\.gguf cannot be read: HTTP 403/],
    "@cf/http/locked": [3003, /.*HTTP 401/],
    "@cf/http/broken": [3008, /Reading .*broken\.gguf broke off after 0 bytes: HTTP 500/],
    "@cf/http/gone": [3008, /Reading .* broke off after 0 bytes/],
    "@cf/http/cut-for-good": [3008, /Reading .*cut-for-good\.gguf broke off after \d+ of 98362432 bytes/],
    "@cf/path/missing": [3042, /The model file no-such-file\.gguf was not found/],
    "@cf/path/folder": [3003, /The model file .* cannot be read/],
  };
  // At the same time, because most of them wait before they try again.
  describe("is an error of the request:", { concurrency: true }, () => {
    for (const [id, [code, says]] of Object.entries(FAULTS)) {
      test(`${id.slice(4)}: ${code}`, async () => {
        await assert.rejects(ai.run(id, PARIS), aiError(code, says));
        await works(ai);
      });
    }

    const ODD = { "a source that rejects with a string": [() => Promise.reject("just words"), /just words/], "a source that throws synchronously": [() => { throw new TypeError("at once"); }, /at once/] };
    for (const [what, [open, says]] of Object.entries(ODD)) {
      test(`${what}: 3008`, async () => {
        const odd = new Ai({ models: { "@cf/own/odd": { name: "odd", open } } });
        await assert.rejects(odd.run("@cf/own/odd", PARIS), aiError(3008, new RegExp(`Reading odd broke off after 0 bytes: ${says.source}`)));
      });
    }
  });

  test("a raw response has the HTTP status of the error", async () => {
    const response = await ai.run("@cf/http/missing", PARIS, { returnRawResponse: true });
    assert.equal(response.status, 404);
    assert.equal((await response.json()).internalCode, 3042);
  });

  test("a broken connection is resumed where it broke", async () => {
    assert.match((await ai.run("@cf/http/cut", { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
    const [first, second, ...more] = asked("/cut.gguf");
    assert.equal(first, undefined);
    const [, offset] = /^bytes=(\d+)-$/.exec(second);
    assert.ok(Number(offset) > 0 && Number(offset) <= CUT, `it was cut at ${CUT} and resumed at ${offset}`);
    assert.deepEqual(more, []);
  });

  test("a file of a server that ignores the range is read from the start again", async () => {
    assert.match((await ai.run("@cf/http/cut-without-range", { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
    assert.equal(asked("/cut-without-range.gguf").length, 2);
  });

  test("a request to an overloaded server is retried", async () => {
    assert.match((await ai.run("@cf/http/busy-once", { ...PARIS, max_tokens: 1 })).response, /^ Paris/);
  });

  test("the next request retries a failed load", async () => {
    const bytes = new Uint8Array(await readFile(MODEL_PATH));
    const late = { ...source("late", bytes), there: false };
    const { open } = late;
    late.open = async (offset) => {
      if (!late.there) throw Object.assign(new Error("not yet"), { kind: "not-found" });
      return open(offset);
    };
    const ai = new Ai({ default: late });
    const both = await Promise.allSettled([ai.run(MODEL, PARIS), ai.run(MODEL, PARIS)]);
    for (const { reason } of both) aiError(3042, /The model file late was not found: not yet/)(reason);
    late.there = true;
    await works(ai);
  });
});

describe("invalid input", () => {
  const ai = new Ai({ onWarning() {} });
  const cyclic = { prompt: "a" };
  cyclic.self = cyclic;
  const neither = /oneOf at '\/' not met, 0 matches: required properties at '\/' are 'prompt', required properties at '\/' are 'messages'$/;
  const unmet = (text) => new RegExp(`oneOf at '/' not met, 0 matches: ${text}$`);

  const INPUTS = {
    "an empty object": [{}, 5006, neither],
    "undefined": [undefined, 5006, /Type mismatch of '\/'/],
    "null": [null, 5006, /Type mismatch of '\/'/],
    "a string": ["Hello", 5006, /Type mismatch of '\/'/],
    "an array": [[{ prompt: "a" }], 5006, /Type mismatch of '\/'/],
    "both prompt and messages": [{ prompt: "a", messages: [] }, 5006, /oneOf at '\/' not met, 2 matches$/],
    "an empty prompt": [{ prompt: "" }, 5006, unmet("Length of '/prompt' must be >= 1")],
    "a prompt that is not a string": [{ prompt: 42 }, 5006, unmet("Type mismatch of '/prompt', 'string' not in 'integer'")],
    "a prompt of 131073 characters": [{ prompt: "x".repeat(131_073) }, 5006, unmet("Length of '/prompt' must be <= 131072")],
    "messages that are not an array": [{ messages: "hi" }, 5006, unmet("Type mismatch of '/messages', 'array' not in 'string'")],
    "a message without a role": [{ messages: [{ content: "hi" }] }, 5006, unmet("required properties at '/messages/0' are 'role,content'")],
    "content that is not a string": [{ messages: [{ role: "user", content: 1 }] }, 5006, unmet("Type mismatch of '/messages/0/content', 'string' not in 'integer'")],
    "a temperature above 5": [{ prompt: "a", temperature: 5.1 }, 5006, unmet("'/temperature' must be <= 5")],
    "a temperature below 0": [{ prompt: "a", temperature: -1 }, 5006, unmet("'/temperature' must be >= 0")],
    "a temperature that is a string": [{ prompt: "a", temperature: "hot" }, 5006, unmet("Type mismatch of '/temperature', 'number' not in 'string'")],
    "top_k 0": [{ prompt: "a", top_k: 0 }, 5006, unmet("'/top_k' must be >= 1")],
    "top_k 51": [{ prompt: "a", top_k: 51 }, 5006, unmet("'/top_k' must be <= 50")],
    "top_p above 2": [{ prompt: "a", top_p: 2.1 }, 5006, unmet("'/top_p' must be <= 2")],
    "seed 0": [{ prompt: "a", seed: 0 }, 5006, unmet("'/seed' must be >= 1")],
    "a seed that is too large": [{ prompt: "a", seed: 1e10 }, 5006, unmet("'/seed' must be <= 9999999999")],
    "a fractional max_tokens": [{ prompt: "a", max_tokens: 1.5 }, 5006, unmet("Type mismatch of '/max_tokens', 'integer' not in 'number'")],
    "a negative max_tokens": [{ prompt: "a", max_tokens: -1 }, 5006, unmet("'/max_tokens' must be >= 0")],
    "a penalty out of range": [{ prompt: "a", repetition_penalty: 2.1 }, 5006, unmet("'/repetition_penalty' must be <= 2")],
    "stream that is not a boolean": [{ prompt: "a", stream: "yes" }, 5006, unmet("Type mismatch of '/stream', 'boolean' not in 'string'")],
    "a stop string that is not a string": [{ prompt: "a", stop: [1] }, 5006, unmet("Type mismatch of '/stop/0', 'string' not in 'integer'")],
    "an image": [{ prompt: "a", image: [1, 2, 3] }, 5006, /'image' needs a model that reads images/],
    "a batch": [{ requests: [{ prompt: "b" }] }, 5006, /.*set the option queueRequest/],
    "an unknown LoRA adapter": [{ prompt: "a", lora: "mine" }, 5005, /LoRA adapter 'mine' is not known/],
    "a lone surrogate in the prompt": [{ prompt: "a\uD83D" }, 5004, /Invalid data: /],
    "a lone surrogate in a message": [{ messages: [{ role: "user", content: "\uDC00b" }] }, 5004, /Invalid data: /],
    "a cyclic object": [cyclic, 5004, /Invalid data: the input cannot be written as JSON/],
    "a BigInt": [{ prompt: "a", seed: 1n }, 5004, /Invalid data: the input cannot be written as JSON/],
    "deeply nested arrays": [{ prompt: "a", extra: JSON.parse("[".repeat(5000) + "]".repeat(5000)) }, 5004, /Invalid data: /],
  };
  for (const [what, [input, code, says]] of Object.entries(INPUTS)) {
    test(`${what}: ${code}`, async () => {
      await assert.rejects(ai.run(MODEL, input), aiError(code, says));
      await works(ai);
    });
  }

  const STREAMS = {
    "a stream": () => new ReadableStream(),
    "FormData": () => new FormData(),
    "an object that contains a stream": () => ({ audio: { body: new ReadableStream(), contentType: "audio/wav" } }),
    "an object that contains FormData": () => ({ multipart: { body: new FormData() } }),
  };
  for (const [what, make] of Object.entries(STREAMS)) {
    test(`${what} as input: AiInternalError`, async () => {
      await assert.rejects(ai.run(MODEL, make()), internalError);
      await works(ai);
    });
  }

  test("the Ai reports the internal code and the HTTP status of the last error", async () => {
    await assert.rejects(ai.run(MODEL, { prompt: "a", lora: "mine" }));
    assert.deepEqual([ai.lastRequestHttpStatusCode, ai.lastRequestInternalStatusCode], [405, 5005]);
    await assert.rejects(ai.run(MODEL, {}));
    assert.deepEqual([ai.lastRequestHttpStatusCode, ai.lastRequestInternalStatusCode], [400, 5006]);
  });
});

describe("a prompt longer than the context", () => {
  /** Its documented context window is 2048 tokens; the default model has 8192. */
  const WINDOWED = "@cf/meta/llama-2-7b-chat-int8";
  const ai = new Ai({ onWarning() {} });
  const words = (count) => ({ prompt: " a".repeat(count), raw: true });
  const exceeded = (needed, window) =>
    aiError(5021, new RegExp(`The estimated number of input and maximum output tokens \\(${needed}\\) exceeded this model context window limit \\(${window}\\)\\.$`));

  test("precondition: each word is one token", async () => {
    assert.equal((await ai.run(MODEL, { ...words(100), max_tokens: 0 })).usage.prompt_tokens, 100);
  });

  test("5021 with the actual token counts: the prompt and the default max_tokens", async () => {
    await assert.rejects(ai.run(WINDOWED, words(2048)), exceeded(2048 + 256, 2048));
    assert.equal(ai.lastRequestHttpStatusCode, 413);
    await assert.rejects(ai.run(WINDOWED, { ...words(3000), stream: true }), exceeded(3000 + 1800, 2048));
    await assert.rejects(ai.run(MODEL, words(9000)), exceeded(9000 + 256, 8192));
    await works(ai);
  });

  test("5021 where the prompt and the caller's max_tokens exceed the window together", async () => {
    await assert.rejects(ai.run(WINDOWED, { ...words(1000), max_tokens: 1049 }), exceeded(2049, 2048));
    const fits = await ai.run(WINDOWED, { ...words(1000), max_tokens: 1048, stream: true });
    await fits.cancel();
    await works(ai);
  });

  test("5021 for the longest prompt that the schema allows", async () => {
    await assert.rejects(ai.run(MODEL, { prompt: "ab ".repeat(43_690), raw: true }), aiError(5021, /The estimated number/));
    await works(ai);
  });
});

describe("a trap in the WebAssembly instance", () => {
  /** Makes the next `poll` of any request trap. */
  function trapOnce(t, error = new WebAssembly.RuntimeError("unreachable")) {
    const poll = t.mock.method(narrow.glue().Task.prototype, "poll", function () {
      poll.mock.restore();
      throw error;
    });
  }
  const broken = aiError(5004, /This request broke the engine \(.*\), which was restarted; other requests go on/);
  const STORY = { prompt: "Once upon a time", raw: true, temperature: 0, max_tokens: 6 };

  test("is an AiError of the request that it interrupts; the next one works on a new instance", async (t) => {
    const ai = new Ai();
    const expected = await ai.run(MODEL, STORY);
    trapOnce(t);
    await assert.rejects(ai.run(MODEL, STORY), broken);
    assert.deepEqual([ai.lastRequestHttpStatusCode, ai.lastRequestInternalStatusCode], [400, 5004]);
    const again = await ai.run(MODEL, STORY);
    assert.equal(again.response, expected.response);
    assert.equal(again.usage.prompt_tokens_details.cached_tokens, 0, "the instance is new");
    assert.equal((await ai.stats()).models.length, 1);
  });

  test("is an AiError when memory or the stack is exhausted inside wasm", async (t) => {
    const ai = new Ai();
    trapOnce(t, new RangeError("Maximum call stack size exceeded"));
    await assert.rejects(ai.run(MODEL, STORY), broken);
    await works(ai);
  });

  test("other requests in flight are computed again, and complete with the same text", async (t) => {
    const ai = new Ai();
    const other = new Ai();
    await Promise.all([ai.load(), other.load()]);
    const expected = (await ai.run(MODEL, STORY)).response;
    const begun = (await ai.run(MODEL, { ...STORY, stream: true })).getReader();
    await begun.read();
    const unread = await ai.run(MODEL, { ...STORY, stream: true });
    const running = [ai.run(MODEL, STORY), other.run(MODEL, STORY), ai.run(MODEL, { ...STORY, stream: true }).then(readAnswer)];
    await new Promise((resolve) => setTimeout(resolve, 50));
    trapOnce(t);
    const settled = await Promise.allSettled([...running, begun.read().then(() => begun.read()), chunksOf(unread)]);
    const failed = settled.filter(({ status }) => status === "rejected");
    assert.equal(failed.length, 1);
    broken(failed[0].reason);
    const texts = settled.slice(0, 3).filter(({ status }) => status === "fulfilled").map(({ value }) => value.text ?? value.response);
    assert.ok(texts.length >= 2 && texts.every((text) => text === expected), JSON.stringify(texts));
    await unread.cancel().catch(() => {});
    await begun.cancel().catch(() => {});
    assert.equal((await ai.run(MODEL, STORY)).response, expected);
    assert.equal((await other.run(MODEL, STORY)).response, expected, "another Ai in the same process works too");
    assert.equal((await ai.stats()).models[0].active, 0);
  });
});
