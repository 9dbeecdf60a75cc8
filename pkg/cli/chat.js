// `workers-ai-local chat`: a conversation in the terminal, or of lines that are piped in. Answers are written to stdout, all else to stderr.

import { createInterface } from "node:readline";
import { engineFor, follow, parametersFrom, statsLine, writer } from "./answers.js";
import { UsageError } from "./arguments.js";
import { forTerminal } from "./messages.js";
import { clearStatus, isTerminal, say } from "./terminal.js";

/**
 * @import { ChatMessage, TextGenerationInput } from "../index.d.ts"
 * @import { AnswerValues, PromptValues } from "./answers.js"
 * @import { EngineValues } from "./engine.js"
 * @typedef {PromptValues & AnswerValues & EngineValues} Values
 */

const { stdin, stderr } = process;

/**
 * @param {Values} values
 * @param {string[]} positionals must be empty
 * @throws {UsageError} or, where no person is there to go on, an error of `Ai.run`
 */
export async function chat(values, positionals) {
  if (positionals.length > 0) throw new UsageError("chat takes no prompt: start it, then type; for one answer, use run");
  const parameters = await parametersFrom(values);
  const { ai, model } = await engineFor(values);
  /** @type {ChatMessage[]} */
  const opening = values.system === undefined ? [] : [{ role: "system", content: values.system }];
  let turns = [...opening];
  const person = Boolean(stdin.isTTY) && isTerminal;
  /** @type {AbortController | null} the answer in progress */
  let answering = null;

  const input = createInterface({ input: stdin, output: person ? stderr : undefined, terminal: person, prompt: "> " });
  // A terminal that is read key by key sends Ctrl+C to the interface; otherwise it is a signal.
  const interrupt = () => {
    if (answering) return answering.abort();
    if (person) stderr.write("\n");
    process.exit(130);
  };
  input.on("SIGINT", interrupt);
  process.on("SIGINT", interrupt);

  /** Answers the conversation, and adds the answer to it. */
  const answer = async () => {
    answering = new AbortController();
    const out = writer();
    /** @type {TextGenerationInput} */
    const request = { messages: turns, ...parameters, stream: true };
    try {
      const stream = /** @type {ReadableStream<Uint8Array>} */ (await ai.run(model, request, { signal: answering.signal }));
      const whole = await follow(stream, out);
      await out.end();
      if (values.stats) say(statsLine(whole));
    } catch (error) {
      clearStatus();
      await out.end();
      if (error?.name !== "AbortError" && (!person || error?.name !== "AiError")) throw error;
      say(error.name === "AbortError" ? "(stopped)" : `error: ${forTerminal(error.message)}${error.internalCode === 5021 ? " /new starts another conversation." : ""}`);
    } finally {
      answering = null;
    }
    // A turn without an answer is taken back: most templates want turns to alternate.
    if (out.text() === "") turns.pop();
    else turns.push({ role: "assistant", content: out.text() });
  };

  if (person) say("Type a message and press Enter. /new starts another conversation, /exit ends.");
  if (person) input.prompt();
  for await (const line of input) {
    const said = line.trim();
    if (said === "/exit") break;
    if (said === "/new") {
      turns = [...opening];
    } else if (/^\/\w+$/.test(said)) {
      say(`unknown command ${said}: /new starts another conversation, /exit ends`);
    } else if (said !== "") {
      turns.push({ role: "user", content: line });
      await answer();
    }
    if (person) input.prompt();
  }
  input.close();
  process.off("SIGINT", interrupt);
  await ai.close();
}
