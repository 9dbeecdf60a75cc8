// Rows of tabs: arrow keys move between them, one of them is chosen.

/**
 * @param {HTMLElement} list of buttons with the role "tab"
 * @param {(tab: HTMLElement) => void} onChoose
 * @returns {(tab: HTMLElement) => void} chooses one
 */
export function tabs(list, onChoose) {
  const all = () => /** @type {HTMLElement[]} */ (Array.from(list.querySelectorAll("[role=tab]")));
  const choose = (/** @type {HTMLElement} */ tab) => {
    for (const each of all()) {
      each.setAttribute("aria-selected", String(each === tab));
      each.tabIndex = each === tab ? 0 : -1;
    }
    onChoose(tab);
  };
  list.addEventListener("click", ({ target }) => {
    const tab = /** @type {Element} */ (target).closest("[role=tab]");
    if (tab instanceof HTMLElement) choose(tab);
  });
  list.addEventListener("keydown", (event) => {
    const tabs = all();
    const index = tabs.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (index < 0 || to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    tab.focus();
    choose(tab);
  });
  return choose;
}
