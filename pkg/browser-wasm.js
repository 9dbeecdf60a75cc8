// Compiles the package's modules in browsers.

import { AiInternalError } from "./errors.js";

const ELSEWHERE = "If it is elsewhere, set the option `wasmUrl`.";

/** @param {URL} wasm */
export async function compile(wasm) {
  const response = await fetch(wasm);
  if (!response.ok) throw new AiInternalError(`${wasm} cannot be loaded: ${response.status} ${response.statusText}. ${ELSEWHERE}`);
  const type = response.headers.get("content-type") ?? "";
  // Servers of single-page apps answer with their page instead of 404.
  if (type.startsWith("text/html")) throw new AiInternalError(`${wasm} is a page of HTML, not WebAssembly: the server does not have the file. ${ELSEWHERE}`);
  // Some servers do not send the content type, and some browsers cannot compile from a stream.
  const canStream = type.startsWith("application/wasm") && WebAssembly.compileStreaming;
  return canStream ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}
