// The playground: puts the parts of the page together.

import "./theme.js";
import { loadError, warningText } from "./advice.js";
import { openBrowser } from "./browser-place.js";
import { Chat } from "./chat.js";
import { messagesOf } from "./conversation.js";
import { ConversationList } from "./conversation-list.js";
import { drawIcons, element, iconButton, make, messageOf, sizeText } from "./dom.js";
import { conversationsDrawer, settingsDrawer } from "./drawers.js";
import { EXAMPLES } from "./examples.js";
import { ModelsPanel } from "./models-panel.js";
import { Rate, backendName, phaseText, progressShare } from "./progress.js";
import { inputOf } from "./request.js";
import { KeyNeeded, authorization, findServer, hasKey, openServer, useKey } from "./server-place.js";
import { SettingsPanel } from "./settings.js";
import { showCode } from "./show-code.js";
import { recall, remember } from "./store.js";
import { tabs } from "./tabs.js";
import { tokenView } from "./token-view.js";
import { Tools } from "./tools.js";
import { WorkerTab } from "./worker-tab.js";

/**
 * @import { ModelListing, ModelProgress } from "../pkg/index.d.ts"
 * @import { Choice, Facts, Place } from "./browser-place.js"
 * @import { Status } from "./server-place.js"
 */

const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (element(id));
/** The elements that change or are read. */
const page = {
  engine: element("engine"),
  status: element("engine-status"),
  loading: element("loading"),
  progress: element("progress", HTMLProgressElement),
  progressText: element("progress-text"),
  warnings: element("warnings"),
  keyForm: element("key-form", HTMLFormElement),
  retry: element("retry", HTMLButtonElement),
  otherModel: element("other-model", HTMLButtonElement),
  model: element("model", HTMLSelectElement),
  composer: element("composer", HTMLFormElement),
  prompt: element("prompt", HTMLTextAreaElement),
  stop: element("stop", HTMLButtonElement),
  send: element("send", HTMLButtonElement),
};
/** What code is shown for before anything is typed. */
const FIRST_PROMPT = "Why is the sky blue?";
/** The id for code, unless the server was started for another one: one that Cloudflare has too, unlike that of the default model. */
const ID_FOR_CODE = "@cf/meta/llama-3.1-8b-instruct";
const ID_OF_DEFAULT = "@cf/huggingface/smollm2-135m-instruct";
/** Where `workers-ai-local serve` listens by default. */
const DEFAULT_SERVER = "http://127.0.0.1:8788";

/** The server of this page; `null` if it only has files. @type {Status | null} */
let server = null;
/** What computes; `null` while it loads. @type {Place | null} */
let place = null;
/** The loading that goes on or went wrong: what to try again. @type {() => void} */
let again = start;
let loading = new AbortController();

drawIcons();
const tools = new Tools();
const settings = new SettingsPanel();
settings.tools = () => tools.all;
settings.onChange = showModes;
tools.onChange = showModes;
const models = new ModelsPanel({ onBrowser: useBrowser, onServer: useServer });
const chat = new Chat({ place: () => place, settings: () => settings.settings, onState: showState, onTurns: (turns) => conversations.keep(turns) });
const conversations = new ConversationList({
  isIdle: () => !chat.isAnswering && !chat.isEdited,
  onOpen(turns, byUser) {
    chat.open(turns);
    showState();
    if (!byUser) return;
    conversationsDrawer.leave();
    page.prompt.focus();
  },
});

// ── What computes ──

/** Finds out what this page's server is, and begins with what the user had chosen. */
async function start() {
  again = start;
  showEngine("loading", "Starting …");
  page.keyForm.hidden = true;
  try {
    server = await findServer();
  } catch (error) {
    if (error instanceof KeyNeeded) return askForKey(error.message);
    return showEngine("failed", `The server of this page does not say what it computes with: ${messageOf(error)}`);
  }
  models.offerServer(server);
  if (server && recall("place") !== "browser") await useServer();
  else await useBrowser(models.lastChoice());
}

