// In workerd: `import { Ai } from "workers-ai-local"` inside a Worker of one's own.

import { waitUntil } from "cloudflare:workers";
import wasm from "./wasm/workers_ai_local_bg.wasm";
import { initSync } from "./wasm/workers_ai_local.js";
import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { LocalEngine } from "./local-engine.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

export class Ai extends BaseAi {
  constructor(config = {}) {
    super(new LocalEngine(() => void initSync({ module: wasm }), { default: DEFAULT_MODEL.url, ...config }));
  }

  async run(model, inputs, options) {
    const answer = await super.run(model, inputs, options);
    if (answer instanceof ReadableStream) return native(answer);
    const streams = answer instanceof Response && answer.headers.get("content-type") === "text/event-stream";
    return streams ? new Response(native(answer.body), answer) : answer;
  }
}

/**
 * The same bytes through a stream of workerd's own. Only such a stream tells its source when a client leaves; a stream
 * made in JavaScript is just never read again, and its request would stay.
 */
function native(stream) {
  const { readable, writable } = new IdentityTransformStream();
  // A client that leaves, or an answer that fails, ends both sides; there is nobody else to tell. The request must last
  // until then, even when its client is gone: it is what notices.
  waitUntil(stream.pipeTo(writable).catch(() => {}));
  return readable;
}
