// `npm start`: sets up, makes the one build that it uses, and starts the example Workers and the playground.

import { DEFAULT_MODEL } from "../pkg/default-model.js";
import { build } from "./build.mjs";
import { startDevWorker } from "./dev-worker.mjs";
import { portFrom, requirePort } from "./lib/ports.mjs";
import { UserError, main, say } from "./lib/report.mjs";
import { startPlayground } from "./playground.mjs";
import { ensureLocalBucket } from "./setup/local-bucket.mjs";
import { ensureModel } from "./setup/model.mjs";
import { ensurePackages } from "./setup/packages.mjs";

/** workerd can run no build with threads. The playground uses those too where `npm run build` has made them. */
const BUILD = "simd128";

async function modelInBucket() {
  const modelPath = await ensureModel();
  await ensureLocalBucket(modelPath);
  return modelPath;
}

await main(async () => {
  const port = portFrom("PORT", 8787);
  const playgroundPort = portFrom("PLAYGROUND_PORT", 8788);
  // Checked first, before the steps that take minutes.
  await requirePort(port, "PORT");
  await requirePort(playgroundPort, "PLAYGROUND_PORT");

  await ensurePackages();
  // The download and the compilation hardly compete.
  const [modelPath] = await Promise.all([modelInBucket(), build([BUILD])]);

  say("Starting the example Workers …");
  const worker = await startDevWorker({ port });
  const playground = await startPlayground({ port: playgroundPort, modelPath });

  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    await Promise.all([worker.stop(), playground.close()]);
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, stop);

  console.log(`
  workers-ai-local runs on this machine with ${DEFAULT_MODEL.file}

    Example Worker, streams SSE    ${worker.url}/
    Example Worker, one object     ${worker.url}/object
    EventSource in a page          ${worker.url}/snippet
    Playground                     ${playground.url}/

    Try:  curl -N ${worker.url}/

  Ctrl+C stops.
`);

  await worker.exited;
  if (!stopping) {
    await playground.close();
    throw new UserError("wrangler dev ended by itself");
  }
});