/** @param {string} text */
function askForKey(text) {
  showEngine("failed", text);
  page.retry.hidden = page.otherModel.hidden = true;
  page.keyForm.hidden = false;
  input("key").focus();
}

page.keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(input("key").value);
  start();
});

async function useServer() {
  remember("place", undefined);
  models.showPlace("server");
  again = useServer;
  await load("The server’s model", async (options) => {
    const status = await findServer();
    if (!status) throw new Error("The server does not answer. Start it again with `workers-ai-local serve`.");
    server = status;
    models.offerServer(status);
    return openServer(status, options);
  });
}

/** @param {Choice} choice */
async function useBrowser(choice) {
  if (server) remember("place", "browser");
  models.showPlace("browser");
  again = () => useBrowser(choice);
  const isDefault = !choice.source && !choice.files;
  const loaded = await load(choice.files?.[0].name ?? choice.source, (options) => openBrowser({ ...choice, served: server?.weights, servedHeaders: authorization() }, options));
  // A name that does not load must not be tried again at every visit.
  if (loaded === "failed" && !isDefault && !choice.files) models.forgetChoice();
}

/**
 * Loads a model, in place of the one before.
 *
 * @param {string | undefined} what the user has chosen
 * @param {(options: {onProgress: (progress: ModelProgress) => void, onWarning: (text: string) => void, signal: AbortSignal}) => Promise<Place>} open
 * @returns {Promise<"ready" | "failed" | "given up">} "given up": another one was chosen meanwhile
 */
async function load(what, open) {
  loading.abort();
  chat.stop();
  const { signal } = (loading = new AbortController());
  const before = place;
  place = null;
  showEngine("loading", "Starting the engine …");
  page.progress.removeAttribute("value");
  page.progressText.textContent = "";
  page.warnings.replaceChildren();
  await before?.close();
  if (signal.aborted) return "given up";
  const started = performance.now();
  const rate = new Rate();
  try {
    const opened = await open({
      signal,
      onProgress: (progress) => !signal.aborted && showProgress(progress, rate),
      onWarning: (text) => !signal.aborted && warn(warningText(text)),
    });
    const catalogue = await opened.models();
    if (signal.aborted) return "given up";
    place = opened;
    offerModels(catalogue, place.facts);
    const { file, backend } = place.facts;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const where = place.kind === "server" ? "by the server " : "";
    showEngine("ready", backend ? `Ready: ${file}, computed ${where}on the ${backendName(backend)}. Loaded in ${seconds} s.` : `Ready: ${where}prepared answers.`);
    showFacts(place.facts);
    return "ready";
  } catch (error) {
    if (signal.aborted) return "given up";
    showEngine("failed", loadError(error, what));
    return "failed";
  }
}

page.retry.addEventListener("click", () => again());

/**
 * @param {"loading" | "ready" | "failed"} state
 * @param {string} text
 */
function showEngine(state, text) {
  page.engine.dataset.state = state;
  document.body.dataset.engine = state;
  page.status.textContent = text;
  page.loading.hidden = state !== "loading";
  page.retry.hidden = state !== "failed";
  page.otherModel.hidden = state === "ready";
  element("model-name").textContent = state === "ready" && place ? place.facts.file || "prepared answers" : state === "loading" ? "Loading …" : "No model";
  element("model-place").textContent = state === "ready" && place ? `${place.kind === "server" ? "server" : "browser"} · ${place.facts.backend ? place.facts.backend.replace("web", "").toUpperCase() : "script"}` : "";
  chat.offerAll();
  showState();
}

/** Shows a warning of the engine, unless it is there already, until the user closes it or another model is loaded. @param {string} text */
function warn(text) {
  const shown = Array.from(page.warnings.children, (each) => each.querySelector("p")?.textContent);
  if (shown.includes(text)) return;
  const close = iconButton("close", "Close this warning", () => {
    // Hidden, so that it is known as said.
    row.hidden = true;
    page.prompt.focus();
  });
  const row = make("div", {}, make("p", {}, text), close);
  page.warnings.append(row);
}

