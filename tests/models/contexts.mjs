// What a chat template gets for an input: written from the documentation of `src/prompt/`, for the comparison with Jinja2.

/**
 * The variables with which a template is tried, one after the other until it does not fail.
 *
 * @param {object} input the binding's
 * @param {object} template
 * @param {boolean} template.takesTools whether it uses `tools`
 * @param {boolean} template.takesSystem whether it shows the text of system turns
 * @param {boolean} template.showsCalls whether it shows the calls of a turn
 * @param {boolean} template.showsParallelCalls whether it shows all calls of a turn
 * @param {boolean} template.showsResults whether it shows the turns of results
 * @param {boolean} template.asksForNone whether it asks for content that is none
 * @returns {object[]}
 */
export function contextsOf(input, { takesTools, takesSystem, showsCalls, showsParallelCalls, showsResults, asksForNone }) {
  const { prompt, messages = [{ role: "user", content: prompt }], chat_template_kwargs, reasoning_effort } = input;
  const offered = input.tool_choice === "none" ? [] : (input.tools ?? []).map(toolOf);
  let turns = withCalls(messages.map(normalised));
  const variables = { ...chat_template_kwargs, ...(reasoning_effort && { reasoning_effort }), add_generation_prompt: true };
  const hasToolTurns = turns.some(({ role, tool_calls }) => tool_calls || role === "tool");
  if (!takesTools && (hasToolTurns || offered.length > 0)) return attempts(withInstructions(asText(turns, true, true), offered), takesSystem).map((messages) => ({ ...variables, messages }));
  if (offered.length > 0) variables.tools = offered;
  if (!showsParallelCalls) turns = withCallsApart(turns);
  if (hasToolTurns) turns = asText(turns, !showsCalls, !showsResults);
  return [...(asksForNone ? attempts(turns.map(withoutContent), takesSystem) : []), ...attempts(turns, takesSystem)].map((messages) => ({ ...variables, messages }));
}

/** As they are; with arguments as text; without system turns; with both. */
function attempts(turns, takesSystem) {
  const merged = withoutSystem(turns);
  const forms = [takesSystem || !merged ? turns : null, merged].filter(Boolean);
  return forms.flatMap((turns) => [turns, withArgumentsAsText(turns)]).filter(Boolean);
}

/** Texts that no template has. */
const NEEDLE = "needle-5f2c";
const CALL_NEEDLE = "needle-c0de";

const tool = (name) => toolOf({ name, description: "a", parameters: { type: "object", properties: { a: { type: "string", description: "a" } } } });
const A = { role: "user", content: "a" };
const called = (...given) => [
  A,
  { role: "assistant", content: "", tool_calls: given.map((a, index) => ({ id: `call0000${index}`, type: "function", function: { name: "f", arguments: { a } } })) },
  ...given.map((_, index) => ({ role: "tool", content: NEEDLE, name: "f", tool_call_id: `call0000${index}` })),
];

/** The forms of a conversation with calls. */
const formsOf = (turns) => [...attempts(turns, true), ...attempts(turns.map(withoutContent), true)].map((messages) => ({ messages, tools: [tool("f")] }));

/** Conversations that show what a template takes, each as the variables with which it is tried. */
const PROBES = {
  plain: [{ messages: [A] }],
  system: [{ messages: [{ role: "system", content: NEEDLE }, A] }],
  tools: [{ messages: [A], tools: [tool(NEEDLE)] }],
  one: formsOf(called(CALL_NEEDLE)),
  two: formsOf(called("a", CALL_NEEDLE)),
};

export const PROBE_CONTEXTS = Object.values(PROBES).map((attempts) => attempts.map((variables) => ({ ...variables, add_generation_prompt: true })));

