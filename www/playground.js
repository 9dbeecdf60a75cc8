// The playground: a conversation with the local model through the package's `Ai`.

import { backendName, fileName, openEngine, phaseText, progressShare, progressText, reasonOf } from "./engine.js";
import { Stopwatch } from "./speed.js";
import { Turn } from "./turn.js";

/**
 * @import { ChatMessage, ModelListing, MessagesInput, ModelProgress } from "../pkg/index.d.ts"
 * @import { Piece } from "../pkg/pieces.js"
 * @import { Engine } from "./engine.js"
 * @typedef {Pick<Piece, "usage" | "finish_reason">} End
 */

/** Interval in milliseconds at which the facts under a growing answer are updated. */
const FACTS_EVERY_MS = 200;
/** Ids of the number fields; they are also the names of the input's fields. */
const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k", "seed"];

/**
 * An element of index.html.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} "${id}".`);
  return found;
}

/** The elements that change or are read. */
const page = {
  engine: element("engine", HTMLElement),
  engineStatus: element("engine-status", HTMLElement),
  loading: element("loading", HTMLElement),
  progress: element("progress", HTMLProgressElement),
  progressText: element("progress-text", HTMLElement),
  retry: element("retry", HTMLButtonElement),
  model: element("model", HTMLSelectElement),
  modelNote: element("model-note", HTMLElement),
  system: element("system", HTMLTextAreaElement),
  settings: element("settings", HTMLDetailsElement),
  empty: element("empty", HTMLElement),
  conversation: element("conversation", HTMLElement),
  composer: element("composer", HTMLFormElement),
  prompt: element("prompt", HTMLTextAreaElement),
  newConversation: element("new", HTMLButtonElement),
  stop: element("stop", HTMLButtonElement),
  send: element("send", HTMLButtonElement),
};
/** The number fields. */
const numbers = NUMBERS.map((id) => element(id, HTMLInputElement));

/** @type {Engine | null} */
let engine = null;
let ready = false;
/**
 * The conversation so far. Every turn sends all of it, but the engine only computes the new part.
 *
 * @type {ChatMessage[]}
 */
let messages = [];
/**
 * The AbortController of the answer that is being computed; `null` if there is none.
 *
 * @type {AbortController | null}
 */
let answering = null;

// ── Loading ──

async function load() {
  showEngine("loading", "Starting the engine …");
  page.progress.removeAttribute("value");
  page.progressText.textContent = "";
  try {
    engine ??= await openEngine(showProgress);
    const started = performance.now();
    const [{ model, backend }, catalogue] = await Promise.all([engine.ai.load(), engine.ai.models({ task: "Text Generation" })]);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    offerModels(catalogue, fileName(model));
    // `null` only for scripted answers, which this page does not have.
    showEngine("ready", `Ready: ${fileName(model)}, computed on the ${backendName(backend ?? "cpu")}. Loaded in ${seconds} s.`);
  } catch (error) {
    showEngine("failed", `The model cannot be loaded. ${await reasonOf(error)}`);
  }
}

/**
 * @param {"loading" | "ready" | "failed"} state
 * @param {string} text
 */
function showEngine(state, text) {
  ready = state === "ready";
  page.engine.dataset.state = state;
  page.engineStatus.textContent = text;
  page.loading.hidden = state !== "loading";
  page.retry.hidden = state !== "failed";
  enableButtons();
}

/** @param {ModelProgress} progress */
function showProgress(progress) {
  // A last report may arrive after the load has ended.
  if (page.engine.dataset.state !== "loading") return;
  // The text is only changed when it differs, because screen readers read every change.
  const status = phaseText(progress);
  if (page.engineStatus.textContent !== status) page.engineStatus.textContent = status;
  const share = progressShare(progress);
  if (share !== null) page.progress.value = share;
  page.progressText.textContent = progressText(progress);
}

/**
 * @param {ModelListing[]} catalogue
 * @param {string} defaultFile
 */
function offerModels(catalogue, defaultFile) {
  const chosen = page.model.value;
  // By maker, which is what an id begins with.
  /** @type {Map<string, HTMLOptGroupElement>} */
  const groups = new Map();
  for (const { name } of catalogue) {
    const [, maker, rest] = /^(.*\/)(.*)$/.exec(name) ?? ["", "", name];
    const group = groups.get(maker) ?? Object.assign(document.createElement("optgroup"), { label: maker });
    groups.set(maker, group);
    group.append(new Option(rest, name, name === chosen, name === chosen));
  }
  page.model.replaceChildren(...groups.values());
  const note = () => {
    const { name, description } = /** @type {ModelListing} */ (catalogue.find(({ name }) => name === page.model.value));
    page.modelNote.textContent = `${name}: ${description}. Ids without weights on this machine are answered by the small default model, ${defaultFile}.`;
  };
  page.model.onchange = note;
  note();
}

// ── Asking ──

