// Two tabs of the playground with the same conversation: whatever the order in which they ask, no turn is lost. In a real Chromium; the answers are a
// script's.

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { launch } from "./chromium.mjs";
import { ask, isReady, startScripted } from "./scripted-playground.mjs";

let server;
let browser;
before(async () => {
  server = await startScripted();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Two tabs of one browser. */
async function openTabs(script) {
  const context = await browser.newContext();
  context.setDefaultTimeout(20_000);
  if (script) await context.addInitScript(script);
  const tabs = await Promise.all([context.newPage(), context.newPage()]);
  for (const page of tabs) {
    await page.goto(server.url);
    await isReady(page);
  }
  return tabs;
}
/** Gives both one conversation, in which "First" was asked, and no other. */
async function begin([one, other]) {
  await one.evaluate(async () => {
    const { changeConversation, readConversations } = await import("/store.js");
    for (const { id } of await readConversations()) await changeConversation(id, () => null);
  });
  await one.reload();
  await isReady(one);
  await ask(one, "First");
  await other.reload();
  await isReady(other);
  await sees(other, ["First"]);
}
const asked = (page) => page.locator('.turn[data-role="user"] .text').allTextContents();
/** Waits until these are the questions on the page. */
async function sees(page, questions) {
  await page.waitForFunction((wanted) => [...document.querySelectorAll('.turn[data-role="user"] .text')].map(({ textContent }) => textContent).join() === wanted, questions.join());
}
/** The turns of all conversations that are stored, without the figures; the first question says which is which. */
const stored = (page) =>
  page.evaluate(async () => {
    const { readConversations } = await import("/store.js");
    return (await readConversations()).map(({ turns }) => turns.map(({ content }) => content.slice(0, 7))).sort((one, other) => (one.join() < other.join() ? -1 : 1));
  });
const edit = (page, index) => page.locator(".turn").nth(index).getByRole("button", { name: "Edit" }).click();

describe("a tab", () => {
  let one;
  let other;
  before(async () => ([one, other] = await openTabs()));
  after(() => one?.context().close());
  beforeEach(() => begin([one, other]));

  it("that is idle shows what another one asks, and goes on from there", async () => {
    await ask(one, "Second");
    await sees(other, ["First", "Second"]);
    await other.waitForFunction(() => document.querySelectorAll("#conversation .text").length === 4 && document.querySelector(".turn:last-child .text").textContent === "An answer.");
    await ask(other, "Third");
    await sees(one, ["First", "Second", "Third"]);
    assert.deepEqual(await stored(one), [["First", "An answ", "Second", "An answ", "Third", "An answ"]]);
  });

  it("in which a turn is being changed keeps it, and goes on with it as another conversation", async () => {
    await edit(other, 0);
    await ask(one, "Second");
    await other.fill(".edit textarea", "Changed");
    await other.press(".edit textarea", "Enter");
    await other.waitForFunction(() => document.querySelector("#store-note").textContent === "This conversation was changed in another tab, so it goes on here as one of its own.");
    await other.waitForSelector("#send:enabled");
    await one.waitForFunction(() => document.querySelectorAll("#conversation-list li").length === 2);
    assert.deepEqual(await asked(one), ["First", "Second"]);
    assert.deepEqual(await asked(other), ["Changed"]);
    assert.deepEqual(await stored(one), [["Changed", "An answ"], ["First", "An answ", "Second", "An answ"]]);
  });

  it("that asks at the same time as another one loses nothing", async () => {
    await Promise.all([ask(one, "Speak slowly, one"), ask(other, "Speak slowly, two")]);
    await one.reload();
    await isReady(one);
    const all = (await one.evaluate(async () => (await (await import("/store.js")).readConversations()).flatMap(({ turns }) => turns))).map(({ content }) => content);
    for (const question of ["Speak slowly, one", "Speak slowly, two"]) assert.ok(all.includes(question), question);
    assert.equal(all.filter((content) => content.includes("word199")).length, 2);
  });

  it("shows a title that another one has given, and what it has deleted no more", async () => {
    await one.getByRole("button", { name: "Rename First" }).click();
    await one.keyboard.type("A title");
    await one.keyboard.press("Enter");
    await other.waitForSelector("#conversation-list [title='A title']");
    await ask(other, "Second");
    await sees(one, ["First", "Second"]);
    assert.deepEqual(await one.locator("#conversation-list .title").allTextContents(), ["A title"]);
    await one.getByRole("button", { name: "Delete A title" }).click();
    await other.waitForFunction(() => document.querySelectorAll("#conversation-list li").length === 0);
    assert.deepEqual(await stored(other), []);
  });
});

describe("a tab that has not heard of another one", () => {
  let one;
  let other;
  before(async () => ([one, other] = await openTabs(() => (BroadcastChannel.prototype.postMessage = () => {}))));
  after(() => one?.context().close());
  beforeEach(() => begin([one, other]));

  it("goes on with its own turns as another conversation", async () => {
    await ask(one, "Second");
    assert.deepEqual(await asked(other), ["First"]);
    await ask(other, "Third");
    await ask(other, "Fourth");
    await ask(one, "Fifth");
    assert.deepEqual(await stored(one), [
      ["First", "An answ", "Second", "An answ", "Fifth", "An answ"],
      ["First", "An answ", "Third", "An answ", "Fourth", "An answ"],
    ]);
  });

  it("does not delete turns that it has not shown", async () => {
    await ask(one, "Second");
    await other.getByRole("button", { name: "Delete First" }).click();
    await sees(other, ["First", "Second"]);
    assert.match(await other.textContent("#store-note"), /^This conversation was changed in another tab, and is shown again/);
    await other.getByRole("button", { name: "Delete First" }).click();
    await other.waitForFunction(() => document.querySelectorAll("#conversation-list li").length === 0);
    assert.deepEqual(await stored(one), []);
  });
});
