// The tab in which a Worker is typed and run: editor, request, response.

import { CodeEditor } from "./code-editor.js";
import { weights } from "./code-samples.js";
import { copy, element, make, messageOf } from "./dom.js";
import { indented } from "./json-check.js";
import { codeBlock } from "./markdown.js";
import { recall, remember } from "./store.js";
import { WORKER_EXAMPLES } from "./worker-examples.js";
import { WorkerFailure, runWorker } from "./worker-host.js";

/**
 * @import { Place } from "./browser-place.js"
 * @import { Answer } from "./worker-host.js"
 */

const ORIGIN = "http://worker.local";
const WITH_BODY = ["POST", "PUT"];
const OWN = "own";
/** A model id in code. */
const ID = /@[\w-]+\/[\w./-]+/g;
/** More than anybody reads; a Worker can write without an end. */
const MAX_SHOWN = 200_000;
const MAX_LOG = 500;

const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (element(id));

export class WorkerTab {
  #place;
  #editor = new CodeEditor("Code of the Worker");
  #choice = element("worker-example", HTMLSelectElement);
  #response = element("worker-response");
  #log = make("pre", { className: "log", role: "log", ariaLabel: "Console", tabIndex: 0 });
  /** The run that goes on. @type {AbortController | null} */
  #running = null;

