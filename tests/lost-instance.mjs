// What happens to a stream while another request breaks the WebAssembly instance. Runs in every runtime.

/** A long answer of a small model, token by token. */
export const WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split(" ").map((word) => ` ${word}`);

/**
 * Makes the next `poll` of any request fail inside wasm: the request that is polled breaks the instance, or the one with the given ticket, if
 * the engine works for that one.
 */
export function failOnce(glue, how, ticket = 0) {
  const { prototype } = glue().Task;
  const { poll } = prototype;
  prototype.poll = function () {
    prototype.poll = poll;
    return glue().fail(how, ticket);
  };
}

/**
 * Reads a stream of a model that says `WORDS`; after some chunks, a request on another model breaks the instance.
 *
 * @param {() => object} glue of `pkg/instance.js`
 * @param {object} counting the `Ai` whose default model says `WORDS`
 * @param {object} other another `Ai`
 * @param {string} model a model id
 * @param {"panic" | "stack" | "memory"} how
 * @returns {Promise<{text: string, error: string, later: string}>} the stream's text, the error of the request that broke the instance, and
 *   the answer to the same request afterwards
 */
export async function streamWhileAnotherBreaks(glue, counting, other, model, how) {
  const ask = () => other.run(model, { prompt: "Hi" });
  const decoder = new TextDecoder();
  let [text, chunks, error] = ["", 0, "no error"];
  for await (const chunk of await counting.run(model, { prompt: "Count!", stream: true })) {
    text += decoder.decode(chunk, { stream: true });
    chunks += 1;
    if (chunks !== 4) continue;
    await other.load(model);
    failOnce(glue, how);
    error = await ask().then(({ response }) => response, ({ message }) => message);
  }
  const events = text.split("\n\n").filter((event) => event.startsWith("data: {"));
  const pieces = events.map((event) => JSON.parse(event.slice("data: ".length)).response);
  return { text: pieces.join(""), error, later: (await ask()).response };
}
