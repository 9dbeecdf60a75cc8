// Light and dark: as the system has it, until the user chooses.

import { announce, element } from "./dom.js";
import { recall, remember } from "./store.js";

const THEMES = ["system", "light", "dark"];

/** @param {string} theme */
function use(theme) {
  document.documentElement.dataset.theme = theme;
  const button = element("theme");
  button.ariaLabel = `Theme: ${theme}`;
  button.title = `Theme: ${theme}`;
}

use(THEMES.includes(recall("theme")) ? recall("theme") : THEMES[0]);
element("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? THEMES[0];
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  remember("theme", next);
  use(next);
  announce(`Theme: ${next}`);
});
