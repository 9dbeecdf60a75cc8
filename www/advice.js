// Errors of the engine as sentences that say what to do.

/** What helps, by the code with which an error's message begins. */
const BY_CODE = /** @type {Record<string, string>} */ ({
  3040: "Wait until other answers have ended, then ask again.",
  5005: "Choose another adapter, or none.",
  5007: "Choose another model id among the settings.",
  5021: "Lower max_tokens, or begin a new conversation.",
  5024: "Raise max_tokens, or ask for less with a smaller schema.",
});

/**
 * @param {unknown} error whatever was thrown
 * @returns {string} one or two sentences
 */
export function answerError(error) {
  const message = sentence(String(/** @type {any} */ (error)?.message || error));
  const code = /^(\d+): /.exec(message)?.[1] ?? "";
  return [`The answer failed. ${message}`, BY_CODE[code]].filter(Boolean).join(" ");
}

/**
 * @param {unknown} error
 * @param {string} [what] the file or name that was chosen
 */
export function loadError(error, what) {
  const message = sentence(String(/** @type {any} */ (error)?.message || error));
  return [`${what ? `${what} cannot be loaded` : "The model cannot be loaded"}. ${message}`, loadAdvice(message)].filter(Boolean).join(" ");
}

/** @param {string} message */
function loadAdvice(message) {
  if (/run `npm run build`|Start it again/.test(message)) return "";
  if (/unsupported.*architecture|architecture.*(not supported|unsupported|unknown)|unknown.*architecture/i.test(message)) return "Choose a model of one of the families that docs/models.md lists, such as Llama, Qwen, Gemma, Mistral or Phi.";
  if (/401|403|gated|authori[sz]|token/i.test(message)) return "Accept the model’s terms on its page, and give a token under “Hub”.";
  if (/memory|GiB|too (large|big)/i.test(message)) return "Choose a smaller model, or a smaller quantisation of it, such as Q4_0.";
  if (/not a GGUF|magic|GGUF/i.test(message)) return "Choose another file: one whose name ends in .gguf, downloaded to its end.";
  if (/fetch|network|connect|interrupted/i.test(message)) return "Check the address and the connection, then try again.";
  return "Choose another model, or try again.";
}

/** A message with a full stop, and without the name of the error's class. @param {string} text */
const sentence = (text) => text.replace(/^(\d+: )?AiError: /, "$1").replace(/([^.!?…])$/, "$1.");
