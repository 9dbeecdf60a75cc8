// A strict parser for the server-sent events of the binding's streams.

import assert from "node:assert/strict";

/** Reads a stream to its end and returns all its chunks of bytes. */
export async function chunksOf(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/**
 * The payloads of complete events. Checks that the input is valid UTF-8 and that each event is exactly one line `data: …` and an empty
 * line.
 */
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

/** The values of a whole stream's events, without the last one, which is `[DONE]`. */
export function valuesIn(...chunks) {
  const events = eventsIn(...chunks);
  assert.equal(events.pop(), "[DONE]");
  return events.map((event) => JSON.parse(event));
}

/** Reads a stream to its end and parses it with `valuesIn`. */
export const readValues = async (stream) => valuesIn(...(await chunksOf(stream)));

/**
 * The content of a whole stream: its pieces of text, and the fields of the usage event. Checks the documented order: pieces, one usage
 * event, `[DONE]`.
 */
export function answerIn(...chunks) {
  const parsed = valuesIn(...chunks);
  const last = parsed.at(-1);
  assert.ok(last?.usage, "the last event before [DONE] has the usage");
  for (const event of parsed) assert.equal(typeof event.response, "string", "every event has a string response");
  for (const event of parsed.slice(0, -1)) assert.equal(event.usage, undefined, "only the last event has the usage");
  return { pieces: parsed.slice(0, -1).map(({ response }) => response), text: parsed.map(({ response }) => response).join(""), ...last };
}

/** Reads a stream to its end and parses it with `answerIn`. */
export const readAnswer = async (stream) => answerIn(...(await chunksOf(stream)));
