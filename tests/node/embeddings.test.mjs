// Embeddings in Node: vectors, forms of input and output, files, errors.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { EMBEDDING_FILES, EMBEDDING_MODEL, assertFinds, cosine, expectedVectors } from "../real-embeddings.mjs";
import { MODEL } from "../real-model.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const TEXT = scriptedModel().bytes;
const quiet = { default: TEXT, onWarning() {} };
const ai = new Ai(quiet);
const json = (response) => response.json();
const post = (path, body) => ai.fetch(`http://localhost${path}`, { method: "POST", body: JSON.stringify(body) });

describe("vectors", () => {
  test("are those of candle natively and of ONNX Runtime", async () => {
    for (const { text, pooling, candle, onnx } of await expectedVectors()) {
      const { shape, data, pooling: used } = await ai.run(EMBEDDING_MODEL, { text, pooling });
      assert.deepEqual([shape, used], [[1, 384], pooling]);
      assert.ok(cosine(data[0], candle) >= 0.999999, `${text}: ${cosine(data[0], candle)}`);
      assert.ok(cosine(data[0], onnx) >= 0.999999, `${text}: ${cosine(data[0], onnx)}`);
      assert.ok(Math.abs(Math.hypot(...data[0]) - 1) < 1e-5);
    }
  });

  test("find what they should", async () => {
    await assertFinds(async (text) => (await ai.run("@cf/baai/bge-small-en-v1.5", { text })).data);
  });

  test("100 texts in one request are in their order", async () => {
    const text = Array.from({ length: 100 }, (_, number) => `This is sentence number ${number}${", and so on".repeat(number % 7)}.`);
    const { shape, data, pooling } = await ai.run(EMBEDDING_MODEL, { text });
    assert.deepEqual([shape, data.length, pooling], [[100, 384], 100, "mean"]);
    for (const number of [0, 13, 99]) {
      const alone = await ai.run(EMBEDDING_MODEL, { text: text[number] });
      assert.ok(cosine(alone.data[0], data[number]) > 0.999999, `${number}`);
    }
  });

  test("several requests at once do not disturb each other", async () => {
    const texts = Array.from({ length: 6 }, (_, number) => `Text ${number}. `.repeat(20 + number));
    const alone = [];
    for (const text of texts) alone.push((await ai.run(EMBEDDING_MODEL, { text })).data[0]);
    const together = await Promise.all(texts.map((text) => ai.run(EMBEDDING_MODEL, { text })));
    assert.deepEqual(together.map(({ data }) => data[0]), alone);
  });
});

