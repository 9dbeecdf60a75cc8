// `node scripts/bench/embeddings/compare.mjs FOLDER`: sentences per second of this package beside transformers.js, over ONNX Runtime natively and in
// WebAssembly, in turns in one process.
//
// FOLDER has node_modules/ with @huggingface/transformers, and models/minilm/ with config.json, tokenizer.json, tokenizer_config.json and
// onnx/model.onnx (onnx.py) of the embedding model.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { Ai } from "workers-ai-local";
import { pathToFileURL } from "node:url";
import { EMBEDDING_MODEL, cosine } from "../../../tests/real-embeddings.mjs";

const ROUNDS = 3;
const folder = path.resolve(process.argv[2] ?? ".");
const require = createRequire(path.join(folder, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const prose = await readFile(new URL("../../../tests/fixtures/prose.txt", import.meta.url), "utf8");
const sentences = prose.split(/(?<=[.!?])\s+/).filter((sentence) => sentence.length > 20);
const texts = Array.from({ length: 100 }, (_, index) => sentences[index % sentences.length]);

const ai = new Ai({ onWarning() {} });
const ours = async (text) => (await ai.run(EMBEDDING_MODEL, { text })).data;

const { AutoTokenizer, env, pipeline } = await load("@huggingface/transformers");
Object.assign(env, { localModelPath: path.join(folder, "models"), allowRemoteModels: false });

/** transformers.js as programs in Node use it. */
async function native(threads) {
  const extract = await pipeline("feature-extraction", "minilm", { dtype: "fp32", session_options: { intraOpNumThreads: threads } });
  return async (texts) => (await extract(texts, { pooling: "mean", normalize: true })).tolist();
}

/** What it does in a browser: the same tokenizer, and ONNX Runtime in WebAssembly. */
async function inWasm() {
  const ort = await load("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(await readFile(path.join(folder, "models/minilm/onnx/model.onnx")));
  const tokenizer = await AutoTokenizer.from_pretrained("minilm");
  return async (texts) => {
    const tokens = tokenizer(texts, { padding: true, truncation: true });
    const feeds = Object.fromEntries(Object.entries(tokens).map(([name, { data, dims }]) => [name, new ort.Tensor("int64", data, dims)]));
    const { last_hidden_state: hidden } = await session.run(feeds);
    const [count, length, width] = hidden.dims;
    return Array.from({ length: count }, (_, text) => {
      const sum = new Float64Array(width);
      for (let token = 0; token < length; token += 1) {
        if (!tokens.attention_mask.data[text * length + token]) continue;
        for (let at = 0; at < width; at += 1) sum[at] += hidden.data[(text * length + token) * width + at];
      }
      const norm = Math.hypot(...sum);
      return Array.from(sum, (value) => value / norm);
    });
  };
}

const peers = {
  "workers-ai-local, one thread": ours,
  "transformers.js natively, one thread": await native(1),
  "transformers.js natively, all cores": await native(0),
  "its ONNX Runtime in WebAssembly, one thread": await inWasm(),
};
const kinds = { "100 in one request": async (embed) => embed(texts), "one after the other": async (embed) => { for (const text of texts.slice(0, 25)) await embed([text]); } };
const sizes = { "100 in one request": 100, "one after the other": 25 };

const expected = await ours(texts);
for (const [name, embed] of Object.entries(peers)) {
  // Also a warm-up: engines compile what runs often.
  const least = Math.min(...(await embed(texts)).map((vector, index) => cosine(vector, expected[index])));
  if (!(least > 0.9999)) throw new Error(`${name} has other vectors: ${least}`);
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
for (const [kind, work] of Object.entries(kinds)) {
  const rates = Object.fromEntries(Object.keys(peers).map((name) => [name, []]));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, embed] of Object.entries(peers)) {
      const start = performance.now();
      await work(embed);
      rates[name].push((sizes[kind] / (performance.now() - start)) * 1000);
    }
  }
  console.log(`\n${kind}: sentences per second, median of ${ROUNDS} rounds (least, most)`);
  for (const [name, values] of Object.entries(rates)) {
    console.log(`  ${name.padEnd(46)} ${median(values).toFixed(1).padStart(6)}  (${Math.min(...values).toFixed(1)}, ${Math.max(...values).toFixed(1)})`);
  }
}