/**
 * @param {ModelProgress} progress
 * @param {Rate} rate
 */
function showProgress(progress, rate) {
  // A last report may arrive after the load has ended.
  if (page.engine.dataset.state !== "loading") return;
  // The text is only changed when it differs, because screen readers read every change.
  const status = phaseText(progress);
  if (page.status.textContent !== status) page.status.textContent = status;
  const share = progressShare(progress);
  if (share !== null) page.progress.value = share;
  page.progressText.textContent = rate.text(progress, performance.now());
}

/**
 * @param {ModelListing[]} catalogue
 * @param {Facts} facts
 */
function offerModels(catalogue, { id }) {
  const remembered = recall("model");
  const isKnown = (/** @type {string} */ wanted) => catalogue.some(({ name }) => name === wanted);
  const own = id === ID_OF_DEFAULT && isKnown(ID_FOR_CODE) ? ID_FOR_CODE : id;
  const chosen = isKnown(remembered) ? remembered : own;
  // By maker, which is what an id begins with.
  /** @type {Map<string, HTMLOptGroupElement>} */
  const groups = new Map();
  for (const { name } of catalogue) {
    const [, maker, rest] = /^(.*\/)(.*)$/.exec(name) ?? ["", "other ids", name];
    const group = groups.get(maker) ?? make("optgroup", { label: maker });
    groups.set(maker, group);
    group.append(new Option(rest, name, name === chosen, name === chosen));
  }
  page.model.replaceChildren(...groups.values());
  const note = () => {
    const { name, description } = /** @type {ModelListing} */ (catalogue.find(({ name }) => name === page.model.value));
    const answers = place?.answering(name).file;
    element("model-note").textContent = `${name}: ${description.replace(/\.?$/, ".")} ${answers ? `Here ${answers} answers for it.` : ""}`;
  };
  page.model.onchange = () => {
    remember("model", page.model.value);
    note();
    if (place) showFacts(place.facts);
    showContext();
  };
  note();
}

/** @param {Facts} facts */
function showFacts({ backend, why, build, threads, threadsWhy, memoryBytes }) {
  const { file, context } = answering() ?? {};
  const rows = [
    ["File", file],
    ["Where", place?.kind === "server" ? "the server of this page" : "this browser"],
    ["Backend", backend ? backendName(backend) : "none: prepared answers"],
    ["Why", why],
    ["Build", build],
    ["Threads", threads && [String(threads), threadsWhy].filter(Boolean).join(". ")],
    ["Memory", memoryBytes && `${sizeText(memoryBytes)} (WebAssembly)`],
    ["Context", context && `${context.toLocaleString("en")} tokens`],
  ];
  element("facts-list").replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, String(name)), make("dd", {}, String(value))]));
}

// ── The composer ──

function showState() {
  const { isAnswering } = chat;
  const [send, stop, focused] = [page.send, page.stop, document.activeElement];
  send.disabled = !place || isAnswering;
  send.hidden = isAnswering;
  stop.hidden = !isAnswering;
  // A button that is hidden loses the keyboard focus, so the other button receives it.
  if (focused === send && isAnswering) stop.focus();
  if (focused === stop && !isAnswering) send.focus();
  showContext();
  if (place && !isAnswering) refresh(place);
}

/** @param {Place} from */
async function refresh(from) {
  const facts = await from.refresh().catch(() => null);
  if (!facts || place !== from) return;
  showFacts(facts);
  showContext();
}

/** The model that answers for the chosen id. */
const answering = () => place?.answering(page.model.value);

function showContext() {
  const context = answering()?.context;
  const usage = chat.turns.findLast(({ usage }) => usage)?.usage;
  element("context").hidden = !context || !usage;
  if (!context || !usage) return;
  const share = usage.total_tokens / context;
  element("context-meter", HTMLMeterElement).value = Math.min(share, 1);
  element("context-text").textContent = `${usage.total_tokens.toLocaleString("en")} of ${context.toLocaleString("en")} tokens`;
}

