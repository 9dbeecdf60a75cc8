// The dialog "Tokens": the prompt as the model reads it.

import { answerError } from "./advice.js";
import { element, make, showError } from "./dom.js";

/**
 * @import { TextGenerationInput } from "../pkg/index.d.ts"
 * @import { Place } from "./browser-place.js"
 */

/** @param {number} share */
const shareText = (share) => (share < 0.001 ? "less than 0.1 %" : `${(100 * share).toFixed(1)} %`);

/** What templates write between turns: `<|im_start|>`, `[INST]`, `</s>`. */
const MARKER = /(<\|[^|<>]*\|>|<\/?[a-z_]+>|\[\/?[A-Z_]+\])/;

/**
 * @param {() => Place | null} place
 * @param {() => {model: string, input: TextGenerationInput}} request of this moment
 */
export function tokenView(place, request) {
  const dialog = /** @type {HTMLDialogElement} */ (element("token-view"));
  element("tokens").addEventListener("click", async () => {
    element("token-text").replaceChildren();
    element("token-ids").textContent = "";
    element("token-count").textContent = "Asking the model …";
    showError(element("token-error"), null);
    dialog.showModal();
    try {
      const now = place();
      if (!now) throw new Error("No model is loaded yet: wait until it is, or choose another one.");
      const { model, input } = request();
      const { tokens, text } = await now.tokenize(model, input);
      const { context } = now.facts;
      element("token-count").textContent = `${tokens.length} tokens, ${text.length} characters${context ? `; ${shareText(tokens.length / context)} of the ${context.toLocaleString("en")} positions` : ""}. Markers of the chat template are coloured.`;
      element("token-text").append(...text.split(MARKER).map((part, index) => (index % 2 === 1 ? make("mark", {}, part) : part)));
      element("token-ids").textContent = tokens.join(" ");
    } catch (error) {
      element("token-count").textContent = "";
      showError(element("token-error"), answerError(error).replace("The answer failed. ", ""));
    }
  });
}
