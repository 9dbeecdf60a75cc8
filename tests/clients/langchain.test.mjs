// LangChain's chat class, against the REST API of `serve`. It knows the shape of the older ids only, and no tools: it has no `bindTools`, and sends
// nothing but messages. Its embeddings are in embeddings.test.mjs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ChatCloudflareWorkersAI } from "@langchain/cloudflare";
import { StringOutputParser } from "@langchain/core/output_parsers";
import { ChatPromptTemplate } from "@langchain/core/prompts";
import { CHATML, scriptedFile } from "../scripted-model.mjs";
import { MODEL } from "./checks.mjs";
import { startServer } from "./server.mjs";

const TEXT = "Hello there!";
/** A model that answers a second question otherwise, if the turns before it have their roles. */
const SECOND = "{% if messages|map(attribute='role')|join(' ') == 'system user assistant user' %}\u0001{% endif %}";
const SECOND_TEXT = "Hello again!";
const ANSWERS = { template: CHATML + SECOND, next: { "\u0001": SECOND_TEXT } };
const CONVERSATION = [
  ["system", "Be brief."],
  ["human", "Hi"],
  ["ai", TEXT],
  ["human", "Hi once more"],
];

let file;
let server;
before(async () => {
  file = await scriptedFile(ANSWERS);
  server = await startServer("--gguf", file.path);
});
after(async () => {
  await server?.stop();
  await file?.remove();
});

function chatWith(options) {
  const baseUrl = `${server.url}/client/v4/accounts/account/ai/run`;
  return new ChatCloudflareWorkersAI({ model: MODEL, cloudflareAccountId: "account", cloudflareApiToken: "token", baseUrl, maxRetries: 0, ...options });
}

async function piecesOf(stream) {
  const pieces = [];
  for await (const { content } of stream) pieces.push(content);
  return pieces;
}

test("invoke: a text, and a conversation in its roles", async () => {
  for (const streaming of [false, true]) {
    const chat = chatWith({ streaming });
    const message = await chat.invoke("Hi");
    assert.deepEqual([message.getType(), message.content], ["ai", TEXT]);
    assert.equal((await chat.invoke(CONVERSATION)).content, SECOND_TEXT);
  }
});

test("stream: the text in pieces", async () => {
  const pieces = await piecesOf(await chatWith().stream("Hi"));
  assert.ok(pieces.filter(Boolean).length > 1, pieces.join("|"));
  assert.equal(pieces.join(""), TEXT);
});

test("streamEvents", async () => {
  let text = "";
  for await (const { event, data } of chatWith().streamEvents("Hi", { version: "v2" })) {
    if (event === "on_chat_model_stream") text += data.chunk.content;
  }
  assert.equal(text, TEXT);
});

test("in a chain, and several at once", async () => {
  const chain = ChatPromptTemplate.fromMessages([["human", "Greet {name}."]]).pipe(chatWith()).pipe(new StringOutputParser());
  assert.deepEqual(await chain.batch([{ name: "Ada" }, { name: "Bob" }]), [TEXT, TEXT]);
});

test("errors: the status is that of the code", async () => {
  await assert.rejects(chatWith({ model: "@cf/no/such" }).invoke("Hi"), /status code 400/);
});

test("it has no tools", () => {
  assert.equal(chatWith().bindTools, undefined);
});
