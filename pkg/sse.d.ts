// Types of `workers-ai-local/sse`.

/**
 * Yields the data of each server-sent event of a stream, for instance one of `ai.run(model, { stream: true })` or the body of a `Response`:
 * JSON text of a `TextGenerationEvent`, and at the end `"[DONE]"`. Chunks may end anywhere. Leaving the loop early cancels the stream.
 */
export function eventData(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, unknown>;
