// The library's messages as the command shows them: on one line, with the command's options where they advise a program.

/**
 * What the library advises, and what helps in a terminal.
 *
 * @type {[advice: RegExp, forTerminal: string][]}
 */
const ADVICE = [
  [/\bGive it a GGUF with new Ai\(.*\), or set strict: true to refuse it\./s, "Give it a GGUF with --gguf."],
  [
    /\bGive it files with new Ai\(\{ models: \{ ("[^"]*"): .*\), or set strict: true to refuse it\./s,
    'Give it files in workers-ai-local.json: { "models": { $1: { "weights": …, "config": …, "tokenizer": … } } }, or one GGUF with --gguf NAME --model ID.',
  ],
  [/\bGive it its files with new Ai\(.*\)\./s, "Give it its files with --lora NAME=PATH."],
  [/\b([Gg])ive all (\d+) files as a list\b/g, "$1ive --gguf $2 times, once for each file"],
  [/\bCheck the address in the configuration\./g, "Check --gguf, or WORKERS_AI_LOCAL_MODEL if it is set."],
  [/\bSet backend: "cpu" to compute on the CPU\./g, "Use --backend cpu to compute on the CPU."],
];

/**
 * A text without characters that a terminal obeys. Names of files in a repository come from strangers.
 *
 * @param {string} text
 */
export const printable = (text) => text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "·");

/**
 * An error's or a warning's text as one line for the terminal.
 *
 * @param {string} message
 */
export function forTerminal(message) {
  const line = message.replace(/^workers-ai-local: /, "").replaceAll(/\s*\n\s*/g, " ");
  return printable(ADVICE.reduce((text, [advice, instead]) => text.replace(advice, instead), line));
}