/** Says beside the prompt what is not as usual with the next answer. */
function showModes() {
  const { format, raw } = settings.settings;
  const modes = [raw && "raw prompt", format !== "text" && (format === "json_schema" ? "JSON of a schema" : "JSON"), !raw && tools.offered > 0 && `${tools.offered} ${tools.offered === 1 ? "tool" : "tools"}`];
  element("modes").replaceChildren(
    ...modes.filter((mode) => typeof mode === "string").map((mode) => {
      const button = make("button", { type: "button", className: "mode", ariaLabel: `${mode}: settings` }, mode);
      button.addEventListener("click", () => settingsDrawer.open());
      return button;
    }),
  );
}

function fitPrompt() {
  page.prompt.style.height = "auto";
  page.prompt.style.height = `${page.prompt.scrollHeight + 2}px`;
}
page.prompt.addEventListener("input", fitPrompt);

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = page.prompt.value.trim();
  if (page.send.disabled || !prompt) return;
  page.prompt.value = "";
  fitPrompt();
  ask(prompt);
});

/** @param {string} prompt */
async function ask(prompt) {
  settingsDrawer.leave();
  await chat.ask(prompt);
  const [question, answer] = chat.turns.slice(-2);
  // A prompt without an answer returns to the field, so that it can be sent again.
  if (answer?.error && question?.content === prompt) {
    page.prompt.value ||= prompt;
    fitPrompt();
  }
}

page.prompt.addEventListener("keydown", (event) => {
  // With an input method, Enter only ends a word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.composer.requestSubmit();
});

page.stop.addEventListener("click", () => chat.stop());

addEventListener("keydown", ({ key }) => {
  if (key === "Escape" && chat.isAnswering && !document.querySelector("dialog[open]")) chat.stop();
});

element("examples").append(
  ...EXAMPLES.map(({ title, prompt, needs }) => {
    const button = make("button", { type: "button", className: "example" }, make("b", {}, title), make("span", {}, prompt));
    button.addEventListener("click", () => {
      if (needs === "json_schema") settings.set("format", "json_schema");
      if (needs === "tool") {
        tools.offerExample();
        settings.set("tool_choice", "required");
      }
      page.prompt.value = prompt;
      fitPrompt();
      page.prompt.focus();
      page.composer.requestSubmit();
    });
    return button;
  }),
);

// ── Dialogs and tabs ──

/** The request that the page would send now, or has sent last. */
function currentRequest() {
  const now = settings.settings;
  const typed = page.prompt.value.trim();
  const turns = typed ? [...chat.turns, { role: /** @type {const} */ ("user"), content: typed }] : chat.turns.slice(0, chat.turns.findLastIndex(({ role }) => role !== "assistant") + 1);
  const messages = messagesOf(turns);
  return { model: now.model, input: inputOf(now, messages.length > 0 ? messages : [{ role: "user", content: FIRST_PROMPT }]) };
}

const worker = new WorkerTab({ place: () => place });
const chooseTab = tabs(element("tabs"), ({ id }) => {
  const name = id.replace("tab-", "");
  document.body.dataset.tab = name;
  element("chat").hidden = name !== "chat";
  element("worker").hidden = name !== "worker";
  element("open-code").hidden = name !== "chat";
  remember("tab", name);
  if (name === "worker") worker.show();
});

showCode(
  () => ({ ...currentRequest(), ...answering(), base: place?.kind === "browser" ? DEFAULT_SERVER : location.origin, hasKey: hasKey() }),
  (code) => {
    worker.open(code);
    chooseTab(element("tab-worker"));
    element("tab-worker").focus();
  },
);
tokenView(() => place, currentRequest);

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close")?.addEventListener("click", () => dialog.close());
  // A click beside the dialog hits the dialog itself.
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
}

showModes();
conversations.restore();
if (recall("tab") === "worker") chooseTab(element("tab-worker"));
start();
