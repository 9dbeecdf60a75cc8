// What the lines of a test runner say: how many tests passed, and which failed with what.

/** How a runner writes its results. `passed`: the line with their number. `failures` … `end`: the lines about those that failed. */
const RUNNERS = {
  node: { passed: /^ℹ pass (\d+)/, failures: /^✖ failing tests:/, end: null },
  cargo: { passed: /^test result: \w+\. (\d+) passed/, failures: /^failures:/, end: /^test result:/ },
};

/** So many lines about failures are kept of a step: the first ones, because a first failure often causes the next. */
const LINES_KEPT = 100;
const CHARACTERS_KEPT = 400;
/** Lines of a stack trace in Node itself. */
const INTERNAL = /\(?node:(internal|async_hooks)/;

/**
 * Returns the function that takes each line of a runner: it prints it, counts tests that passed in `results.tests`, and keeps what is said of those
 * that failed in `results.failures`, which the end of a long log can repeat.
 *
 * @param {"node" | "cargo"} runner
 * @param {{tests: number, failures: string[], label?: string}} results `label`: what each line begins with, if several runners print at once
 */
export function follow(runner, results) {
  const { passed, failures, end } = RUNNERS[runner];
  let failing = false;
  return (line) => {
    console.log(`${results.label ?? ""}${line}`);
    const count = passed.exec(line);
    if (count) results.tests += Number(count[1]);
    if (failures.test(line)) failing = true;
    else if (end?.test(line)) failing = false;
    else if (failing && line.trim() && !INTERNAL.test(line) && results.failures.length < LINES_KEPT) results.failures.push(line.slice(0, CHARACTERS_KEPT));
  };
}