  /** @param {{place: () => Place | null}} options */
  constructor({ place }) {
    this.#place = place;
    element("worker-editor").append(this.#editor.element);
    this.#choice.append(...WORKER_EXAMPLES.map(({ title }, index) => new Option(title, String(index))), new Option("Your own", OWN));
    const own = recall("worker");
    if (own) this.#openOwn(own);
    else this.#openExample(0);
    this.#choice.addEventListener("change", () => (this.#choice.value === OWN ? this.#openOwn(recall("worker") ?? this.#editor.value) : this.#openExample(Number(this.#choice.value))));
    this.#editor.onChange = () => {
      this.#choice.value = OWN;
      remember("worker", this.#editor.value);
      this.#editor.mark(undefined);
    };
    element("worker-method").addEventListener("change", () => this.#showBody());
    element("worker-request").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run();
    });
    element("worker").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.#run();
    });
    element("worker-take").addEventListener("toggle", () => this.show());
    element("worker-stop").addEventListener("click", () => this.#running?.abort());
    element("worker-copy").addEventListener("click", () => copy(this.#editor.value, element("worker-copy", HTMLButtonElement)));
  }

  /** Opens code that comes from elsewhere on the page. @param {string} code */
  open(code) {
    remember("worker", code);
    this.#openOwn(code);
  }

  /** Says how to run the Worker elsewhere with the model that answers it here. */
  show() {
    const place = this.#place();
    const ids = this.#editor.value.match(ID) ?? [];
    // A command names the model of one id.
    const model = ids.find((id) => place?.answering(id).own) ?? ids[0] ?? "";
    element("worker-take-text").replaceChildren(
      make("p", {}, "Save the code as ", make("code", {}, "src/index.js"), " beside this ", make("code", {}, "wrangler.toml"), ":"),
      codeBlock('name = "my-worker"\nmain = "src/index.js"\ncompatibility_date = "2026-01-01"\n\n[ai]\nbinding = "AI"', "ini"),
      make("p", {}, "Then, in that folder:"),
      codeBlock(`npm install --save-dev wrangler workers-ai-local\nnpx workers-ai-local dev${weights({ model, ...place?.answering(model) })}`, "bash"),
      make("p", { className: "note" }, "wrangler deploy brings the same code to Cloudflare, unchanged."),
    );
  }

  /** @param {number} index */
  #openExample(index) {
    const { code, method = "GET", path = "/", body = "" } = WORKER_EXAMPLES[index];
    this.#choice.value = String(index);
    this.#editor.value = code;
    input("worker-method").value = method;
    input("worker-path").value = path;
    input("worker-body").value = body;
    this.#showBody();
  }

  /** @param {string} code */
  #openOwn(code) {
    this.#choice.value = OWN;
    this.#editor.value = code;
  }

  #showBody() {
    element("worker-body-field").hidden = !WITH_BODY.includes(input("worker-method").value);
  }

  #request() {
    const method = input("worker-method").value;
    const path = input("worker-path").value.trim();
    const hasBody = WITH_BODY.includes(method);
    const body = hasBody ? input("worker-body").value : null;
    const isJson = body?.trim().startsWith("{");
    /** @type {[string, string][]} */
    const headers = hasBody ? [["content-type", isJson ? "application/json" : "text/plain"]] : [];
    return { method, url: new URL(path.startsWith("/") ? path : `/${path}`, ORIGIN).href, headers, body };
  }

  async #run() {
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    const started = performance.now();
    this.#editor.mark(undefined);
    this.#log.textContent = "";
    this.#response.replaceChildren(make("p", { className: "note", role: "status" }, "Running …"), this.#log);
    this.#showRunning(true);
    try {
      const answer = await runWorker({
        code: this.#editor.value,
        request: this.#request(),
        place: this.#place,
        onLog: (line) => this.#logged(line),
        signal: running.signal,
      });
      running.signal.throwIfAborted();
      await this.#show(answer, started, running.signal);
      await this.#finish(answer, running.signal);
    } catch (error) {
      // Another run shows its own.
      if (this.#running !== running) return;
      if (running.signal.aborted) this.#response.append(make("p", { className: "note", role: "status" }, "Stopped."));
      else this.#fail(error);
    }
    if (this.#running !== running) return;
    // The Worker ends with its sandbox.
    running.abort();
    this.#running = null;
    this.#showRunning(false);
  }

  /**
   * Waits for the work that the Worker has passed to `waitUntil`.
   *
   * @param {Answer} answer
   * @param {AbortSignal} signal
   */
  async #finish({ finish }, signal) {
    const note = make("p", { className: "note" }, "Waiting for what was passed to waitUntil …");
    this.#log.before(note);
    const isInTime = await finish();
    note.remove();
    signal.throwIfAborted();
    if (!isInTime) this.#log.before(make("p", { className: "note", role: "status" }, "What was passed to waitUntil was ended after 30 s, as at Cloudflare."));
  }

  /** @param {boolean} running */
  #showRunning(running) {
    element("worker-stop").hidden = !running;
    this.#response.setAttribute("aria-busy", String(running));
  }

  /** @param {string} line */
  #logged(line) {
    if (this.#log.childElementCount < MAX_LOG) this.#log.append(make("span", {}, `${line}\n`));
  }

  /** @param {unknown} error */
  #fail(error) {
    const line = error instanceof WorkerFailure ? error.line : undefined;
    this.#editor.mark(line);
    this.#response.querySelector("[role=status]")?.remove();
    this.#response.prepend(make("p", { className: "error", role: "alert" }, `${line ? `Line ${line}: ` : ""}${messageOf(error)}`));
  }

  /**
   * @param {Answer} answer
   * @param {number} started
   * @param {AbortSignal} signal
   */
  async #show({ status, statusText, headers, body }, started, signal) {
    const type = headers.find(([name]) => name === "content-type")?.[1] ?? "";
    const first = performance.now() - started;
    const line = make("p", { className: "status", role: "status", "data-ok": String(status < 400) }, make("b", {}, `${status} ${statusText}`.trim()), ` · ${type || "no content type"} · first byte after ${(first / 1000).toFixed(2)} s`);
    const list = make("details", {}, make("summary", {}, `Headers (${headers.length})`), make("pre", { tabIndex: 0 }, headers.map(([name, value]) => `${name}: ${value}`).join("\n")));
    const events = type.startsWith("text/event-stream");
    const said = make("p", { className: "said", hidden: !events });
    const raw = make("pre", { className: "raw", role: "region", tabIndex: 0, ariaLabel: "Body" });
    this.#response.replaceChildren(line, list, said, raw, this.#log);
    const text = await this.#read(body, signal, (whole) => {
      raw.textContent = whole;
      if (events) said.textContent = textOf(whole);
    });
    line.append(` · complete after ${((performance.now() - started) / 1000).toFixed(2)} s`);
    const language = type.includes("json") ? "json" : type.includes("html") ? "xml" : "";
    if (language) raw.replaceWith(codeBlock(language === "json" ? indented(text) : text, language));
    if (text === "") raw.textContent = "(no body)";
  }

  /**
   * @param {ReadableStream<Uint8Array> | null} body
   * @param {AbortSignal} signal
   * @param {(text: string) => void} onText called with the whole text so far
   */
  async #read(body, signal, onText) {
    let text = "";
    if (!body) return text;
    const reader = body.getReader();
    const decoder = new TextDecoder();
    const aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
    for (;;) {
      const { done, value } = /** @type {ReadableStreamReadResult<Uint8Array>} */ (await Promise.race([reader.read(), aborted]));
      text += done ? decoder.decode() : decoder.decode(value, { stream: true });
      if (text.length > MAX_SHOWN) text = `${text.slice(0, MAX_SHOWN)}\n… (the rest is not shown)`;
      onText(text);
      if (done || text.length > MAX_SHOWN) return text;
    }
  }
}

/** The text that server-sent events bring, in either shape. @param {string} events */
function textOf(events) {
  const pieces = events.split(/\r?\n\r?\n/).slice(0, -1).map((event) => {
    const data = event.replace(/^data: ?/, "");
    try {
      const value = JSON.parse(data);
      return value.response ?? value.choices?.[0]?.delta?.content ?? "";
    } catch {
      return "";
    }
  });
  return pieces.join("");
}
