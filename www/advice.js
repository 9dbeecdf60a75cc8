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

/** What messages of the package say about programs, as it is on this page. @type {[RegExp, string][]} */
const ON_THIS_PAGE = [
  [/^\d+: /, ""],
  [/\?\./g, "?"],
  [/Check the address in the configuration\./, "Check the name or the address."],
  [/ in HF_TOKEN, or in hub: \{ token \} of new Ai\(\)/, " under “Hub” in the dialog “Model”"],
  [/ \(hub\.endpoint, or HF_ENDPOINT\)/, " under “Hub” in the dialog “Model”"],
];

/** What helps where a message does not say it itself. @type {[RegExp, string][]} */
const LOAD_ADVICE = [
  [/HTTP 40[13](?!.*under “Hub”)/, "Accept the model’s terms on its page, and give a token under “Hub” in the dialog “Model”."],
  [/cannot be used as a model/, "Download it again, or choose another file."],
  [/memory|too large|does not fit/i, "Choose a smaller model, or a smaller quantisation of it, such as Q4_0."],
  [/Failed to fetch|NetworkError|Load failed/i, "The server must also allow pages of other origins (CORS); hubs do."],
];

/**
 * @param {unknown} error
 * @param {string} [what] the file or name that was chosen
 */
export function loadError(error, what) {
  let message = sentence(String(/** @type {any} */ (error)?.message || error));
  for (const [pattern, text] of ON_THIS_PAGE) message = message.replace(pattern, text);
  const advice = LOAD_ADVICE.find(([pattern]) => pattern.test(message))?.[1];
  return [`${what ? `${what} cannot be loaded` : "The model cannot be loaded"}. ${message}`, advice].filter(Boolean).join(" ");
}

/** What warnings of the package say to programs, as it is on this page. @type {[RegExp, string][]} */
const WARNINGS_ON_THIS_PAGE = [
  [/^workers-ai-local: /, ""],
  [/: Ai\.models\.list\(\) says what is stored, Ai\.models\.delete\(name\) removes it\./, ": see “Stored in this browser” in the dialog “Model”."],
  [/ Give it files with new Ai\(.*$/s, ""],
];

/** @param {string} text a warning of the engine */
export function warningText(text) {
  for (const [pattern, here] of WARNINGS_ON_THIS_PAGE) text = text.replace(pattern, here);
  return sentence(text);
}

/** A message with a full stop, and without the name of the error's class. @param {string} text */
const sentence = (text) => text.replace(/^(\d+: )?AiError: /, "$1").replace(/([^.!?…])$/, "$1.");