describe("forms", () => {
  test("a query with contexts gives scores", async () => {
    const contexts = [{ text: "Rain is expected tomorrow." }, { text: "Cats sleep most of the day." }];
    const { response } = await ai.run("@cf/baai/bge-m3", { query: "What will the weather be like?", contexts });
    assert.deepEqual(response.map(({ id }) => id), [0, 1]);
    assert.ok(response[0].score > response[1].score + 0.2, JSON.stringify(response));
    const embedded = await ai.run("@cf/baai/bge-m3", { contexts });
    assert.deepEqual([embedded.shape, embedded.response.length], [[2, 384], 2]);
  });

  test("a raw response names the file", async () => {
    const response = await ai.run(EMBEDDING_MODEL, { text: "Hi" }, { returnRawResponse: true });
    assert.match(response.headers.get("workers-ai-local-model"), /all-MiniLM-L6-v2\/model\.safetensors$/);
    assert.deepEqual((await response.json()).shape, [1, 384]);
  });

  test("REST and the binding's wire", async () => {
    const { result, success } = await json(await post(`/client/v4/accounts/a/ai/run/${EMBEDDING_MODEL}`, { text: ["a", "b"] }));
    assert.deepEqual([success, result.shape, result.pooling], [true, [2, 384], "mean"]);
    const wire = await ai.fetch("https://workers-binding.ai/run?version=3", {
      method: "POST",
      headers: { "cf-consn-model-id": EMBEDDING_MODEL },
      body: JSON.stringify({ inputs: { text: ["a", "b"] }, options: {} }),
    });
    assert.deepEqual(await json(wire), result);
    const schema = await json(await ai.fetch(`http://localhost/client/v4/accounts/a/ai/models/schema?model=${EMBEDDING_MODEL}`));
    assert.equal(schema.result.input.properties.text.oneOf[1].maxItems, 100);
  });

  test("OpenAI's embeddings, as numbers and as base64", async () => {
    for (const path of ["/v1/embeddings", "/client/v4/accounts/a/ai/v1/embeddings"]) {
      const { data } = await ai.run(EMBEDDING_MODEL, { text: ["Hello", "there"] });
      const answer = await json(await post(path, { model: EMBEDDING_MODEL, input: ["Hello", "there"], dimensions: 384 }));
      assert.deepEqual(answer, {
        object: "list",
        data: data.map((embedding, index) => ({ object: "embedding", index, embedding })),
        model: EMBEDDING_MODEL,
        // [CLS] Hello [SEP] and [CLS] there [SEP]
        usage: { prompt_tokens: 6, total_tokens: 6 },
      });
      const encoded = await json(await post(path, { model: EMBEDDING_MODEL, input: "Hello", encoding_format: "base64" }));
      const bytes = new Uint8Array(Buffer.from(encoded.data[0].embedding, "base64"));
      assert.deepEqual([...new Float32Array(bytes.buffer)], data[0]);
    }
  });

  test("models are listed", async () => {
    const listed = await ai.models({ task: "Text Embeddings" });
    assert.ok(listed.some(({ name }) => name === EMBEDDING_MODEL));
    assert.ok(listed.every(({ task }) => task.id === "0137cdcf-162a-4108-94f2-1ca59e8c65ee"));
    const { data } = await json(await ai.fetch("http://localhost/v1/models"));
    assert.ok(data.some(({ id }) => id === EMBEDDING_MODEL));
    assert.equal((await ai.fetch(`http://localhost/v1/models/${EMBEDDING_MODEL}`)).status, 200);
  });
});

