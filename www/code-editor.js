// A field for code: a plain text area over the highlighted text, with the numbers of the lines.

import { make } from "./dom.js";
import { highlighted } from "./markdown.js";

export class CodeEditor {
  #field = make("textarea", { spellcheck: false, autocapitalize: "off", autocomplete: "off", wrap: "off" });
  #shown = make("pre", { "aria-hidden": "true" });
  #numbers = make("div", { className: "line-numbers", "aria-hidden": "true" });
  /** Esc was pressed: the next Tab moves the focus. */
  #leaving = false;
  element = make("div", { className: "editor" });
  onChange = () => {};

  /** @param {string} label */
  constructor(label) {
    this.#field.ariaLabel = label;
    this.element.append(this.#numbers, make("div", { className: "editor-text" }, this.#shown, this.#field));
    this.#field.addEventListener("input", () => {
      this.#show();
      this.onChange();
    });
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#field.addEventListener("scroll", () => this.#scroll());
  }

  get value() {
    return this.#field.value;
  }

  set value(text) {
    this.#field.value = text;
    this.#show();
  }

  /** Marks the line of an error; `undefined` marks none. @param {number | undefined} line */
  mark(line) {
    this.#show(line);
  }

  /** @param {number} [wrong] */
  #show(wrong) {
    const text = this.value;
    this.#shown.replaceChildren(highlighted(text, "javascript"), "\n");
    const count = text.split("\n").length;
    this.#numbers.replaceChildren(...Array.from({ length: count }, (_, index) => make("span", index + 1 === wrong ? { className: "wrong" } : {}, String(index + 1))));
    this.#scroll();
  }

  #scroll() {
    const { scrollTop, scrollLeft } = this.#field;
    this.#shown.style.transform = `translate(${-scrollLeft}px, ${-scrollTop}px)`;
    this.#numbers.style.transform = `translateY(${-scrollTop}px)`;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { key, shiftKey, ctrlKey, metaKey, altKey, isComposing } = event;
    const leaving = this.#leaving;
    this.#leaving = key === "Escape";
    if (ctrlKey || metaKey || altKey || isComposing) return;
    if (key === "Tab" && !shiftKey && !leaving) {
      event.preventDefault();
      this.#insert("  ");
    } else if (key === "Enter") {
      event.preventDefault();
      const before = this.value.slice(0, this.#field.selectionStart);
      const line = before.slice(before.lastIndexOf("\n") + 1);
      this.#insert(`\n${/^ */.exec(line)?.[0] ?? ""}${/[{[(]$/.test(line) ? "  " : ""}`);
    }
  }

  /** @param {string} text */
  #insert(text) {
    // The only way that keeps the browser's own undo.
    if (!document.execCommand("insertText", false, text)) {
      this.#field.setRangeText(text, this.#field.selectionStart, this.#field.selectionEnd, "end");
      this.#field.dispatchEvent(new Event("input"));
    }
  }
}
