// The dialog "Model": what computes, which model this browser loads, and which ones it has stored.

import { element, iconButton, make, messageOf, showError, sizeText } from "./dom.js";
import { recall, remember } from "./store.js";

/**
 * @import { CachedModel } from "../pkg/index.d.ts"
 * @import { Choice } from "./browser-place.js"
 * @import { Status } from "./server-place.js"
 *
 * @typedef {object} PanelOptions
 * @property {(choice: Choice) => void} onBrowser the browser is to load this
 * @property {() => void} onServer the server is to compute
 */

/** An engine in a page has so much memory at most. */
const MAX_BYTES = 16 * 2 ** 30;
const MAGIC = "GGUF";
const GGUF = /\.gguf$/i;

const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (element(id));
const dialog = /** @type {HTMLDialogElement} */ (element("models"));

export class ModelsPanel {
  #options;
  /** The address of the server's own hub. */
  #endpoint = "";

  /** @param {PanelOptions} options */
  constructor(options) {
    this.#options = options;
    element("open-models").addEventListener("click", () => this.open());
    element("other-model").addEventListener("click", () => this.open());
    element("source-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#loadNamed(input("source").value.trim());
    });
    element("choose-file").addEventListener("click", () => input("file").click());
    input("file").addEventListener("change", () => {
      const files = Array.from(input("file").files ?? []);
      // So that the same file can be chosen again.
      input("file").value = "";
      if (files.length > 0) this.#loadFiles(files);
    });
    for (const radio of radios()) radio.addEventListener("change", () => this.#choosePlace(radio.value));
    input("hub-endpoint").value = recall("hub") ?? "";
    input("hub-endpoint").addEventListener("change", () => remember("hub", input("hub-endpoint").value.trim() || undefined));
    // Not needed before the dialog is opened, and the page says itself if the package is missing.
    import("/pkg/curated-models.js").then(({ CURATED_MODELS }) => element("curated").append(...CURATED_MODELS.map((model) => this.#curatedRow(model))), () => {});
    this.#acceptDrops();
  }

  /** @param {Status | null} status of the server; `null` if it only has files */
  offerServer(status) {
    element("place-server-choice").hidden = status === null;
    element("place-server-note").textContent = status ? `${status.model}, in Node on the machine of the server` : "";
    this.#endpoint = status?.hub?.endpoint ?? "";
    if (this.#endpoint) input("hub-endpoint").placeholder = this.#endpoint;
  }

  /** @param {"server" | "browser"} kind */
  showPlace(kind) {
    for (const radio of radios()) radio.checked = radio.value === kind;
  }

  /** @param {string} [error] about the source */
  open(error) {
    showError(element("source-error"), error ?? null);
    if (!dialog.open) dialog.showModal();
    this.#showStored();
  }

  /** What this browser loaded last by a name, if it did. @returns {Choice} */
  lastChoice() {
    const source = recall("source");
    return { ...(source ? { source } : {}), hub: this.#hub() };
  }

  /** Another visit begins with the default model. */
  forgetChoice() {
    remember("source", undefined);
  }

  #hub() {
    return { endpoint: input("hub-endpoint").value.trim() || this.#endpoint || undefined, token: input("hub-token").value.trim() || undefined };
  }

  /** @param {string} kind */
  #choosePlace(kind) {
    dialog.close();
    if (kind === "server") this.#options.onServer();
    else this.#options.onBrowser(this.lastChoice());
  }

  /** @param {string} text */
  async #loadNamed(text) {
    const problem = await problemOfName(text);
    showError(element("source-error"), problem);
    if (problem) return input("source").focus();
    dialog.close();
    remember("source", text);
    this.#options.onBrowser({ source: text, hub: this.#hub() });
  }

  /** @param {File[]} files */
  async #loadFiles(files) {
    const problem = await problemOfFiles(files);
    if (problem) return this.open(problem);
    dialog.close();
    this.#options.onBrowser({ files: files.sort((one, other) => (one.name < other.name ? -1 : 1)), hub: this.#hub() });
  }

  /** @param {import("../pkg/curated-models.js").CuratedModel} model */
  #curatedRow({ name, size, parameters, about, license, context }) {
    const load = make("button", { type: "button", ariaLabel: `Load ${name}` }, "Load");
    load.addEventListener("click", () => this.#loadNamed(name));
    const memory = /** @type {{deviceMemory?: number}} */ (navigator).deviceMemory;
    const isTight = memory !== undefined && size * 1.25 > memory * 2 ** 30;
    return make(
      "li",
      {},
      make("div", {}, make("b", {}, name), make("small", {}, `${parameters} · about ${sizeText(size)} · ${context.toLocaleString("en")} tokens · ${license}`), make("span", {}, about, isTight && make("em", {}, " May not fit into this device’s memory."))),
      load,
    );
  }

  // ── What is stored ──

  async #showStored() {
    showError(element("stored-error"), null);
    try {
      const models = await storedModels();
      if (models === null) {
        element("stored-note").textContent = "This browser keeps nothing for this page, as in private windows and on addresses without https.";
        return;
      }
      const { usage, quota } = (await navigator.storage?.estimate?.()) ?? {};
      element("stored").replaceChildren(...models.map((model) => this.#storedRow(model)));
      const room = quota === undefined || usage === undefined ? "" : ` Room for another ${sizeText(quota - usage)}.`;
      element("stored-note").textContent = `${models.length === 0 ? "Nothing yet: what you load by a name or an address is kept, and loads without the network the next time." : ""}${room}`;
    } catch (error) {
      showError(element("stored-error"), `What is stored cannot be listed: ${messageOf(error)}. Reload the page and try again.`);
    }
  }

  /** @param {CachedModel} model */
  #storedRow({ name, bytes, size, complete, used }) {
    const load = make("button", { type: "button", ariaLabel: `Load ${name}` }, complete ? "Load" : "Go on");
    load.addEventListener("click", () => this.#loadNamed(name));
    const state = complete ? sizeText(bytes) : `${sizeText(bytes)}${size ? ` of ${sizeText(size)}` : ""}, incomplete`;
    const remove = iconButton("trash", `Delete ${name}`, async () => {
      try {
        await (await packageAi()).models.delete(name);
      } catch (error) {
        return showError(element("stored-error"), `${name} cannot be deleted: ${messageOf(error)}. Close other tabs with this page, then try again.`);
      }
      await this.#showStored();
      element("stored-title").focus();
    });
    return make("li", {}, make("div", {}, make("b", {}, name), make("small", {}, `${state} · last used ${new Date(used).toLocaleDateString()}`)), load, remove);
  }

  // ── Files that are dropped ──

  #acceptDrops() {
    const shade = element("drop");
    const hasFiles = (/** @type {DragEvent} */ { dataTransfer }) => dataTransfer?.types.includes("Files") ?? false;
    addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      shade.hidden = false;
    });
    addEventListener("dragleave", ({ relatedTarget }) => relatedTarget === null && (shade.hidden = true));
    addEventListener("drop", (event) => {
      shade.hidden = true;
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.#loadFiles(Array.from(event.dataTransfer?.files ?? []));
    });
  }
}

