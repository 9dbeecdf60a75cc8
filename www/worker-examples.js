// The Workers with which the Worker tab begins.

/**
 * @typedef {object} WorkerExample
 * @property {string} title
 * @property {string} code
 * @property {string} [method]
 * @property {string} [path]
 * @property {string} [body]
 */

const MODEL = "@cf/meta/llama-3.1-8b-instruct";

/** @type {readonly WorkerExample[]} */
export const WORKER_EXAMPLES = [
  {
    title: "An answer as JSON",
    path: "/?question=Why+is+the+sky+blue%3F",
    code: `export default {
  async fetch(request, env) {
    const { searchParams } = new URL(request.url);
    const prompt = searchParams.get("question") ?? "Say hello.";
    const answer = await env.AI.run(
      "${MODEL}",
      { prompt, max_tokens: 60 },
    );
    return Response.json(answer);
  },
};
`,
  },
  {
    title: "A stream",
    path: "/?question=Tell+me+a+short+story.",
    code: `export default {
  async fetch(request, env) {
    const { searchParams } = new URL(request.url);
    const question = searchParams.get("question") ?? "Say hello.";
    const stream = await env.AI.run("${MODEL}", {
      messages: [{ role: "user", content: question }],
      max_tokens: 120,
      stream: true,
    });
    const headers = { "content-type": "text/event-stream" };
    return new Response(stream, { headers });
  },
};
`,
  },
  {
    title: "A tool",
    method: "POST",
    body: "What is the weather in Paris?",
    code: `const MODEL = "${MODEL}";
const tools = [
  {
    name: "get_weather",
    description: "The weather in a city at this moment",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
];
const functions = {
  get_weather: ({ city }) => ({ city, celsius: 21, sky: "clear" }),
};

export default {
  async fetch(request, env) {
    const content = await request.text();
    const messages = [{ role: "user", content }];
    const { tool_calls } = await env.AI.run(MODEL, {
      messages,
      tools,
      tool_choice: "required",
    });
    const [{ id, type, name, arguments: values, function: called }] = tool_calls;
    console.log(name, values);

    const result = functions[name](values);
    messages.push(
      { role: "assistant", content: null, tool_calls: [{ id, type, function: called }] },
      { role: "tool", tool_call_id: id, name, content: JSON.stringify(result) },
    );
    const { response } = await env.AI.run(MODEL, { messages, max_tokens: 80 });
    return Response.json({ called, result, response });
  },
};
`,
  },
  {
    title: "JSON of a schema",
    code: `const schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    colours: {
      type: "array",
      items: { enum: ["red", "green", "blue"] },
      minItems: 1,
      maxItems: 2,
    },
  },
  required: ["name", "colours"],
  additionalProperties: false,
};

export default {
  async fetch(request, env) {
    const { response } = await env.AI.run("${MODEL}", {
      prompt: "Invent a flag: its name and its colours.",
      response_format: { type: "json_schema", json_schema: schema },
      max_tokens: 100,
    });
    return Response.json(response);
  },
};
`,
  },
  {
    title: "Answers from documents (RAG)",
    path: "/?question=When+is+the+office+open%3F",
    code: `const EMBEDDINGS = "@cf/baai/bge-base-en-v1.5";
const documents = [
  "The office is open from nine to five, on weekdays only.",
  "Lunch is served in the garden if the weather is fine.",
  "Parking is free for bicycles.",
];

const dot = (one, other) =>
  one.reduce((sum, value, index) => sum + value * other[index], 0);

export default {
  async fetch(request, env) {
    const { searchParams } = new URL(request.url);
    const question = searchParams.get("question") ?? "When is lunch?";
    // The first use downloads a small embedding model (91 MB).
    const text = [question, ...documents];
    const { data } = await env.AI.run(EMBEDDINGS, { text });
    const [asked, ...vectors] = data;
    const scores = vectors.map((vector) => dot(asked, vector));
    const best = documents[scores.indexOf(Math.max(...scores))];

    const { response } = await env.AI.run("${MODEL}", {
      messages: [
        { role: "system", content: \`Answer from this text: \${best}\` },
        { role: "user", content: question },
      ],
      max_tokens: 60,
    });
    return Response.json({ found: best, response });
  },
};
`,
  },
];
