// Answers as HTML: Markdown with highlighted code. What a model writes is never trusted: HTML in it is shown as text, and everything passes DOMPurify.

import { DOMPurify, Marked, hljs } from "/vendor/markdown.js";
import { copyButton, make } from "./dom.js";

/** @import { Token, TokensList } from "marked" */

const escaped = (/** @type {string} */ text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escaped(text),
    // An image would be a request to another server.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    // The labels of a list of tasks are in its items.
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

/** Longer code is shown plain: highlighting it would take longer than a frame. */
const MAX_HIGHLIGHTED = 30_000;

const SAFE = {
  ALLOWED_TAGS: ["p", "br", "hr", "em", "strong", "del", "code", "pre", "blockquote", "a", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "start", "align", "class"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};

/** A text that grows, shown as Markdown: blocks that have not changed keep their elements, so that nothing flickers and selections stay. */
export class MarkdownView {
  /** @type {{raw: string, element: HTMLElement}[]} */
  #blocks = [];
  #frame = 0;
  #text = "";
  element = make("div", { className: "text markdown" });

  get text() {
    return this.#text;
  }

  /** Shows the text with the next frame, however often it changes before. */
  set text(text) {
    this.#text = text;
    this.#frame ||= requestAnimationFrame(() => this.show());
  }

  /** Shows the text now. */
  show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const tokens = marked.lexer(this.#text);
    const kept = tokens.filter(({ type }) => type !== "space" && type !== "def");
    for (const [index, token] of kept.entries()) {
      const before = this.#blocks[index];
      if (before?.raw === token.raw) continue;
      // A code block that grows keeps its element, with its button.
      const element = blockOf(token, tokens);
      if (before) before.element.replaceWith(element);
      else this.element.append(element);
      this.#blocks[index] = { raw: token.raw, element };
    }
    for (const { element } of this.#blocks.splice(kept.length)) element.remove();
  }
}

/**
 * @param {Token} token
 * @param {TokensList} all which has the addresses of links
 */
function blockOf(token, all) {
  if (token.type === "code") return codeBlock(token.text, token.lang ?? "");
  const list = Object.assign([token], { links: all.links });
  const block = make("div", { className: "block" }, DOMPurify.sanitize(marked.parser(/** @type {any} */ (list)).trim(), SAFE));
  for (const link of block.querySelectorAll("a")) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
  for (const code of block.querySelectorAll("pre > code")) {
    const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
    code.parentElement?.replaceWith(codeBlock(code.textContent?.replace(/\n$/, "") ?? "", language));
  }
  for (const table of block.querySelectorAll("table")) {
    // A wide table is scrolled by itself, also by keyboard.
    const scroller = make("div", { className: "scroll-x", tabIndex: 0, role: "region", ariaLabel: "Table" });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  return block;
}

/**
 * A block of code with its language and a button that copies it.
 *
 * @param {string} code
 * @param {string} info what follows the three backticks
 */
export function codeBlock(code, info) {
  const language = info.trim().split(/[\s,{]/)[0].toLowerCase();
  const block = make("div", { className: "code-block" });
  const content = make("code", { className: "hljs" }, highlighted(code, language));
  block.append(make("div", { className: "code-head" }, make("span", {}, language || "text"), copyButton(() => code, "Copy the code")), make("pre", { tabIndex: 0 }, content));
  return block;
}

/**
 * @param {string} code
 * @param {string} language
 * @returns {DocumentFragment | string}
 */
export function highlighted(code, language) {
  if (!hljs.getLanguage(language) || code.length > MAX_HIGHLIGHTED) return code;
  return DOMPurify.sanitize(hljs.highlight(code, { language, ignoreIllegals: true }).value, { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true });
}
