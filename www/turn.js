// One turn of the conversation on the page.

import { copyButton, icon, iconButton, make } from "./dom.js";
import { indented } from "./json-check.js";
import { MarkdownView } from "./markdown.js";
import { callsCard } from "./tools.js";

/**
 * @import { ToolCallMessage } from "../pkg/index.d.ts"
 * @import { StoredTurn } from "./conversation.js"
 *
 * @typedef {object} TurnActions what the user can do with a turn; what is missing is not offered
 * @property {(text: string) => boolean} [edit] returns whether the text is taken: not while no model is loaded
 * @property {() => void} [regenerate]
 * @property {() => void} [goOn]
 * @property {((results: {call: ToolCallMessage, content: string}[]) => void) | null} [answerCalls]
 */

const NAMES = { user: "You", assistant: "Model", tool: "Tool" };

export class TurnView {
  #turn;
  #body;
  #thought = document.createTextNode("");
  #facts = make("p", { className: "facts", "aria-live": "off" });
  #actions = make("div", { className: "turn-actions" });
  element = make("article", { className: "turn" });

  /**
   * @param {StoredTurn} turn
   * @param {Map<string, string>} [results] of its calls
   * @param {TurnActions} [actions]
   */
  constructor(turn, results = new Map(), actions = {}) {
    this.#turn = turn;
    this.element.dataset.role = turn.role;
    const isUser = turn.role === "user";
    this.#body = isUser ? null : new MarkdownView();
    const text = this.#body?.element ?? make("p", { className: "text" }, turn.content);
    this.element.append(make("h3", { className: "who" }, NAMES[turn.role]), text, make("footer", {}, this.#facts, this.#actions));
    if (turn.thought) this.think(turn.thought);
    this.#showText(true);
    if (turn.facts) this.facts = turn.facts;
    if (turn.error) this.fail(turn.error);
    this.offer(actions, results);
  }

  /** Shows the text again, after it has changed in the turn. */
  grow() {
    this.#showText(false);
  }

  /** @param {boolean} now */
  #showText(now) {
    if (!this.#body) return;
    const { content, json } = this.#turn;
    this.#body.text = json && content ? `\`\`\`json\n${now ? indented(content) : content}\n\`\`\`` : content;
    if (now) this.#body.show();
  }

  /**
   * Appends to what the model thinks before it answers, which the page shows folded.
   *
   * @param {string} text
   */
  think(text) {
    if (!this.#thought.isConnected) {
      const paragraph = make("p", {}, this.#thought);
      this.element.querySelector(".text")?.before(make("details", { className: "thought" }, make("summary", {}, "Thoughts"), paragraph));
    }
    this.#thought.appendData(text);
  }

  /**
   * While an answer grows, the turn shows a cursor, and screen readers wait until the answer is complete.
   *
   * @param {boolean} growing
   */
  set growing(growing) {
    this.element.toggleAttribute("data-growing", growing);
    this.element.setAttribute("aria-busy", String(growing));
    if (!growing) this.#showText(true);
  }

  /**
   * The line under the text, with speed and token counts.
   *
   * @param {string} text
   */
  set facts(text) {
    this.#facts.textContent = text;
  }

  /**
   * Shows an error under the text.
   *
   * @param {string} text
   */
  fail(text) {
    this.element.querySelector("footer")?.before(make("p", { className: "error", role: "alert" }, text));
  }

  /**
   * Whether JSON fits its schema.
   *
   * @param {{valid: boolean, text: string}} verdict
   */
  judge({ valid, text }) {
    this.element.querySelector(".verdict")?.remove();
    this.element.querySelector("footer")?.before(make("p", { className: "verdict", "data-valid": String(valid) }, icon(valid ? "check" : "close"), make("span", {}, text)));
  }

  /**
   * @param {TurnActions} actions
   * @param {Map<string, string>} [results]
   */
  offer({ edit, regenerate, goOn, answerCalls = null }, results = new Map()) {
    const { content, calls } = this.#turn;
    this.element.querySelector(".calls")?.remove();
    if (calls?.length) this.element.querySelector("footer")?.before(callsCard(calls, results, answerCalls));
    const buttons = [
      goOn && iconButton("more", "Continue", goOn, { shown: true }),
      edit && iconButton("edit", "Edit", () => this.#edit(edit)),
      regenerate && iconButton("again", "Regenerate", regenerate),
      content && copyButton(() => content, "Copy the text"),
    ];
    this.#actions.replaceChildren(...buttons.filter((button) => button instanceof Node));
  }

  /** @param {(text: string) => boolean} save */
  #edit(save) {
    if (this.element.querySelector(".edit")) return;
    const field = make("textarea", { value: this.#turn.content, rows: Math.min(10, this.#turn.content.split("\n").length + 1), ariaLabel: "Your text" });
    const form = make("form", { className: "edit" }, field, make("div", { className: "row" }, make("button", { type: "submit", className: "primary" }, "Ask again"), make("button", { type: "button" }, "Cancel")));
    const text = /** @type {HTMLElement} */ (this.element.querySelector(".text"));
    const close = () => {
      form.remove();
      text.hidden = false;
      this.#actions.querySelector("button")?.focus();
    };
    form.querySelector("[type=button]")?.addEventListener("click", close);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!field.value.trim()) return field.focus();
      if (save(field.value.trim())) close();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    text.hidden = true;
    text.after(form);
    field.focus();
  }
}