describe("models", () => {
  test("the stand-in answers with one warning for each id", async () => {
    const warnings = [];
    const ai = new Ai({ default: TEXT, onWarning: (text) => warnings.push(text) });
    for (const text of ["a", "b"]) await ai.run(EMBEDDING_MODEL, { text });
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /bge-base-en-v1\.5 has no local weights; .*all-MiniLM-L6-v2.* with vectors of 384 numbers/);
  });

  test("with strict only configured ids are answered", async () => {
    const models = { "@cf/own/embeddings": EMBEDDING_FILES };
    const warnings = [];
    const ai = new Ai({ default: TEXT, models, strict: true, onWarning: (text) => warnings.push(text) });
    assert.deepEqual((await ai.run("@cf/own/embeddings", { text: "a" })).shape, [1, 384]);
    assert.deepEqual((await ai.load("@cf/own/embeddings")), { model: EMBEDDING_FILES.weights, backend: "cpu", reason: null });
    const unknown = { message: `5007: No such model ${EMBEDDING_MODEL} or task` };
    for (const input of [{ text: "a" }, {}]) await assert.rejects(ai.run(EMBEDDING_MODEL, input), unknown);
    await assert.rejects(ai.load(EMBEDDING_MODEL), unknown);
    assert.deepEqual(warnings, []);
    const { data } = await json(await ai.fetch("http://localhost/v1/models"));
    assert.ok(data.some(({ id }) => id === "@cf/own/embeddings"));
  });

  test("files are bytes too, and are compared with their SHA-256", async () => {
    const [weights, config, tokenizer] = await Promise.all(Object.values(EMBEDDING_FILES).map((file) => readFile(file)));
    const ai = new Ai({ ...quiet, defaultEmbeddings: { weights, config, tokenizer } });
    assert.deepEqual((await ai.run(EMBEDDING_MODEL, { text: "a" })).shape, [1, 384]);
    const sha256 = "0".repeat(64);
    const wrong = new Ai({ ...quiet, defaultEmbeddings: { weights, config: { name: "wrong", sha256, open: opening(config) }, tokenizer } });
    await assert.rejects(wrong.run(EMBEDDING_MODEL, { text: "a" }), /^AiError: 5004: .*wrong is not the expected file: its SHA-256 is 953f9c0d/);
    const damaged = new Ai({ ...quiet, defaultEmbeddings: { weights: { name: "damaged", sha256, open: opening(weights) }, config, tokenizer } });
    await assert.rejects(damaged.run(EMBEDDING_MODEL, { text: "a" }), /damaged is not the expected file: its SHA-256 is 53aa5117/);
  });

  test("a reading goes on after a lost connection", async () => {
    const [weights, config, tokenizer] = await Promise.all(Object.values(EMBEDDING_FILES).map((file) => readFile(file)));
    const starts = [];
    const open = async (offset) => {
      starts.push(offset);
      const stream = await opening(weights)(offset);
      let pieces = 0;
      return {
        ...stream,
        async read() {
          if (starts.length < 3 && (pieces += 1) > 4) throw new Error("gone");
          return stream.read();
        },
      };
    };
    const ai = new Ai({ ...quiet, defaultEmbeddings: { weights: { name: "unsteady", open }, config, tokenizer } });
    const expected = (await expectedVectors())[0];
    assert.ok(cosine((await ai.run(EMBEDDING_MODEL, { text: expected.text })).data[0], expected.candle) > 0.999999);
    assert.deepEqual(starts, [0, 4 << 20, 8 << 20]);
  });

  test("other files are clear errors", async () => {
    const { config, tokenizer } = EMBEDDING_FILES;
    const refused = async (defaultEmbeddings, pattern) => {
      await assert.rejects(new Ai({ ...quiet, defaultEmbeddings }).run(EMBEDDING_MODEL, { text: "a" }), pattern);
    };
    await refused(TEXT, /^AiError: 5004: .* generates text \(it has no 'llama\.pooling_type'\), and this id is one of an embedding model\. Use a GGUF of an embedding model\.$/);
    await refused({ weights: EMBEDDING_FILES.weights }, /5004: .*weights as safetensors need config\.json and tokenizer\.json too/);
    await refused({ weights: new TextEncoder().encode("GGUF????") }, /5004: The embedding model .* cannot be used: the file ends within its header/);
    await refused({ weights: new TextEncoder().encode("<html>Not found</html>"), config, tokenizer }, /5004: .*neither safetensors nor GGUF/);
    await refused({ weights: "./missing.safetensors", config, tokenizer }, /3042: The model file \.\/missing\.safetensors was not found/);
    await refused({ weights: EMBEDDING_FILES.weights, config: tokenizer, tokenizer }, /5004: .*config\.json cannot be used/);
    assert.throws(() => new Ai({ models: { "@cf/own/model": { weights: 1 } } }), /models\["@cf\/own\/model"\]\.weights is not a model file/);
    assert.throws(() => new Ai({ defaultEmbeddings: [config] }), /defaultEmbeddings is a list/);
  });
});

