// The package as a contender: every build in Chromium and in Node, and the builds without threads in workerd, which has none.

import { ensureLocalBucket } from "../../setup/local-bucket.mjs";
import { ensureModel } from "../../setup/model.mjs";

/** Builds and their numbers of threads. The builds with threads use two, like the other packages, and as small machines have. */
const BUILDS = [
  ["simd128", 1],
  ["relaxed", 1],
  ["threads", 2],
  ["relaxed-threads", 2],
];

const named = (build, threads) => `${build}, ${threads} thread${threads > 1 ? "s" : ""}`;

export const inChromium = BUILDS.map(([build, threads]) => ({
  id: `ours-${build}`,
  name: `workers-ai-local ${named(build, threads)}`,
  page: { module: "ours.js", options: { entry: "/pkg/browser.js", build, threads } },
}));

export const inNode = BUILDS.map(([build, threads]) => ({
  id: `node-ours-${build}`,
  name: `Node: workers-ai-local ${named(build, threads)}`,
  process: { module: "../page/contenders/ours.js", options: { entry: "workers-ai-local", build, threads } },
}));

export const inWorkerd = BUILDS.filter(([, threads]) => threads === 1).map(([build, threads]) => ({
  id: `workerd-ours-${build}`,
  name: `workerd: workers-ai-local ${named(build, threads)}`,
  prepare: async () => ensureLocalBucket(await ensureModel()),
  process: { module: "./workerd-contender.mjs", options: { build } },
}));
