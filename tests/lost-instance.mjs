// What happens to a stream while another request breaks the WebAssembly instance. Runs in every runtime.

/** A long answer of a small model, token by token. */
export const WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split(" ").map((word) => ` ${word}`);

/** What a request's error says after each kind of failure, and how often the instance is replaced: a panic leaves it whole. */
export const FAILURES = {
  panic: { says: /^5004: This request failed because of a bug in workers-ai-local \(a test's panic\)\. Other requests go on\./, replaced: 0 },
  stack: { says: /^5004: This request broke the engine \(.*\), which was restarted; other requests go on\./, replaced: 1 },
  memory: { says: /^5004: This request broke the engine \(.*\), which was restarted; other requests go on\./, replaced: 1 },
};

/**
 * Reads a stream of a model that says `WORDS`; after some chunks, a request on another model breaks the instance.
 *
 * @param {{glue: () => object, epoch: () => number}} instance of `pkg/instance.js`
 * @param {object} counting the `Ai` whose default model says `WORDS`
 * @param {object} other another `Ai`
 * @param {string} model a model id
 * @param {"panic" | "stack" | "memory"} how
 * @returns {Promise<{text: string, error: string, later: string, replaced: number}>} the stream's text, the error of the request that broke
 *   the instance, the answer to the same request afterwards, and how often the instance was replaced
 */
export async function streamWhileAnotherBreaks(instance, counting, other, model, how) {
  const ask = () => other.run(model, { prompt: "Hi" });
  const decoder = new TextDecoder();
  const before = instance.epoch();
  let [text, chunks, error] = ["", 0, "no error"];
  for await (const chunk of await counting.run(model, { prompt: "Count!", stream: true })) {
    text += decoder.decode(chunk, { stream: true });
    chunks += 1;
    if (chunks !== 4) continue;
    await other.load(model);
    instance.glue().failNextPoll(how, 0);
    error = await ask().then(({ response }) => response, ({ message }) => message);
  }
  const events = text.split("\n\n").filter((event) => event.startsWith("data: {"));
  const pieces = events.map((event) => JSON.parse(event.slice("data: ".length)).response);
  return { text: pieces.join(""), error, later: (await ask()).response, replaced: instance.epoch() - before };
}