/** @param {string} prompt */
async function ask(prompt) {
  page.empty.hidden = true;
  new Turn(page.conversation, "user", prompt);
  const turn = new Turn(page.conversation, "assistant");
  turn.growing = true;
  following = true;
  scrollToEnd();

  const asked = [...messages, { role: "user", content: prompt }];
  const controller = new AbortController();
  answering = controller;
  enableButtons();

  const watch = new Stopwatch();
  const showFacts = () => (turn.facts = factsSoFar(watch));
  showFacts();
  const ticking = setInterval(showFacts, FACTS_EVERY_MS);
  try {
    const end = await answer(asked, turn, watch, controller.signal);
    turn.facts = factsAtEnd(watch, end);
  } catch (error) {
    if (controller.signal.aborted) {
      turn.facts = turn.text ? `${factsSoFar(watch)} · stopped` : "Stopped";
    } else {
      turn.facts = "";
      turn.fail(`The answer failed. ${/** @type {Error} */ (error).message || error}`);
    }
  } finally {
    clearInterval(ticking);
    turn.growing = false;
    // Skipped if a new conversation was started in the meantime.
    if (answering === controller) {
      answering = null;
      // A turn without an answer is not added to the conversation. Its prompt returns to the field, so that it can be sent again.
      if (turn.text) messages = [...asked, { role: "assistant", content: turn.text }];
      else page.prompt.value ||= prompt;
      enableButtons();
    }
    scrollIfFollowing();
  }
}

/**
 * Streams the answer into `turn` and returns how it ended.
 *
 * @param {ChatMessage[]} asked
 * @param {Turn} turn
 * @param {Stopwatch} watch
 * @param {AbortSignal} signal
 */
async function answer(asked, turn, watch, signal) {
  // Nobody can ask before the engine is ready.
  const { ai, eventData, pieceOf } = /** @type {Engine} */ (engine);
  const system = page.system.value.trim();
  /** @type {MessagesInput & {stream: true}} */
  const input = {
    messages: system ? [{ role: "system", content: system }, ...asked] : asked,
    stream: true,
    ...Object.fromEntries(numbers.filter(({ value }) => value !== "").map(({ id, valueAsNumber }) => [id, valueAsNumber])),
  };
  const stream = await ai.run(page.model.value, input, { signal });
  /** @type {End} */
  let end = {};
  for await (const data of eventData(stream)) {
    if (data === "[DONE]") return end;
    const { text, thought, usage = end.usage, finish_reason = end.finish_reason } = pieceOf(data);
    end = { usage, finish_reason };
    if (!text && !thought) continue;
    watch.piece();
    if (thought) turn.think(thought);
    if (text) turn.append(text);
    scrollIfFollowing();
  }
  // A complete stream ends with [DONE].
  throw new Error("The stream ended before the answer was complete.");
}

/** @param {Stopwatch} watch */
function factsSoFar(watch) {
  if (watch.firstAfter === null) return `Reading the prompt … ${watch.elapsed.toFixed(1)} s`;
  const speed = watch.tokensPerSecond();
  return [`about ${watch.pieces} tokens`, speed && `${speed.toFixed(1)} tokens/s`].filter(Boolean).join(" · ");
}

/**
 * @param {Stopwatch} watch
 * @param {End} end
 */
function factsAtEnd(watch, end) {
  const { prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details } = end.usage ?? {};
  const speed = watch.tokensPerSecond(completion_tokens);
  const cached = prompt_tokens_details?.cached_tokens;
  const thoughts = completion_tokens_details?.reasoning_tokens;
  return [
    speed && `${speed.toFixed(1)} tokens/s`,
    `${completion_tokens} tokens${thoughts ? `, ${thoughts} of them thoughts` : ""}`,
    watch.firstAfter !== null && `first token after ${watch.firstAfter.toFixed(2)} s`,
    `prompt ${prompt_tokens} tokens${cached ? `, ${cached} of them cached` : ""}`,
    end.finish_reason === "length" && "cut off at max_tokens",
  ]
    .filter(Boolean)
    .join(" · ");
}

// ── The page ──

function enableButtons() {
  const [send, stop, focused] = [page.send, page.stop, document.activeElement];
  send.disabled = !ready || answering !== null;
  stop.disabled = answering === null;
  // A button that is disabled loses the keyboard focus, so the other button receives it.
  if (focused === send && send.disabled) stop.focus();
  if (focused === stop && stop.disabled) send.focus();
}

/** Whether the page is scrolled to its end. Only then does it follow a growing answer. */
let following = true;
addEventListener("scroll", () => {
  const page = document.documentElement;
  following = page.scrollHeight - page.clientHeight - page.scrollTop < 40;
});

function scrollIfFollowing() {
  if (following) scrollToEnd();
}

let scrolling = false;
function scrollToEnd() {
  // At most once per frame, however fast the text arrives.
  if (scrolling) return;
  scrolling = true;
  requestAnimationFrame(() => {
    scrolling = false;
    scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  });
}

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = page.prompt.value.trim();
  if (page.send.disabled || !prompt) return;
  page.prompt.value = "";
  ask(prompt);
});

page.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  page.composer.requestSubmit();
});

// The browser cannot show a validation message for a field inside a closed <details>, so open it.
for (const field of numbers) field.addEventListener("invalid", () => (page.settings.open = true));

page.stop.addEventListener("click", () => answering?.abort());

page.newConversation.addEventListener("click", () => {
  answering?.abort();
  answering = null;
  messages = [];
  page.conversation.replaceChildren();
  page.empty.hidden = false;
  enableButtons();
  page.prompt.focus();
});

page.retry.addEventListener("click", load);

load();
