// The two drawers: beside the conversation where there is room, otherwise over it. A drawer over the page is closed by Esc and by a click beside it.

import { element } from "./dom.js";
import { recall, remember } from "./store.js";

/** Below these widths a drawer lies over the page; the same numbers are in playground.css. */
const OVER = { conversations: "(max-width: 60rem)", "settings-panel": "(max-width: 72rem)" };

/**
 * @param {keyof typeof OVER} id
 * @param {string} toggleId
 */
function drawer(id, toggleId) {
  const panel = element(id);
  const toggle = element(toggleId);
  const backdrop = element("backdrop");
  const over = matchMedia(OVER[id]);

  /** @param {boolean} open */
  const show = (open) => {
    panel.toggleAttribute("data-open", open);
    // A closed drawer has nothing that the keyboard or a screen reader reaches.
    panel.inert = !open;
    toggle.setAttribute("aria-expanded", String(open));
    backdrop.hidden = !document.querySelector(".drawer[data-over][data-open]");
  };
  const place = () => {
    panel.toggleAttribute("data-over", over.matches);
    show(!over.matches && recall(`open:${id}`) !== false);
  };
  const close = () => {
    show(false);
    if (!over.matches) remember(`open:${id}`, false);
    toggle.focus();
  };
  over.addEventListener("change", place);
  place();

  toggle.addEventListener("click", () => {
    const open = !panel.hasAttribute("data-open");
    show(open);
    if (!over.matches) remember(`open:${id}`, open);
    if (open) /** @type {HTMLElement | null} */ (panel.querySelector(over.matches ? ".close" : "button, select"))?.focus();
  });
  panel.querySelector(".close")?.addEventListener("click", close);
  const isOver = () => over.matches && panel.hasAttribute("data-open");
  backdrop.addEventListener("click", () => isOver() && close());
  panel.addEventListener("keydown", ({ key }) => key === "Escape" && isOver() && close());
  return {
    /** Opens the drawer where it is closed. */
    open: () => show(true),
    /** Closes it where it lies over the page. */
    leave: () => isOver() && close(),
  };
}

export const conversationsDrawer = drawer("conversations", "show-conversations");
export const settingsDrawer = drawer("settings-panel", "show-settings");