/** What a template takes, from what it made of the `PROBE_CONTEXTS`. */
export function traitsOf(source, rendered) {
  const { plain, system, tools, one, two } = Object.fromEntries(Object.keys(PROBES).map((name, index) => [name, rendered[index].text]));
  return {
    takesTools: tools === undefined ? /\btools\b/.test(source) : tools.includes(NEEDLE),
    takesSystem: system === undefined ? plain === undefined : system.includes(NEEDLE),
    showsCalls: one?.includes(CALL_NEEDLE) ?? true,
    showsParallelCalls: one?.includes(CALL_NEEDLE) ? (two?.includes(CALL_NEEDLE) ?? false) : true,
    showsResults: one?.includes(NEEDLE) ?? true,
    asksForNone: /(?<![\w])content(?:['"]\])? (?:is|==|!=) (?:not )?(?:none|null)/i.test(source),
  };
}

function toolOf(listing) {
  const { name, description, parameters } = listing.function ?? listing;
  const empty = !parameters || Object.keys(parameters).length === 0;
  return { type: "function", function: { name, ...(description !== undefined && { description }), parameters: empty ? { type: "object", properties: {} } : parameters } };
}

function normalised({ role, content, ...rest }) {
  const text = Array.isArray(content) ? content.map((part) => part.text).join("") : (content ?? "");
  // What the model thought in an earlier turn has a name that clients send, and other names that templates read.
  const thought = rest.reasoning_content ?? rest.reasoning ?? rest.thinking;
  const thoughts = thought === undefined ? {} : { reasoning_content: thought, reasoning: thought, thinking: thought };
  return { role: role === "developer" ? "system" : role, ...rest, content: text, ...thoughts };
}

/** Calls have arguments as objects and ids that every template accepts; results name their call. */
function withCalls(messages) {
  let count = 0;
  let open = [];
  return messages.map((message, index) => {
    if (message.role === "assistant") {
      const older = !message.tool_calls && messages[index + 1]?.role === "tool" && callOf(message.content);
      const given = older ? [older] : message.tool_calls?.map(({ id, function: { name, arguments: text } }) => ({ id, name, arguments: objectOf(text) }));
      if (!given) return message;
      open = given.map((call) => ({ ...call, own: `call${String((count += 1)).padStart(5, "0")}` }));
      const tool_calls = open.map(({ own, name, arguments: values }) => ({ id: own, type: "function", function: { name, arguments: values } }));
      return { ...message, ...(older && { content: "" }), tool_calls };
    }
    if (message.role !== "tool" || open.length === 0) return message;
    const byId = open.findIndex(({ id }) => id !== undefined && id === message.tool_call_id);
    const byName = open.findIndex(({ name }) => name === message.name);
    const [{ name, own }] = open.splice(Math.max(byId >= 0 ? byId : byName, 0), 1);
    return { ...message, name, tool_call_id: own };
  });
}

function objectOf(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}

/** The older form of a call: its JSON as the content. */
function callOf(content) {
  const { name, arguments: values } = objectOf(content);
  return name && values && { name, arguments: values };
}

function withoutContent(turn) {
  return turn.tool_calls && turn.content === "" ? { ...turn, content: null } : turn;
}

function withArgumentsAsText(turns) {
  if (!turns.some(({ tool_calls }) => tool_calls)) return null;
  const asText = (call) => ({ ...call, function: { ...call.function, arguments: JSON.stringify(call.function.arguments) } });
  return turns.map((turn) => (turn.tool_calls ? { ...turn, tool_calls: turn.tool_calls.map(asText) } : turn));
}

/** The texts of system turns in front of the first user turn. */
function withoutSystem(turns) {
  const texts = turns.filter(({ role }) => role === "system").map(({ content }) => content);
  if (texts.length === 0) return null;
  const [first, ...rest] = turns.filter(({ role }) => role !== "system");
  const text = texts.join("\n\n");
  if (first?.role !== "user") return [{ role: "user", content: text }, ...(first ? [first] : []), ...rest];
  return [{ ...first, content: `${text}\n\n${first.content}` }, ...rest];
}

/** Each call in a turn of its own, followed by its result. */
function withCallsApart(turns) {
  const out = [];
  for (let index = 0; index < turns.length; index += 1) {
    const { tool_calls, ...turn } = turns[index];
    if (!tool_calls) {
      out.push(turn);
      continue;
    }
    let results = [];
    while (turns[index + 1]?.role === "tool") results.push(turns[(index += 1)]);
    for (const [place, call] of tool_calls.entries()) {
      out.push({ ...turn, ...(place > 0 && { content: "" }), tool_calls: [call] }, ...results.filter(({ tool_call_id }) => tool_call_id === call.id));
      results = results.filter(({ tool_call_id }) => tool_call_id !== call.id);
    }
    out.push(...results);
  }
  return out;
}

/** Calls as their JSON, results as turns of the user. */
function asText(turns, calls, results) {
  const out = [];
  for (const { tool_calls, ...turn } of turns) {
    if (tool_calls && calls) {
      const written = tool_calls.map(({ function: { name, arguments: values } }) => `{"name": ${JSON.stringify(name)}, "arguments": ${JSON.stringify(values)}}`);
      turn.content = [...(turn.content ? [turn.content] : []), ...written].join("\n");
    } else if (tool_calls) turn.tool_calls = tool_calls;
    const { name, tool_call_id, ...rest } = turn;
    const as = results && turn.role === "tool" ? { ...rest, role: "user", content: `Result of ${name ?? "the function"}: ${turn.content}` } : turn;
    const last = out.at(-1);
    if (results && as.role === "user" && last?.role === "user") last.content += `\n${as.content}`;
    else out.push({ ...as });
  }
  return out;
}

/** Tools described in the system turn. */
function withInstructions(turns, tools) {
  if (tools.length === 0) return turns;
  const listed = tools.map((tool) => JSON.stringify(tool.function)).join("\n");
  const instructions = `You can call these functions, described by JSON Schema:\n${listed}\n\nTo call a function, answer with nothing but JSON in this form:\n{"name": "the function's name", "arguments": {"parameter": "value"}}\nIf no function helps, answer in plain words.`;
  const [first, ...rest] = turns;
  if (first?.role !== "system") return [{ role: "system", content: instructions }, ...turns];
  return [{ ...first, content: `${first.content}\n\n${instructions}` }, ...rest];
}
