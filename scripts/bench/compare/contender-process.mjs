// One run of one contender in this process: prints its figures as a line of JSON. Started by compare.mjs.

import { measureContender } from "../page/compare.js";

const { module, options, deep } = JSON.parse(process.argv[2]);
const measured = await measureContender(async () => (await import(module)).open(options), { deep });
// The contender's threads may still be there.
process.stdout.write(`${JSON.stringify(measured)}\n`, () => process.exit());
