// The playground: a conversation with the local model through the package's own `env.AI`.

import { backendName, fileName, openEngine, phaseText, progressShare, progressText, reasonOf } from "./engine.js";
import { Stopwatch } from "./speed.js";
import { Turn } from "./turn.js";

/** How often the page says how far an answer is. */
const FACTS_EVERY_MS = 200;
const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k", "seed"];

const $ = (id) => document.getElementById(id);

let engine = null;
let ready = false;
/** What was said so far, as the model is told it again with every turn: the engine computes only what is new. */
let messages = [];
/** Ends the answer that is being computed; `null` when there is none. */
let answering = null;

// ── Loading ──

async function load() {
  showEngine("loading", "Starting the engine …");
  $("progress").removeAttribute("value");
  $("progress-text").textContent = "";
  try {
    engine ??= await openEngine(showProgress);
    const started = performance.now();
    const [{ model, backend }, catalogue] = await Promise.all([engine.ai.load(), engine.ai.models({})]);
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    offerModels(catalogue, fileName(model));
    showEngine("ready", `Ready: ${fileName(model)}, computed on the ${backendName(backend)}. Loaded in ${seconds} s.`);
  } catch (error) {
    showEngine("failed", `The model cannot be loaded. ${await reasonOf(error)}`);
  }
}

function showEngine(state, text) {
  ready = state === "ready";
  $("engine").dataset.state = state;
  $("engine-status").textContent = text;
  $("loading").hidden = state !== "loading";
  $("retry").hidden = state !== "failed";
  enableButtons();
}

function showProgress(progress) {
  // The last report may come after the load has ended.
  if ($("engine").dataset.state !== "loading") return;
  // Said once, not with every report: a screen reader reads it.
  const status = phaseText(progress);
  if ($("engine-status").textContent !== status) $("engine-status").textContent = status;
  const share = progressShare(progress);
  if (share !== null) $("progress").value = share;
  $("progress-text").textContent = progressText(progress);
}

function offerModels(catalogue, standIn) {
  const chosen = $("model").value;
  const names = catalogue.map(({ name }) => name);
  $("model").replaceChildren(...names.map((name) => new Option(name, name, name === chosen, name === chosen)));
  $("model-note").textContent = `Every id without weights on this machine is answered by the small stand-in model, ${standIn}.`;
}

// ── Asking ──

async function ask(prompt) {
  $("empty").hidden = true;
  new Turn($("conversation"), "user", prompt);
  const turn = new Turn($("conversation"), "assistant");
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
      turn.fail(`The answer failed. ${error.message || error}`);
    }
  } finally {
    clearInterval(ticking);
    turn.growing = false;
    // Unless the conversation was left meanwhile.
    if (answering === controller) {
      answering = null;
      // A turn without an answer is not part of what follows: its prompt goes back, to be sent again.
      if (turn.text) messages = [...asked, { role: "assistant", content: turn.text }];
      else $("prompt").value ||= prompt;
      enableButtons();
    }
    scrollIfFollowing();
  }
}

/** Streams the answer into `turn` and gives the usage event at its end. */
async function answer(asked, turn, watch, signal) {
  const system = $("system").value.trim();
  const input = {
    messages: system ? [{ role: "system", content: system }, ...asked] : asked,
    stream: true,
    ...Object.fromEntries(NUMBERS.filter((id) => $(id).value !== "").map((id) => [id, $(id).valueAsNumber])),
  };
  const stream = await engine.ai.run($("model").value, input, { signal });
  let end = null;
  for await (const data of engine.eventData(stream)) {
    if (data === "[DONE]") return end;
    const event = JSON.parse(data);
    if (event.errors?.length) throw new Error(event.errors[0].message);
    if (event.usage) end = event;
    if (event.response) {
      watch.piece();
      turn.append(event.response);
      scrollIfFollowing();
    }
  }
  // By the contract, a stream that ends has said so.
  throw new Error("The stream ended before the answer did.");
}

function factsSoFar(watch) {
  if (watch.firstAfter === null) return `Reading the prompt … ${watch.elapsed.toFixed(1)} s`;
  const speed = watch.tokensPerSecond();
  return [`about ${watch.pieces} tokens`, speed && `${speed.toFixed(1)} tokens/s`].filter(Boolean).join(" · ");
}

function factsAtEnd(watch, end) {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = end?.usage ?? {};
  const speed = watch.tokensPerSecond(completion_tokens);
  const cached = prompt_tokens_details?.cached_tokens;
  return [
    speed && `${speed.toFixed(1)} tokens/s`,
    `${completion_tokens} tokens`,
    watch.firstAfter !== null && `first after ${watch.firstAfter.toFixed(2)} s`,
    `prompt ${prompt_tokens} tokens${cached ? `, ${cached} of them cached` : ""}`,
    end?.finish_reason === "length" && "cut off at max_tokens",
  ]
    .filter(Boolean)
    .join(" · ");
}

// ── The page ──

function enableButtons() {
  const [send, stop, focused] = [$("send"), $("stop"), document.activeElement];
  send.disabled = !ready || answering !== null;
  stop.disabled = answering === null;
  // A button that is disabled loses the keyboard's focus to nowhere: the other one takes it.
  if (focused === send && send.disabled) stop.focus();
  if (focused === stop && stop.disabled) send.focus();
}

/** Whether the reader is at the end. Whoever has scrolled up stays there. */
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
  // At most once a frame, however fast the text comes.
  if (scrolling) return;
  scrolling = true;
  requestAnimationFrame(() => {
    scrolling = false;
    scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  });
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = $("prompt").value.trim();
  if ($("send").disabled || !prompt) return;
  $("prompt").value = "";
  ask(prompt);
});

$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

// A field that is folded away cannot show what is wrong with it.
for (const id of NUMBERS) $(id).addEventListener("invalid", () => ($("settings").open = true));

$("stop").addEventListener("click", () => answering?.abort());

$("new").addEventListener("click", () => {
  answering?.abort();
  answering = null;
  messages = [];
  $("conversation").replaceChildren();
  $("empty").hidden = false;
  enableButtons();
  $("prompt").focus();
});

$("retry").addEventListener("click", load);

load();
