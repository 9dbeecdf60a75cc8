// Starts module workers, also from files of another origin (a CDN), which `new Worker` refuses.

/**
 * Whether a module was loaded from another origin than this page or worker.
 *
 * @param {string | URL} url the module's `import.meta.url`
 */
export function isForeign(url) {
  const { protocol, origin } = new URL(url);
  // Some bundlers replace `import.meta.url` by a URL that was never loaded, such as `file:`.
  return /^https?:$/.test(protocol) && origin !== globalThis.origin;
}

/**
 * Starts a worker from another origin: a script of this origin imports the file, which requires CORS of its server.
 *
 * @param {URL} url
 */
export function startForeign(url) {
  const script = URL.createObjectURL(new Blob([`import ${JSON.stringify(url)};`], { type: "text/javascript" }));
  const revoke = () => URL.revokeObjectURL(script);
  try {
    const worker = new Worker(script, { type: "module" });
    // The worker reads the script some time after the constructor has returned.
    for (const event of ["message", "error"]) worker.addEventListener(event, revoke, { once: true });
    return worker;
  } catch (error) {
    revoke();
    throw error;
  }
}

/**
 * Starts a worker from this origin or another one.
 *
 * @param {URL} url
 */
export const startModule = (url) => (isForeign(url) ? startForeign(url) : new Worker(url, { type: "module" }));

/**
 * Starts a worker in the first of several ways that succeeds. A worker has loaded when it sends its first message.
 *
 * @param {(() => Worker)[]} ways
 * @returns {Promise<Worker>}
 * @throws {Error} with the reason of each failure
 */
export async function firstLoaded(ways) {
  const reasons = new Set();
  for (const start of ways) {
    try {
      return await loaded(start());
    } catch (error) {
      reasons.add(error.message);
    }
  }
  throw new Error([...reasons].join("; "));
}

/**
 * @param {Worker} worker
 * @returns {Promise<Worker>} the worker, once it has sent a message
 * @throws {Error} if it cannot be loaded; it is then terminated
 */
export async function loaded(worker) {
  const settled = new AbortController();
  const { signal } = settled;
  try {
    return await new Promise((resolve, reject) => {
      worker.addEventListener("message", () => resolve(worker), { signal });
      worker.addEventListener("error", ({ message }) => reject(new Error(message || "its script could not be loaded")), { signal });
    });
  } catch (error) {
    worker.terminate();
    throw error;
  } finally {
    settled.abort();
  }
}
