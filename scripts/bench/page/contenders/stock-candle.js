// The contender stock candle: candle's Llama, in a Web Worker like the others. It has no tokenizer here, so its prompt consists of
// arbitrary tokens, as many as the text has for the others. It always decodes the full number of requested tokens.

export async function open({ model }) {
  const worker = new Worker("/contenders/stock-candle-worker.js", { type: "module" });
  const call = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.value));
      worker.onerror = (event) => reject(new Error(event.message));
      worker.postMessage(message);
    });
  await call({ call: "load", model: new URL(model, location.href).href });
  return {
    prefixCache: false,
    generate: ({ tokens, maxTokens }) => call({ call: "generate", tokens, maxTokens }),
    memoryBytes: () => call({ call: "memoryBytes" }),
  };
}
