// A conversation as the page keeps it, and as a request has it. Pure: no element of the page.

/**
 * @import { ChatMessage, TextGenerationUsage, ToolCallMessage } from "../pkg/index.d.ts"
 *
 * @typedef {object} StoredTurn
 * @property {"user" | "assistant" | "tool"} role
 * @property {string} content
 * @property {string} [thought] what the model thought before
 * @property {ToolCallMessage[]} [calls] of an assistant turn
 * @property {string} [callId] of a tool turn: the call that it answers
 * @property {string} [name] of a tool turn
 * @property {string} [facts] speed and counts
 * @property {"stop" | "length" | "tool_calls" | "stopped"} [end] how the answer ended; "stopped" by the user
 * @property {TextGenerationUsage} [usage]
 * @property {string} [error]
 * @property {object | true} [json] the answer is JSON, of this schema or of any
 * @property {boolean} [raw] the answer continues the prompt itself
 */

const TITLE_LENGTH = 60;

/**
 * The turns as messages. A turn that failed or was stopped before its first word is left out.
 *
 * @param {StoredTurn[]} turns
 * @returns {ChatMessage[]}
 */
export function messagesOf(turns) {
  return turns.flatMap(messageOf);
}

/**
 * @param {StoredTurn} turn
 * @returns {ChatMessage[]}
 */
function messageOf(turn) {
  const { role, content, calls, callId, name } = turn;
  if (role === "tool") return [{ role, tool_call_id: callId, name, content }];
  if (role === "user") return [{ role, content }];
  if (calls?.length) return [{ role, content: content || null, tool_calls: calls }];
  return content ? [{ role, content }] : [];
}

/**
 * The results of calls, by their ids.
 *
 * @param {StoredTurn[]} turns
 * @returns {Map<string, string>}
 */
export const resultsOf = (turns) => new Map(turns.flatMap(({ role, callId, content }) => (role === "tool" && callId ? [[callId, content]] : [])));

/** What a conversation is called until the user names it. @param {StoredTurn[]} turns */
export function titleOf(turns) {
  const text = (turns.find(({ role }) => role === "user")?.content ?? "").replace(/\s+/g, " ").trim();
  return text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH - 1)}…` : text || "New conversation";
}

/**
 * Whether an answer can be continued where it ends: as text, without thoughts, which a continued prompt would not separate.
 *
 * @param {StoredTurn} turn
 */
export const isContinuable = ({ role, end, content, thought, json, calls }) =>
  role === "assistant" && (end === "length" || end === "stopped") && content !== "" && !thought && !json && !calls?.length;
