// The list of conversations: which are kept, and the one that is open.

import { titleOf } from "./conversation.js";
import { element, iconButton, make } from "./dom.js";
import { readConversations, recall, remember, removeConversation, writeConversation } from "./store.js";

/**
 * @import { StoredTurn } from "./conversation.js"
 * @import { StoredConversation } from "./store.js"
 */

export class ConversationList {
  #onOpen;
  /** @type {StoredConversation[]} */
  #all = [];
  /** @type {StoredConversation} */
  #current = fresh();
  #list = element("conversation-list");

  /** @param {(turns: StoredTurn[], byUser: boolean) => void} onOpen called with the turns of the conversation that is now open */
  constructor(onOpen) {
    this.#onOpen = onOpen;
    element("new").addEventListener("click", () => this.#start());
  }

  /** Reads what earlier visits have left, and opens the last one. */
  async restore() {
    this.#all = await readConversations();
    const last = this.#all.find(({ id }) => id === recall("conversation"));
    if (last) this.#current = last;
    this.#show();
    this.#onOpen(this.#current.turns, false);
  }

  #start() {
    // One that is empty need not be kept beside another empty one.
    if (this.#current.turns.length > 0) this.#current = fresh();
    this.#opened();
  }

  #opened() {
    remember("conversation", this.#current.id);
    this.#show();
    this.#onOpen(this.#current.turns, true);
  }

  /**
   * Keeps turns that have changed: of the open conversation, or of one whose answer has ended since another was opened.
   *
   * @param {StoredTurn[]} turns
   */
  async keep(turns) {
    const changed = [this.#current, ...this.#all].find((conversation) => conversation.turns === turns);
    // It is deleted.
    if (!changed) return;
    changed.updated = Date.now();
    if (!changed.named) changed.title = titleOf(turns);
    this.#all = [changed, ...this.#all.filter(({ id }) => id !== changed.id)];
    if (changed === this.#current) remember("conversation", changed.id);
    this.#show();
    const isStored = await writeConversation(changed);
    element("store-note").textContent = isStored ? "Kept in this browser only." : "This browser keeps nothing (a private window, or no room): conversations end with this page.";
  }

  #show() {
    this.#list.replaceChildren(...this.#all.map((conversation) => this.#row(conversation)));
  }

  /** @param {StoredConversation} conversation */
  #row(conversation) {
    const open = make("button", { type: "button", className: "title", title: conversation.title }, conversation.title);
    if (conversation.id === this.#current.id) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => {
      this.#current = conversation;
      this.#opened();
    });
    const row = make("li", {}, open);
    row.append(
      iconButton("edit", `Rename ${conversation.title}`, () => this.#rename(conversation, row)),
      iconButton("trash", `Delete ${conversation.title}`, () => this.#remove(conversation)),
    );
    return row;
  }

  /**
   * @param {StoredConversation} conversation
   * @param {HTMLElement} row
   */
  #rename(conversation, row) {
    const field = make("input", { value: conversation.title, ariaLabel: "Title", maxLength: 200 });
    let done = false;
    const end = (/** @type {boolean} */ keeps) => {
      if (done) return;
      done = true;
      const title = field.value.trim();
      if (keeps && title) {
        Object.assign(conversation, { title, named: true });
        writeConversation(conversation);
      }
      this.#show();
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", ({ key }) => {
      if (key !== "Enter" && key !== "Escape") return;
      end(key === "Enter");
      /** @type {HTMLElement | null} */ (this.#list.querySelector("[aria-current]"))?.focus();
    });
    row.replaceChildren(field);
    field.select();
  }

  /** @param {StoredConversation} conversation */
  async #remove(conversation) {
    this.#all = this.#all.filter(({ id }) => id !== conversation.id);
    await removeConversation(conversation.id);
    if (conversation.id === this.#current.id) {
      this.#current = fresh();
      this.#opened();
    } else this.#show();
    element("new").focus();
  }
}

/** @returns {StoredConversation} */
const fresh = () => ({ id: crypto.randomUUID(), title: "New conversation", updated: Date.now(), turns: [] });
