// Helpers for the page's elements: finding, making, icons, copying, messages beside fields.

/**
 * An element of index.html.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} [type]
 * @returns {T}
 */
export function element(id, type = /** @type {any} */ (HTMLElement)) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} "${id}".`);
  return found;
}

/**
 * Makes an element. Texts become text nodes, never HTML.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [properties] of the element; names with a hyphen are attributes
 * @param {...(Node | string | false | null | undefined)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else /** @type {any} */ (made)[name] = value;
  }
  made.append(...children.filter((child) => child !== false && child !== null && child !== undefined));
  return made;
}

/** Paths in a square of 24 units, drawn as lines. */
const ICONS = /** @type {Record<string, string>} */ ({
  menu: "M4 6h16M4 12h16M4 18h10",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.5l4.5 4.5L19 7",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  play: "M8 5l11 7-11 7z",
  edit: "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
  again: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  more: "M5 12h14M13 6l6 6-6 6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  tool: "M14 6a4 4 0 0 1 5-3l-3 3 2 2 3-3a4 4 0 0 1-5 5L8 18a2 2 0 0 1-3-3z",
});

/** @param {string} name */
export function icon(name) {
  const SVG = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: "16", height: "16", "aria-hidden": "true", class: "drawing" })) drawing.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}

/** Puts the icons into the elements that name one. */
export function drawIcons() {
  for (const place of document.querySelectorAll("[data-icon]")) place.prepend(icon(/** @type {HTMLElement} */ (place).dataset.icon ?? ""));
}

/**
 * A button with an icon; its label is shown or only read out.
 *
 * @param {string} name of the icon
 * @param {string} label
 * @param {() => void} onClick
 * @param {{shown?: boolean, className?: string}} [options]
 */
export function iconButton(name, label, onClick, { shown = false, className = "quiet" } = {}) {
  const button = make("button", { type: "button", className: `${className}${shown ? "" : " icon"}` }, icon(name), shown && make("span", {}, label));
  if (!shown) Object.assign(button, { ariaLabel: label, title: label });
  button.addEventListener("click", onClick);
  return button;
}

/**
 * A button that copies a text, and says so.
 *
 * @param {() => string} text
 * @param {string} [label]
 */
export function copyButton(text, label = "Copy") {
  const button = iconButton("copy", label, () => copy(text(), button));
  return button;
}

/**
 * @param {string} text
 * @param {HTMLButtonElement} button shows for a moment that it worked
 */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return announce("The browser does not allow copying. Select the text instead.");
  }
  const drawing = button.querySelector(".drawing");
  const done = icon("check");
  drawing?.replaceWith(done);
  announce("Copied");
  setTimeout(() => drawing && done.replaceWith(drawing), 1500);
}

/** Has screen readers read a text. @param {string} text */
export function announce(text) {
  element("announce").textContent = text;
}

/**
 * Shows an error beside what caused it, or removes it.
 *
 * @param {HTMLElement} place
 * @param {string | null} text
 */
export function showError(place, text) {
  place.hidden = !text;
  place.textContent = text ?? "";
}

/** @param {any} error whatever was thrown */
export const messageOf = (error) => String(error?.message || error);

/** A size for people, in decimal units as disks have them. @param {number} bytes */
export function sizeText(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(bytes >= 1e10 ? 0 : 1)} GB`;
  if (bytes >= 1e6) return `${Math.round(bytes / 1e6)} MB`;
  return bytes >= 1e3 ? `${Math.round(bytes / 1e3)} kB` : `${bytes} bytes`;
}
