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
const MARKER = /^(<\|[^|<>]*\|>|<\/?[a-z_]+>|\[\/?[A-Z_]+\])$/;

/** As many tokens are shown one by one; the page would be slow with all of a long conversation. */
const MOST_SHOWN = 4000;

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
      const { tokens, pieces, text } = await now.tokenize(model, input);
      // It may have been loaded for this.
      await now.refresh();
      const { context } = now.answering(model);
      element("token-count").textContent = `${tokens.length} tokens, ${text.length} characters${context ? `; ${shareText(tokens.length / context)} of the ${context.toLocaleString("en")} positions` : ""}. Each token has its own background; markers of the chat template are coloured. Point at one to see its id.`;
      element("token-text").append(...pieces.slice(0, MOST_SHOWN).map((piece, index) => make(MARKER.test(piece) ? "mark" : "span", { title: String(tokens[index]) }, piece)));
      if (pieces.length > MOST_SHOWN) element("token-text").append(` … and ${(pieces.length - MOST_SHOWN).toLocaleString("en")} more tokens`);
      element("token-ids").textContent = tokens.join(" ");
    } catch (error) {
      element("token-count").textContent = "";
      showError(element("token-error"), answerError(error).replace("The answer failed. ", ""));
    }
  });
}
