// The Web Worker of the contender stock candle: runs the model and measures its tokens.

import initialise, { Model } from "/peers/stock-candle/stock_candle.js";

/** A token for a position of the prompt. The choice does not affect the time; these are ordinary tokens of the default model. */
const token = (position) => 1000 + ((position * 37) % 20_000);

let wasm;
let model;

const calls = {
  async load({ model: url }) {
    const [exports, response] = await Promise.all([initialise(), fetch(url)]);
    if (!response.ok) throw new Error(`${url}: ${response.status}`);
    wasm = exports;
    model = Model.load(new Uint8Array(await response.arrayBuffer()));
  },
  generate({ tokens: promptTokens, maxTokens }) {
    const begun = performance.now();
    const times = [];
    const came = () => times.push((performance.now() - begun) / 1000);
    model.prefill(Uint32Array.from({ length: promptTokens }, (_, position) => token(position)));
    came();
    for (let count = 1; count < maxTokens; count += 1) {
      model.decode(1);
      came();
    }
    return { times, tokens: times.length, promptTokens, cachedTokens: 0 };
  },
  memoryBytes: () => wasm.memory.buffer.byteLength,
};

addEventListener("message", async ({ data }) => {
  try {
    postMessage({ value: await calls[data.call](data) });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
});
