// The conversation on the page: asking, stopping, editing, asking again, continuing, answering calls.

import { answerError } from "./advice.js";
import { isContinuable, messagesOf, resultsOf } from "./conversation.js";
import { element } from "./dom.js";
import { checkJson } from "./json-check.js";
import { inputOf } from "./request.js";
import { Stopwatch } from "./speed.js";
import { pieces } from "./streams.js";
import { TurnView } from "./turn.js";

/**
 * @import { ToolCallMessage } from "../pkg/index.d.ts"
 * @import { Place } from "./browser-place.js"
 * @import { StoredTurn } from "./conversation.js"
 * @import { Settings } from "./request.js"
 *
 * @typedef {object} ChatOptions
 * @property {() => Place | null} place
 * @property {() => Settings} settings
 * @property {() => void} onState called when an answer begins or ends
 * @property {(turns: StoredTurn[]) => void} onTurns called with turns that have changed and are worth keeping
 */

/** Interval in milliseconds at which the facts under a growing answer are updated. */
const FACTS_EVERY_MS = 200;

export class Chat {
  #options;
  /** @type {StoredTurn[]} */
  #turns = [];
  /** The views of the turns that have one: calls have their answers in their own card. @type {Map<StoredTurn, TurnView>} */
  #views = new Map();
  /** The AbortController of the answer that is being computed; `null` if there is none. @type {AbortController | null} */
  #answering = null;
  #list = element("conversation");
  #scroller = element("scroller");
  /** Whether the end is in view. Only then does the page follow a growing answer. */
  #following = true;

