// Server-sent events out of a stream of bytes.

/**
 * The data of each event. Chunks may end anywhere: within an event, a line ending or a character.
 * Whoever leaves the loop early cancels the stream.
 *
 * @param {ReadableStream<Uint8Array>} stream
 */
export async function* eventData(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      // What follows the last blank line is no complete event.
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
    }
  } finally {
    // A stream that has ended or failed takes no harm from it.
    reader.cancel().catch(() => {});
  }
}
