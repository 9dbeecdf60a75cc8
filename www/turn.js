// One turn of the conversation on the page. Text from people and models goes in as text, never as HTML.

const NAMES = { user: "You", assistant: "Model" };

export class Turn {
  #body = document.createTextNode("");
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
    // Numbers that change many times a second are not to be read aloud.
    this.#facts.setAttribute("aria-live", "off");
    this.#element.append(who, paragraph, this.#facts);
    conversation.append(this.#element);
  }

  get text() {
    return this.#body.data;
  }

  /** More text. Appended in place, which costs the same however long the answer is. */
  append(text) {
    this.#body.appendData(text);
  }

  /** While an answer grows, it shows a cursor, and screen readers wait for the whole of it. */
  set growing(growing) {
    this.#element.toggleAttribute("data-growing", growing);
    this.#element.setAttribute("aria-busy", growing);
  }

  set facts(text) {
    this.#facts.textContent = text;
  }

  /** Says that something went wrong, under the text. */
  fail(text) {
    const error = make("p", "error");
    error.setAttribute("role", "alert");
    error.textContent = text;
    this.#element.append(error);
  }
}

function make(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