describe("errors", () => {
  const rejects = (input, message, model = EMBEDDING_MODEL) => assert.rejects(ai.run(model, input), { name: "AiError", message });

  test("invalid inputs", async () => {
    await rejects({}, "5006: required properties at '/' are 'text'");
    await rejects({ messages: [] }, "5006: required properties at '/' are 'text'");
    await rejects({ text: 7 }, "5006: Type mismatch of '/text', 'string' not in 'integer'");
    await rejects({ text: "" }, "5006: Length of '/text' must be >= 1");
    await rejects({ text: Array(101).fill("a") }, "5006: Length of '/text' must be <= 100, but it has 101 texts");
    await rejects({ text: "a", pooling: "max" }, "5006: '/pooling' must be one of 'mean', 'cls'");
    await rejects({ requests: [{ text: "a" }] }, /^5006: .*queueRequest/);
    await rejects({ text: "a" }, "5007: No such model @cf/baai/bge-base-en-v1.6 or task. Did you mean @cf/baai/bge-base-en-v1.5?", "@cf/baai/bge-base-en-v1.6");
  });

  test("OpenAI's errors", async () => {
    const refused = async (body, message, status = 400) => {
      const response = await post("/v1/embeddings", body);
      assert.deepEqual([response.status, (await response.json()).error.message], [status, message]);
    };
    const model = EMBEDDING_MODEL;
    await refused({ input: "a" }, "5006: required properties at '/' are 'model': name a model, for instance @cf/baai/bge-base-en-v1.5");
    await refused({ model }, "5006: required properties at '/' are 'input'");
    await refused({ model, input: [1, 2] }, "5006: '/input' has tokens, which belong to another model's vocabulary. Send texts");
    await refused({ model, input: [[1, 2]] }, "5006: '/input' has tokens, which belong to another model's vocabulary. Send texts");
    await refused({ model, input: "a", encoding_format: "hex" }, "5006: '/encoding_format' must be one of 'float', 'base64'");
    await refused({ model, input: "a", dimensions: 100 }, "5006: '/dimensions' is 100, and the vectors of this model have 384. Leave it out");
    await refused({ model: MODEL, input: "a" }, `5006: ${MODEL} generates text, and this request is for an embedding model`);
    assert.equal((await ai.fetch("http://localhost/v1/embeddings")).status, 405);
  });

  test("an aborted request ends", async () => {
    const text = Array.from({ length: 100 }, (_, number) => `Sentence ${number}. `.repeat(40));
    const before = performance.now();
    await assert.rejects(ai.run(EMBEDDING_MODEL, { text }, { signal: AbortSignal.timeout(200) }), { name: "TimeoutError" });
    // One batch takes less than that, and all of them take far longer.
    assert.ok(performance.now() - before < 5_000);
    assert.deepEqual((await ai.run(EMBEDDING_MODEL, { text: "a" })).shape, [1, 384]);
  });

  test("a closed Ai refuses", async () => {
    const ai = new Ai(quiet);
    await ai.run(EMBEDDING_MODEL, { text: "a" });
    await ai.close();
    await assert.rejects(ai.run(EMBEDDING_MODEL, { text: "a" }), { name: "AiInternalError" });
  });
});

describe("in place of the model", () => {
  test("a recorded answer is given again without a model", async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-record-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const first = await new Ai({ ...quiet, record: { folder, mode: "auto" } }).run(EMBEDDING_MODEL, { text: "a" });
    const ai = new Ai({ ...quiet, defaultEmbeddings: "/no/such/model.gguf", record: { folder, mode: "replay" } });
    const again = await ai.run(EMBEDDING_MODEL, { text: "a" });
    // A number in JSON has more digits than the single precision of a vector.
    const single = ({ data, ...others }) => ({ ...others, data: data.map((vector) => vector.map(Math.fround)) });
    assert.deepEqual(single(again), single(first));
    await assert.rejects(ai.run(EMBEDDING_MODEL, { text: "b" }), /5004: .*no recorded answer/);
  });

  test("a batch", async () => {
    const { request_id } = await ai.run(EMBEDDING_MODEL, { requests: [{ text: "a" }, { text: ["b", "c"] }, { text: 5 }] }, { queueRequest: true });
    let batch;
    do {
      await new Promise((resolve) => setTimeout(resolve, 20));
      batch = await ai.run(EMBEDDING_MODEL, { request_id });
    } while (!batch.responses);
    assert.deepEqual(batch.responses.map(({ success, result }) => [success, result.shape]), [[true, [1, 384]], [true, [2, 384]], [false, undefined]]);
  });

  test("a script answers with its json", async () => {
    const answer = { shape: [1, 2], data: [[0.6, 0.8]], pooling: "mean" };
    const ai = new Ai({ script: [{ model: EMBEDDING_MODEL, json: answer }, { text: "Hi" }] });
    assert.deepEqual(await ai.run(EMBEDDING_MODEL, { text: "a" }), answer);
    await assert.rejects(ai.run("@cf/baai/bge-m3", { text: "a" }), /5004: The script answers with text/);
  });
});

/** A custom source's `open` over bytes. */
function opening(bytes) {
  return async (offset) => ({
    size: bytes.length,
    async read() {
      const piece = bytes.subarray(offset, offset + (1 << 20));
      offset += piece.length;
      return piece.length > 0 ? piece : undefined;
    },
    cancel() {},
  });
}
