// One turn of the conversation on the page. The text of users and models is inserted as text, never as HTML.

const NAMES = { user: "You", assistant: "Model" };

export class Turn {
  #body = document.createTextNode("");
  #thought = document.createTextNode("");
  #facts = make("p", "facts");
  #element = make("article", "turn");

  /**
   * @param {HTMLElement} conversation
   * @param {"user" | "assistant"} role
   * @param {string} text
   */
  constructor(conversation, role, text = "") {
    this.#element.dataset.role = role;
    const paragraph = make("p", "text");
    this.#body.data = text;
    paragraph.append(this.#body);
    const who = make("h3", "who");
    who.textContent = NAMES[role];
    // Screen readers should not read numbers that change many times a second.
    this.#facts.setAttribute("aria-live", "off");
    this.#element.append(who, paragraph, this.#facts);
    conversation.append(this.#element);
  }

  /**
   * Appends to what the model thinks before it answers, which the page shows folded.
   *
   * @param {string} text
   */
  think(text) {
    if (!this.#thought.isConnected) {
      const details = make("details", "thought");
      const summary = document.createElement("summary");
      summary.textContent = "Thoughts";
      const paragraph = make("p", "");
      paragraph.append(this.#thought);
      details.append(summary, paragraph);
      this.#element.querySelector(".text")?.before(details);
    }
    this.#thought.appendData(text);
  }

  get text() {
    return this.#body.data;
  }

  /**
   * Appends text. The cost does not depend on the length of the answer so far.
   *
   * @param {string} text
   */
  append(text) {
    this.#body.appendData(text);
  }

  /**
   * While an answer grows, the turn shows a cursor, and screen readers wait until the answer is complete.
   *
   * @param {boolean} growing
   */
  set growing(growing) {
    this.#element.toggleAttribute("data-growing", growing);
    this.#element.setAttribute("aria-busy", String(growing));
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
    const error = make("p", "error");
    error.setAttribute("role", "alert");
    error.textContent = text;
    this.#element.append(error);
  }
}

/**
 * @param {string} tag
 * @param {string} className
 */
function make(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
