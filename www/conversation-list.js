// The list of conversations: which are kept, and the one that is open. Other tabs of this page may show and change the same ones: a tab takes over what
// others have changed while it is idle, and keeps its own turns as another conversation if they do not go on from what is stored.

import { titleOf } from "./conversation.js";
import { announce, element, iconButton, make } from "./dom.js";
import { changeConversation, readConversations, recall, remember } from "./store.js";

/**
 * @import { StoredTurn } from "./conversation.js"
 * @import { StoredConversation } from "./store.js"
 *
 * @typedef {object} ListOptions
 * @property {(turns: StoredTurn[], byUser: boolean) => void} onOpen called with the turns of the conversation that is now open
 * @property {() => boolean} isIdle whether the open conversation may be replaced by what another tab has made of it
 */

const KEPT = "Kept in this browser only.";
const NOT_KEPT = "This browser keeps nothing (a private window, or no room): conversations end with this page.";
const BRANCHED = "This conversation was changed in another tab, so it goes on here as one of its own.";
const CHANGED = "This conversation was changed in another tab, and is shown again: delete it now if it is still to go.";

export class ConversationList {
  #options;
  /** @type {StoredConversation[]} */
  #all = [];
  /** @type {StoredConversation} */
  #current = fresh();
  /** Of which conversation turns are, also of one that was replaced meanwhile. @type {WeakMap<StoredTurn[], StoredConversation>} */
  #owners = new WeakMap();
  /** The ids of those that the user has deleted here. */
  #removed = new Set();
  /** Whether a title is being typed. */
  #renaming = false;
  #list = element("conversation-list");
  /** Tells other tabs that something has changed. */
  #tabs = new BroadcastChannel("workers-ai-local:conversations");
  /** The last use of the store: each begins when the one before has ended. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /** @param {ListOptions} options */
  constructor(options) {
    this.#options = options;
    element("new").addEventListener("click", () => this.#start());
    this.#tabs.onmessage = () => this.#inOrder(() => this.#takeOver());
  }

  /** Reads what earlier visits have left, and opens the last one. */
  async restore() {
    await this.#inOrder(async () => (this.#all = (await readConversations()) ?? []));
    const last = this.#all.find(({ id }) => id === recall("conversation"));
    if (last) this.#current = last;
    this.#show();
    this.#options.onOpen(this.#current.turns, false);
  }

  #start() {
    // One that is empty need not be kept beside another empty one.
    if (this.#current.turns.length > 0) this.#current = fresh();
    this.#opened();
  }

  #opened() {
    remember("conversation", this.#current.id);
    this.#say(KEPT);
    this.#show();
    this.#options.onOpen(this.#current.turns, true);
  }

  /**
   * @template T
   * @param {() => Promise<T>} use
   * @returns {Promise<T>}
   */
  #inOrder(use) {
    const result = this.#last.then(use);
    this.#last = result.catch(() => {});
    return result;
  }

  /**
   * Keeps turns that have changed: of the open conversation, or of one whose answer has ended since another was opened.
   *
   * @param {StoredTurn[]} turns
   */
  keep(turns) {
    return this.#inOrder(() => this.#keep(turns));
  }

  /** @param {StoredTurn[]} turns */
  async #keep(turns) {
    const changed = this.#owners.get(turns) ?? [this.#current, ...this.#all].find((conversation) => conversation.turns === turns);
    if (!changed || this.#removed.has(changed.id)) return;
    this.#owners.set(turns, changed);
    changed.updated = Date.now();
    if (!changed.named) changed.title = titleOf(turns);
    let isStored = await this.#write(changed);
    if (isStored === "changed elsewhere") {
      Object.assign(changed, { id: crypto.randomUUID(), version: 0 });
      this.#say(BRANCHED);
      isStored = await this.#write(changed);
      await this.#takeOver();
    }
    this.#all = [changed, ...this.#all.filter(({ id }) => id !== changed.id)];
    if (changed === this.#current) remember("conversation", changed.id);
    this.#show();
    if (!isStored) this.#say(NOT_KEPT);
    else if (element("store-note").textContent === NOT_KEPT) this.#say(KEPT);
  }

  /** @param {string} text about what is kept */
  #say(text) {
    const place = element("store-note");
    if (place.textContent === text) return;
    place.textContent = text;
    if (text !== KEPT) announce(text);
  }

  /**
   * Stores a conversation, unless its turns there are others than those that this tab has read or stored last.
   *
   * @param {StoredConversation} conversation
   * @returns {Promise<boolean | "changed elsewhere">} whether it is stored
   */
  async #write(conversation) {
    const { id, version = 0 } = conversation;
    let isChanged = false;
    const isDone = await changeConversation(id, (stored) => {
      isChanged = stored !== undefined && (stored.version ?? 0) !== version;
      if (isChanged) return undefined;
      if (stored?.named) Object.assign(conversation, { title: stored.title, named: true });
      return { ...conversation, version: version + 1 };
    });
    if (isChanged) return "changed elsewhere";
    if (isDone) {
      conversation.version = version + 1;
      this.#tabs.postMessage(null);
    }
    return isDone;
  }

  /** Shows what other tabs have stored, and opens it if it is what is open here. What is being changed here stays until it is kept. */
  async #takeOver() {
    const stored = await readConversations();
    if (!stored) return;
    const unstored = this.#all.filter(({ id, version }) => !version && !stored.some((other) => other.id === id));
    const known = stored.map((theirs) => {
      const ours = [this.#current, ...this.#all].find(({ id }) => id === theirs.id);
      if (!ours || (ours.version ?? 0) !== (theirs.version ?? 0)) return theirs;
      const { title, named, updated } = theirs;
      return Object.assign(ours, { title, named, updated });
    });
    this.#all = [...unstored, ...known];
    const current = this.#all.find(({ id }) => id === this.#current.id);
    if (current && current !== this.#current) {
      this.#owners.set(this.#current.turns, this.#current);
      if (this.#options.isIdle()) {
        this.#current = current;
        this.#options.onOpen(current.turns, false);
      }
    }
    this.#show();
  }

  #show() {
    if (this.#renaming) return;
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
      this.#renaming = false;
      const title = field.value.trim();
      if (keeps && title) {
        Object.assign(conversation, { title, named: true });
        this.#inOrder(async () => {
          await changeConversation(conversation.id, (stored) => (stored ? { ...stored, title, named: true } : undefined));
          this.#tabs.postMessage(null);
        });
      }
      this.#show();
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", ({ key }) => {
      if (key !== "Enter" && key !== "Escape") return;
      end(key === "Enter");
      /** @type {HTMLElement | null} */ (this.#list.querySelector("[aria-current]"))?.focus();
    });
    this.#renaming = true;
    row.replaceChildren(field);
    field.select();
  }

  /** @param {StoredConversation} conversation */
  #remove(conversation) {
    return this.#inOrder(async () => {
      const { id, version = 0 } = conversation;
      let isChanged = false;
      await changeConversation(id, (stored) => {
        isChanged = stored !== undefined && (stored.version ?? 0) !== version;
        return isChanged ? undefined : null;
      });
      if (isChanged) {
        this.#say(CHANGED);
        return this.#takeOver();
      }
      this.#removed.add(id);
      this.#all = this.#all.filter((other) => other.id !== id);
      this.#tabs.postMessage(null);
      if (id === this.#current.id) {
        this.#current = fresh();
        this.#opened();
      } else this.#show();
      element("new").focus();
    });
  }
}

/** @returns {StoredConversation} */
const fresh = () => ({ id: crypto.randomUUID(), title: "New conversation", updated: Date.now(), turns: [] });
