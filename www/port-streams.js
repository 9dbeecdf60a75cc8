// Streams of bytes over a MessagePort: the reader asks for each piece, so nothing is computed that nobody reads. Not every browser can transfer a
// ReadableStream itself.

/**
 * Sends a stream to whoever has the other end of the port.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @param {MessagePort} port
 */
export function sendStream(stream, port) {
  const reader = stream.getReader();
  port.onmessage = async ({ data }) => {
    if (data.cancel) return void reader.cancel().catch(() => {});
    try {
      const { done, value } = await reader.read();
      port.postMessage(done ? { done } : { value });
    } catch (thrown) {
      const error = /** @type {any} */ (thrown);
      port.postMessage({ error: { name: error?.name ?? "Error", message: String(error?.message ?? error) } });
    }
  };
}

/**
 * The stream that the other end sends.
 *
 * @param {MessagePort} port
 * @returns {ReadableStream<Uint8Array>}
 */
export function receiveStream(port) {
  return new ReadableStream(
    {
      pull: (controller) =>
        new Promise((resolve) => {
          port.onmessage = ({ data }) => {
            if (data.error) controller.error(Object.assign(new Error(data.error.message), { name: data.error.name }));
            else if (data.done) controller.close();
            else controller.enqueue(data.value);
            resolve();
          };
          port.postMessage({ pull: true });
        }),
      cancel: () => port.postMessage({ cancel: true }),
    },
    { highWaterMark: 0 },
  );
}
