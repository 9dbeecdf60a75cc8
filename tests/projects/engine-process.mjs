// A process with an engine, for engine.test.mjs: sends how its server is reached, and on "load" which process has the engine. With `SLOW` it answers
// late: all of an answer, or what follows the first piece of a stream.

import { Ai } from "../../pkg/node.js";
import { localEngine } from "../../pkg/dev/engine.js";

const { SLOW } = process.env;
if (SLOW) {
  const answer = Ai.prototype.fetch;
  const never = new Promise(() => {});
  Ai.prototype.fetch = async function (...request) {
    if (SLOW === "1") await never;
    const { status, headers, body } = await answer.apply(this, request);
    const reader = body.getReader();
    let pieces = 0;
    const pull = async (controller) => {
      if (pieces++ > 0) await never;
      controller.enqueue((await reader.read()).value);
    };
    return new Response(new ReadableStream({ pull }), { status, headers });
  };
}

const engine = await localEngine({ ...JSON.parse(process.argv[2]), onWarning() {} });
process.on("message", async () => process.send((await engine.load().catch((error) => ({ error: error.message }))).pid));
process.on("disconnect", () => process.exit());
process.send(engine.link);
// The channel keeps the process running, its server does not.
