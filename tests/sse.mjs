// Reading what a stream of the binding brings, as strictly as its grammar is.

import assert from "node:assert/strict";

/** Every chunk of bytes of a stream, until it ends. */
export async function chunksOf(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/** The payloads of whole events: each is one line `data: …` and an empty line, in valid UTF-8, and nothing else. */
export function eventsIn(...chunks) {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const text = chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join("") + decoder.decode();
  if (text === "") return [];
  assert.ok(text.endsWith("\n\n"), `an event ends with an empty line: ${JSON.stringify(text.slice(-40))}`);
  return text
    .slice(0, -2)
    .split("\n\n")
    .map((event) => {
      const line = /^data: ([^\r\n]+)$/.exec(event);
      assert.ok(line, `an event is one line of data: ${JSON.stringify(event)}`);
      return line[1];
    });
}

/**
 * A whole stream: the pieces of text, and what the usage event says. Checks that it ends as documented: pieces, one
 * usage event, `[DONE]`.
 */
export function answerIn(...chunks) {
  const events = eventsIn(...chunks);
  assert.equal(events.at(-1), "[DONE]");
  const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
  const last = parsed.at(-1);
  assert.ok(last?.usage, "the last event before [DONE] has the usage");
  for (const event of parsed) assert.equal(typeof event.response, "string", "every event has a string response");
  for (const event of parsed.slice(0, -1)) assert.equal(event.usage, undefined, "only the last event has the usage");
  return { pieces: parsed.slice(0, -1).map(({ response }) => response), text: parsed.map(({ response }) => response).join(""), ...last };
}

/** `answerIn` of a stream that is read to its end. */
export const readAnswer = async (stream) => answerIn(...(await chunksOf(stream)));