  /** @param {ChatOptions} options */
  constructor(options) {
    this.#options = options;
    this.#scroller.addEventListener("scroll", () => {
      const { scrollHeight, clientHeight, scrollTop } = this.#scroller;
      this.#following = scrollHeight - clientHeight - scrollTop < 40;
    });
  }

  get turns() {
    return this.#turns;
  }

  get isAnswering() {
    return this.#answering !== null;
  }

  /** Whether the user has begun to change a turn, or to answer a call. */
  get isEdited() {
    const fields = /** @type {HTMLTextAreaElement[]} */ (Array.from(this.#list.querySelectorAll(".calls textarea")));
    return this.#list.querySelector(".edit") !== null || fields.some(({ value }) => value !== "");
  }

  /** Whether something can be asked now. */
  get #isIdle() {
    return !this.isAnswering && this.#options.place() !== null;
  }

  /** @param {StoredTurn[]} turns of another conversation */
  open(turns) {
    this.stop();
    this.#answering = null;
    this.#turns = turns;
    this.#showAll();
    this.#following = true;
    this.#follow();
  }

  stop() {
    this.#answering?.abort();
  }

  /** @param {string} prompt */
  async ask(prompt) {
    this.#turns.push({ role: "user", content: prompt });
    await this.#answer();
  }

  // ── The turns ──

  #showAll() {
    this.#views.clear();
    element("empty").hidden = this.#turns.length > 0;
    this.#list.replaceChildren();
    for (const turn of this.#turns) if (turn.role !== "tool") this.#show(turn);
    this.offerAll();
  }

  /** @param {StoredTurn} turn */
  #show(turn) {
    const view = new TurnView(turn);
    this.#views.set(turn, view);
    this.#list.append(view.element);
    if (turn.json && turn.content && turn.end === "stop") this.#judge(turn, view);
    return view;
  }

  /** Offers for each turn what can be done with it now. To be called when the place has changed. */
  offerAll() {
    const results = resultsOf(this.#turns);
    const idle = this.#isIdle;
    for (const [turn, view] of this.#views) {
      const index = this.#turns.indexOf(turn);
      const isLast = this.#turns.slice(index + 1).every(({ role }) => role === "tool");
      view.offer(
        {
          edit: idle && turn.role === "user" ? (text) => this.#edit(index, text) : undefined,
          regenerate: idle && turn.role === "assistant" ? () => this.#regenerate(index) : undefined,
          goOn: idle && isLast && isContinuable(turn) ? () => this.#continue(turn) : undefined,
          answerCalls: idle && isLast ? (answers) => this.#answerCalls(answers) : null,
        },
        results,
      );
    }
  }

  /**
   * Returns whether the text is asked: its field stays open while a model is loaded or another answer computed.
   *
   * @param {number} index
   * @param {string} text
   */
  #edit(index, text) {
    if (!this.#isIdle) return false;
    this.#turns.splice(index);
    this.#showAll();
    this.ask(text);
    return true;
  }

  /** @param {number} index of the answer */
  #regenerate(index) {
    this.#turns.splice(index);
    this.#showAll();
    this.#answer();
  }

  /** @param {{call: ToolCallMessage, content: string}[]} answers */
  #answerCalls(answers) {
    for (const { call, content } of answers) this.#turns.push({ role: "tool", callId: call.id, name: call.function.name, content });
    this.#answer();
  }

  // ── Answers ──

  /** Answers the turns as they are. */
  async #answer() {
    const settings = this.#options.settings();
    const asked = messagesOf(this.#turns);
    const json = settings.format === "text" ? undefined : settings.format === "json_schema" ? settings.schema : true;
    /** @type {StoredTurn} */
    const turn = { role: "assistant", content: "", ...(json && { json }), ...(settings.raw && { raw: true }) };
    element("empty").hidden = true;
    for (const earlier of this.#turns) if (earlier.role !== "tool" && !this.#views.has(earlier)) this.#show(earlier);
    this.#turns.push(turn);
    await this.#compute(turn, settings.model, async () => inputOf(settings, asked));
  }

  /**
   * Goes on where an answer ends: with the text that the model has read and written so far as a raw prompt.
   *
   * @param {StoredTurn} turn
   */
  async #continue(turn) {
    const settings = this.#options.settings();
    const before = inputOf(settings, messagesOf(this.#turns.slice(0, this.#turns.indexOf(turn))));
    await this.#compute(turn, settings.model, async (place) => {
      const { text } = await place.tokenize(settings.model, before);
      return { prompt: text + turn.content, raw: true, ...settings.sampling };
    });
  }

  /**
   * Streams an answer into a turn.
   *
   * @param {StoredTurn} turn
   * @param {string} model
   * @param {(place: Place) => Promise<object>} makeInput
   */
  async #compute(turn, model, makeInput) {
    // Nothing is offered before a model is ready.
    const place = /** @type {Place} */ (this.#options.place());
    const controller = new AbortController();
    const { signal } = controller;
    this.#answering = controller;
    const turns = this.#turns;
    const view = this.#views.get(turn) ?? this.#show(turn);
    // Kept already, in case the page is closed or another conversation opened before the end.
    this.#options.onTurns(turns);
    view.growing = true;
    this.offerAll();
    this.#options.onState();
    this.#following = true;
    this.#follow();

    const watch = new Stopwatch();
    const showFacts = () => (view.facts = factsSoFar(watch));
    showFacts();
    const ticking = setInterval(showFacts, FACTS_EVERY_MS);
    delete turn.error;
    try {
      const stream = await place.run(model, { ...(await makeInput(place)), stream: true }, signal);
      for await (const piece of pieces(stream)) {
        if (piece.text || piece.thought || piece.calls.length > 0) watch.piece();
        this.#add(turn, view, piece);
        // The text also grows when a stop arrives between two pieces.
        if (signal.aborted) break;
      }
      signal.throwIfAborted();
      turn.facts = factsAtEnd(watch, turn);
    } catch (error) {
      if (signal.aborted) {
        turn.end = "stopped";
        turn.facts = turn.content || turn.thought ? `${factsSoFar(watch)} · stopped` : "Stopped";
      } else {
        turn.facts = "";
        turn.error = answerError(error);
        view.fail(turn.error);
      }
    }
    clearInterval(ticking);
    view.facts = turn.facts ?? "";
    view.growing = false;
    this.#options.onTurns(turns);
    // Otherwise another conversation was opened in the meantime.
    if (this.#answering !== controller) return;
    this.#answering = null;
    this.offerAll();
    this.#options.onState();
    if (turn.json && turn.end === "stop") await this.#judge(turn, view);
    if (this.#following) this.#follow();
  }

  /**
   * @param {StoredTurn} turn
   * @param {TurnView} view
   * @param {import("./streams.js").Piece} piece
   */
  #add(turn, view, { text, thought, calls, usage, finish_reason }) {
    if (thought) {
      turn.thought = (turn.thought ?? "") + thought;
      view.think(thought);
    }
    if (calls.length > 0) turn.calls = [...(turn.calls ?? []), ...calls];
    if (usage) turn.usage = usage;
    if (finish_reason) turn.end = finish_reason;
    if (text) {
      turn.content += text;
      view.grow();
    }
    if (this.#following) this.#follow();
  }

  /**
   * Says whether JSON fits its schema.
   *
   * @param {StoredTurn} turn
   * @param {TurnView} view
   */
  async #judge(turn, view) {
    view.judge(await checkJson(turn.content, turn.json ?? true));
  }

  #scrolling = false;
  #follow() {
    // At most once per frame, however fast the text arrives.
    if (this.#scrolling) return;
    this.#scrolling = true;
    requestAnimationFrame(() => {
      this.#scrolling = false;
      this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: "instant" });
    });
  }
}

/** @param {Stopwatch} watch */
function factsSoFar(watch) {
  if (watch.firstAfter === null) return `Reading the prompt … ${watch.elapsed.toFixed(1)} s`;
  const speed = watch.tokensPerSecond();
  return [`about ${watch.pieces} tokens`, speed && `${speed.toFixed(1)} tokens/s`].filter(Boolean).join(" · ");
}

/**
 * @param {Stopwatch} watch
 * @param {StoredTurn} turn
 */
function factsAtEnd(watch, { usage, end }) {
  const { prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details } = usage ?? {};
  const speed = watch.tokensPerSecond(completion_tokens);
  const cached = prompt_tokens_details?.cached_tokens;
  const thoughts = completion_tokens_details?.reasoning_tokens;
  return [
    speed && `${speed.toFixed(1)} tokens/s`,
    completion_tokens !== undefined && `${completion_tokens} tokens${thoughts ? `, ${thoughts} of them thoughts` : ""}`,
    watch.firstAfter !== null && `first token after ${watch.firstAfter.toFixed(2)} s`,
    prompt_tokens !== undefined && `prompt ${prompt_tokens} tokens${cached ? `, ${cached} of them cached` : ""}`,
    end === "length" && "cut off at max_tokens",
  ]
    .filter(Boolean)
    .join(" · ");
}
