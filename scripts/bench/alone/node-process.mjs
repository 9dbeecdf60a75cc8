// Does one cold run in this process and prints its figures as a line of JSON. Started by node.mjs.

import { measure } from "../page/measure.js";

const start = async () => {
  const { Ai } = await import("workers-ai-local");
  return new Ai();
};
const measured = await measure(start, Number(process.argv[2]));
console.log(JSON.stringify({ node: process.version, ...measured }));