const radios = () => /** @type {HTMLInputElement[]} */ (Array.from(dialog.querySelectorAll("[name=place]")));

const packageAi = async () => (await import("/pkg/browser.js")).Ai;

/** @returns {Promise<CachedModel[] | null>} `null` where nothing can be stored */
async function storedModels() {
  const Ai = await packageAi();
  return globalThis.isSecureContext ? Ai.models.list() : null;
}

/**
 * Why a text is no model; `null` if it may be one.
 *
 * @param {string} text
 */
async function problemOfName(text) {
  if (text === "") return "Enter a name or an address, or open a file.";
  try {
    const { parseName } = await import("/pkg/names.js");
    const parsed = parseName(text);
    if (parsed?.kind === "url" && !isAllowed(text)) return "Only https addresses can be loaded, and those of this machine.";
    return parsed || text.startsWith("/") ? null : `There is no short name “${text}”. Choose one of the list, or give a name such as hf:OWNER/REPO:Q4_K_M or an address that begins with https://.`;
  } catch (error) {
    return messageOf(error);
  }
}

/** Whether the policy of this page lets it read an address: see index.html. @param {string} address */
function isAllowed(address) {
  if (!URL.canParse(address)) return false;
  const { protocol, hostname, origin } = new URL(address);
  return protocol === "https:" || origin === location.origin || ["localhost", "127.0.0.1"].includes(hostname);
}

/**
 * Why files are no model; `null` if they may be one. Only what can be seen without loading them.
 *
 * @param {File[]} files
 */
async function problemOfFiles(files) {
  for (const file of files) {
    const start = await file.slice(0, 4).text().catch(() => null);
    if (start === null) return `${file.name} cannot be read. Open the file itself, not a folder.`;
    if (file.size === 0) return `${file.name} is empty. Download it again.`;
    if (start !== MAGIC) return `${file.name} is not a GGUF file${GGUF.test(file.name) ? ": its content is something else. Download it again, with the button of the hub rather than the address of its page" : ". Choose one whose name ends in .gguf"}.`;
  }
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  return bytes > MAX_BYTES ? `${files[0].name} is too large: ${sizeText(bytes)}, and a page has at most ${sizeText(MAX_BYTES)} for a model. Choose a smaller one, or a smaller quantisation.` : null;
}
