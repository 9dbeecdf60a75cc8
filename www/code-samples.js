// Code that makes exactly a given request: as a Worker, curl, OpenAI's SDK, the AI SDK and a program in Node. Pure: no element of the page.

/**
 * @import { TextGenerationInput } from "../pkg/index.d.ts"
 *
 * @typedef {object} Sample
 * @property {string} name
 * @property {string} language for the highlighting
 * @property {string | null} code `null`: this interface cannot make the request
 * @property {string} note one sentence: where it runs, or why it cannot
 * @property {string} run commands that install and run it
 *
 * @typedef {object} Request
 * @property {string} model the id
 * @property {TextGenerationInput} input without `stream`
 * @property {string} base the server's address, without a final slash
 * @property {boolean} [hasKey] the server wants a key
 * @property {string} [source] the model's name, address or path; "" for the default one
 * @property {boolean} [own] whether that model answers for this id only
 */

/** What workers-ai-provider passes on, by the AI SDK's own names. */
const AI_SDK_NAMES = { max_tokens: "maxOutputTokens", temperature: "temperature", top_p: "topP" };
const LINE = 92;

/**
 * @param {Request} request
 * @returns {Sample[]}
 */
export function samples(request) {
  return [worker(request), curl(request), openAi(request), aiSdk(request), node(request)];
}

/** With tools or JSON the whole answer is needed; a text is streamed. @param {TextGenerationInput} input */
const streams = (input) => !input.tools && !input.response_format;

/** A text as a shell reads it. @param {string} text */
const quoted = (text) => (/[^\w./:@-]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : text);

/**
 * The options that name the model; "" for the default one.
 *
 * @param {Pick<Request, "model" | "source" | "own">} request
 */
export const weights = ({ model, source, own }) => (source ? ` --gguf ${quoted(source)}${own ? ` --model ${quoted(model)}` : ""}` : "");

/** @param {Request} request @returns {Sample} */
function worker(request) {
  const { model, input } = request;
  return {
    name: "Worker",
    language: "js",
    code: `export default {
  async fetch(request, env) {
${streams(input) ? streaming(model, input) : whole(model, input)}
  },
};
`,
    note: "Save it as src/index.js. It runs unchanged at Cloudflare.",
    run: `cat > wrangler.toml <<END
name = "my-worker"
main = "src/index.js"
compatibility_date = "2026-01-01"

[ai]
binding = "AI"
END
npm install --save-dev wrangler workers-ai-local
npx workers-ai-local dev${weights(request)}`,
  };
}

/**
 * @param {string} model
 * @param {TextGenerationInput} input
 */
const streaming = (model, input) => `    const stream = await env.AI.run(${JSON.stringify(model)}, ${literal({ ...input, stream: true }, 4, 36 + model.length)});
    const headers = { "content-type": "text/event-stream" };
    return new Response(stream, { headers });`;

/**
 * @param {string} model
 * @param {TextGenerationInput} input
 */
const whole = (model, input) => `    const answer = await env.AI.run(${JSON.stringify(model)}, ${literal(input, 4, 36 + model.length)});
    return Response.json(answer);`;

/** @param {Request} request @returns {Sample} */
function curl(request) {
  const { model, input, base, hasKey } = request;
  const body = JSON.stringify(streams(input) ? { ...input, stream: true } : input, null, 2);
  const headers = [`-H "content-type: application/json"`, ...(hasKey ? [`-H "authorization: Bearer $KEY"`] : [])];
  return {
    name: "curl",
    language: "bash",
    code: `curl ${streams(input) ? "-N " : ""}${base}/client/v4/accounts/local/ai/run/${model} \\\n  ${headers.join(" ")} \\\n  -d '${body.replaceAll("'", "'\\''")}'\n`,
    note: "Cloudflare’s REST API, as the local server has it.",
    run: serve(request),
  };
}

/** @param {Request} request */
const serve = (request) => `npx workers-ai-local serve --port ${new URL(request.base).port || "80"}${weights(request)}${request.hasKey ? ' --key "$KEY"' : ""}`;

/** @param {Request} request @returns {Sample} */
function openAi(request) {
  const { model, input, base, hasKey } = request;
  const name = "OpenAI SDK";
  if (input.raw) return { name, language: "js", code: null, note: "OpenAI’s chat completions have no raw prompts: use the Worker or curl, or switch “Raw prompt” off.", run: "" };
  const format = input.response_format?.type === "json_schema" ? { response_format: { type: "json_schema", json_schema: { name: "answer", schema: input.response_format.json_schema, strict: true } } } : {};
  const body = { model, ...input, ...format };
  const ask = streams(input)
    ? `const stream = await client.chat.completions.create(${literal({ ...body, stream: true }, 0, 50)});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
`
    : `const completion = await client.chat.completions.create(${literal(body, 0, 50)});
console.log(JSON.stringify(completion.choices[0].message, null, 2));
`;
  return {
    name,
    language: "js",
    code: `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${JSON.stringify(`${base}/v1`)}, apiKey: ${hasKey ? "process.env.KEY" : '"any"'} });
${ask}`,
    note: "A program in Node, Deno or Bun.",
    run: `${serve(request)}\nnpm install openai && node example.mjs`,
  };
}

