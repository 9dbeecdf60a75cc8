// Does one run of one contender in this process and prints its figures as a line of JSON. Started by compare.mjs.

import { measureContender } from "../page/compare.js";

const { module, options, deep } = JSON.parse(process.argv[2]);
const measured = await measureContender(async () => (await import(module)).open(options), { deep });
// Exit explicitly: threads of the contender may still run.
process.stdout.write(`${JSON.stringify(measured)}\n`, () => process.exit());
