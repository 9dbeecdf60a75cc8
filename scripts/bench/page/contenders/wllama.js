// The contender wllama (llama.cpp in WebAssembly), used as in its documentation, on the CPU.

/** Context size in tokens: large enough for every prompt of the comparison together with the prefix cache. */
const CONTEXT = 4096;

export async function open({ model, threads }) {
  const memoryBytes = watchMemory();
  const { Wllama } = await import("/peers/wllama/esm/index.js");
  const wllama = new Wllama({ default: "/peers/wllama/esm/wasm/wllama.wasm" }, { suppressNativeLog: true });
  // Its own warm-up would count as load time; the comparison does one anyway.
  await wllama.loadModelFromUrl(new URL(model, location.href).href, { n_threads: threads, n_gpu_layers: 0, n_ctx: CONTEXT, warmup: false });
  return {
    prefixCache: true,
    ran: `${Wllama.getLibllamaVersion()}, ${wllama.getNumThreads()} thread${wllama.getNumThreads() > 1 ? "s" : ""}`,
    memoryBytes,
    async generate({ prompt, maxTokens }) {
      const begun = performance.now();
      const times = [];
      let last;
      await wllama.createCompletion({
        prompt,
        max_tokens: maxTokens,
        temperature: 0,
        top_k: 1,
        stream: true,
        onData(chunk) {
          last = chunk;
          if (chunk.choices[0]?.text) times.push((performance.now() - begun) / 1000);
        },
      });
      const { predicted_n: tokens, prompt_n: computed, cache_n: cachedTokens } = last.timings;
      return { times, tokens, promptTokens: computed + cachedTokens, cachedTokens };
    },
  };
}

/**
 * Makes the size of wllama's memory available. Its memory belongs to a worker that is created from text, and its API does not report the
 * size. So a few lines are prepended to that text: they keep a reference to the memory and answer requests for its size.
 */
function watchMemory() {
  const createObjectUrl = URL.createObjectURL;
  URL.createObjectURL = (blob) => createObjectUrl.call(URL, blob.type === "text/javascript" ? new Blob([`(${watch})();`, blob], { type: blob.type }) : blob);
  const channel = new BroadcastChannel("memory");
  return () =>
    new Promise((resolve) => {
      channel.onmessage = ({ data }) => resolve(data.bytes);
      channel.postMessage("how much?");
    });
}

/** Runs in wllama's worker. */
function watch() {
  let memory;
  const find = (things) => (memory = Object.values(things).find((thing) => thing instanceof WebAssembly.Memory) ?? memory);
  for (const name of ["instantiate", "instantiateStreaming"]) {
    const original = WebAssembly[name];
    WebAssembly[name] = async (source, imports) => {
      Object.values(imports ?? {}).forEach(find);
      const result = await original(source, imports);
      find((result.instance ?? result).exports);
      return result;
    };
  }
  const channel = new BroadcastChannel("memory");
  channel.onmessage = () => channel.postMessage({ bytes: memory?.buffer.byteLength });
}