/** @param {Request} request @returns {Sample} */
function aiSdk(request) {
  const { model, input } = request;
  const name = "AI SDK";
  if (input.raw) return { name, language: "js", code: null, note: "The AI SDK has no raw prompts: use the Worker or curl, or switch “Raw prompt” off.", run: "" };
  const { messages = [], tools = [], tool_choice, response_format, prompt, raw, ...sampling } = /** @type {any} */ (input);
  const named = Object.entries(sampling).filter(([field]) => field in AI_SDK_NAMES).map(([field, value]) => [AI_SDK_NAMES[/** @type {keyof typeof AI_SDK_NAMES} */ (field)], value]);
  const rest = Object.fromEntries(Object.entries(sampling).filter(([field]) => !(field in AI_SDK_NAMES)));
  const hasRest = Object.keys(rest).length > 0;
  const streamed = streams(input);
  const schema = response_format?.json_schema;
  const imports = [...(response_format ? ["Output"] : []), streamed ? "streamText" : "generateText", ...(tools.length > 0 || schema ? ["jsonSchema"] : []), ...(tools.length > 0 ? ["tool"] : [])];
  const instructions = messages[0]?.role === "system" ? { instructions: messages[0].content } : {};
  const options = {
    model: code(`workersai(${JSON.stringify(model)})`),
    ...instructions,
    messages: sdkMessages(messages.filter((/** @type {any} */ { role }) => role !== "system")),
    ...Object.fromEntries(named),
    ...(tools.length > 0 && { tools: Object.fromEntries(tools.map((/** @type {any} */ { function: { name, description, parameters } }) => [name, code(`tool(${literal({ ...(description && { description }), inputSchema: code(`jsonSchema(${literal(parameters ?? { type: "object" }, 10)})`) }, 8)})`)])) }),
    ...(tool_choice && { toolChoice: tool_choice }),
    ...(response_format && { output: code(schema ? `Output.object({ schema: jsonSchema(${literal(schema, 6)}) })` : "Output.json()") }),
  };
  const end = streamed
    ? `    const { textStream } = streamText(${literal(options, 4, 40)});
    return new Response(textStream.pipeThrough(new TextEncoderStream()), { headers: { "content-type": "text/plain; charset=utf-8" } });`
    : `    const { ${response_format ? "output" : "text, toolCalls"} } = await generateText(${literal(options, 4, 50)});
    return Response.json(${response_format ? "output" : "{ text, toolCalls }"});`;
  const binding = hasRest
    ? `    // What workers-ai-provider does not pass on.
    const more = ${literal(rest, 4)};
    const binding = { run: (model, input, options) => env.AI.run(model, { ...input, ...more }, options) };
    const workersai = createWorkersAI({ binding });`
    : "    const workersai = createWorkersAI({ binding: env.AI });";
  return {
    name,
    language: "js",
    code: `import { ${imports.sort((one, other) => one.toLowerCase().localeCompare(other.toLowerCase())).join(", ")} } from "ai";
import { createWorkersAI } from "workers-ai-provider";

export default {
  async fetch(request, env) {
${binding}
${end}
  },
};
`,
    note: "src/index.js of a Worker with the binding AI.",
    run: `npm install ai workers-ai-provider\nnpx workers-ai-local dev${weights(request)}`,
  };
}

/**
 * Messages as the AI SDK has them.
 *
 * @param {any[]} messages
 */
function sdkMessages(messages) {
  return messages.map(({ role, content, tool_calls, tool_call_id, name }) => {
    if (role === "tool") return { role, content: [{ type: "tool-result", toolCallId: tool_call_id, toolName: name, output: { type: "text", value: content } }] };
    if (!tool_calls) return { role, content };
    const calls = tool_calls.map((/** @type {any} */ call) => ({ type: "tool-call", toolCallId: call.id, toolName: call.function.name, input: JSON.parse(call.function.arguments) }));
    return { role, content: [...(content ? [{ type: "text", text: content }] : []), ...calls] };
  });
}

/** @param {Request} request @returns {Sample} */
function node({ model, input, source, own }) {
  const answer = streams(input)
    ? `const stream = await ai.run(${JSON.stringify(model)}, ${literal({ ...input, stream: true }, 0, 28 + model.length)});
for await (const data of eventData(stream)) {
  if (data !== "[DONE]") process.stdout.write(JSON.parse(data).response ?? JSON.parse(data).choices[0]?.delta?.content ?? "");
}
`
    : `const answer = await ai.run(${JSON.stringify(model)}, ${literal(input, 0, 28 + model.length)});
console.log(JSON.stringify(answer, null, 2));
`;
  return {
    name: "Node",
    language: "js",
    code: `import { Ai } from "workers-ai-local";
${streams(input) ? 'import { eventData } from "workers-ai-local/sse";\n' : ""}
const ai = new Ai(${source ? literal(own ? { models: { [model]: source } } : { default: source }, 0) : ""});
${answer}`,
    note: "A program in Node, without a server.",
    run: "npm install workers-ai-local && node example.mjs",
  };
}

// ── JavaScript ──

class Code {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
}

/** Code that stands in a literal as it is. @param {string} text */
const code = (text) => new Code(text);

/**
 * A value as JavaScript, with as few lines as fit.
 *
 * @param {any} value
 * @param {number} indent columns with which its line begins
 * @param {number} [column] at which it begins
 * @returns {string}
 */
export function literal(value, indent, column = indent) {
  if (value instanceof Code) return value.text;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const isList = Array.isArray(value);
  const entries = isList ? value.map((each) => ["", each]) : Object.entries(value).filter(([, each]) => each !== undefined);
  if (entries.length === 0) return isList ? "[]" : "{}";
  const name = (/** @type {string} */ key) => (isList ? "" : `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key)}: `);
  const parts = entries.map(([key, each]) => `${name(key)}${literal(each, indent + 2, indent + 2 + name(key).length)}`);
  const short = isList ? `[${parts.join(", ")}]` : `{ ${parts.join(", ")} }`;
  if (short.length + column <= LINE && !short.includes("\n")) return short;
  const pad = " ".repeat(indent + 2);
  return `${isList ? "[" : "{"}\n${parts.map((each) => `${pad}${each},\n`).join("")}${" ".repeat(indent)}${isList ? "]" : "}"}`;
}
