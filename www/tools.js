// The tools that the model may call: their list and form in the panel, and the cards in which the user answers calls.

import { element, iconButton, make, showError } from "./dom.js";
import { indented } from "./json-check.js";
import { codeBlock } from "./markdown.js";
import { recall, remember } from "./store.js";

/**
 * @import { ToolCallMessage } from "../pkg/index.d.ts"
 * @import { OfferedTool } from "./request.js"
 */

const EXAMPLE = {
  name: "get_weather",
  description: "The weather in a city at this moment",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

/** What the service takes as a name. */
const NAME = /^[\w-]{1,64}$/;

const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (element(id));

export class Tools {
  /** @type {OfferedTool[]} */
  #tools = (recall("tools") ?? []).filter((/** @type {any} */ tool) => NAME.test(tool?.name));
  /** The number of the tool that the form changes; `null` for a new one. @type {number | null} */
  #editing = null;
  onChange = () => {};

  constructor() {
    element("tool-add").addEventListener("click", () => this.#open(null));
    element("tool-save").addEventListener("click", () => this.#save());
    element("tool-cancel").addEventListener("click", () => this.#close());
    this.#show();
  }

  get all() {
    return this.#tools;
  }

  /** How many are offered to the model. */
  get offered() {
    return this.#tools.filter(({ on }) => on).length;
  }

  /** Offers the example, if no tool is offered. */
  offerExample() {
    if (this.offered > 0) return;
    const known = this.#tools.find(({ name }) => name === EXAMPLE.name);
    if (known) known.on = true;
    else this.#tools.push({ ...EXAMPLE, on: true });
    element("tools-section", HTMLDetailsElement).open = true;
    this.#changed();
  }

  #changed() {
    remember("tools", this.#tools);
    this.#show();
    this.onChange();
  }

  #show() {
    element("tool-list").replaceChildren(...this.#tools.map((tool, index) => this.#row(tool, index)));
    element("tool-count").textContent = this.offered > 0 ? String(this.offered) : "";
  }

  /**
   * @param {OfferedTool} tool
   * @param {number} index
   */
  #row(tool, index) {
    const box = make("input", { type: "checkbox", checked: tool.on });
    box.addEventListener("change", () => {
      tool.on = box.checked;
      this.#changed();
    });
    return make(
      "li",
      {},
      make("label", { className: "check" }, box, make("code", {}, tool.name)),
      iconButton("edit", `Change ${tool.name}`, () => this.#open(index)),
      iconButton("trash", `Remove ${tool.name}`, () => {
        this.#tools.splice(index, 1);
        this.#close();
        this.#changed();
      }),
    );
  }

  /** @param {number | null} index */
  #open(index) {
    this.#editing = index;
    const isTaken = this.#tools.some(({ name }) => name === EXAMPLE.name);
    const { name, description = "", parameters = {} } = index === null ? (isTaken ? { name: "", parameters: EXAMPLE.parameters } : EXAMPLE) : this.#tools[index];
    input("tool-name").value = name;
    input("tool-description").value = description;
    input("tool-parameters").value = JSON.stringify(parameters, null, 2);
    this.#showForm(true);
    input("tool-name").focus();
  }

  #close() {
    this.#showForm(false);
    element("tool-add").focus();
  }

  /** @param {boolean} shown */
  #showForm(shown) {
    element("tool-form").hidden = !shown;
    element("tool-add").hidden = shown;
    showError(element("tool-error"), null);
  }

  #save() {
    const name = input("tool-name").value.trim();
    const others = this.#tools.filter((_, index) => index !== this.#editing);
    const problem = (/** @type {string} */ text) => showError(element("tool-error"), text);
    if (!NAME.test(name)) return problem("The name has 1 to 64 letters, digits, _ and -, such as get_weather.");
    if (others.some((tool) => tool.name === name)) return problem(`There is a tool ${name} already: choose another name.`);
    let parameters;
    try {
      parameters = JSON.parse(input("tool-parameters").value);
    } catch (error) {
      return problem(`The parameters are not JSON: ${/** @type {Error} */ (error).message}.`);
    }
    if (typeof parameters !== "object" || parameters === null || Array.isArray(parameters)) return problem('The parameters are a JSON Schema: an object, such as {"type": "object", "properties": {…}}.');
    const tool = { name, description: input("tool-description").value.trim() || undefined, parameters, on: true };
    if (this.#editing === null) this.#tools.push(tool);
    else this.#tools[this.#editing] = tool;
    this.#close();
    this.#changed();
  }
}

/**
 * The card of an answer's calls. Calls without results have a field for them.
 *
 * @param {ToolCallMessage[]} calls
 * @param {Map<string, string>} results by the id of the call
 * @param {((results: {call: ToolCallMessage, content: string}[]) => void) | null} onAnswer `null` if they can no longer be answered
 */
export function callsCard(calls, results, onAnswer) {
  const open = onAnswer !== null && calls.some(({ id }) => !results.has(id));
  /** @type {HTMLTextAreaElement[]} */
  const fields = [];
  const card = make("form", { className: "calls" });
  for (const call of calls) {
    const { name, arguments: values } = call.function;
    const result = results.get(call.id);
    card.append(make("p", { className: "call-name" }, "Calls ", make("code", {}, name)), codeBlock(indented(values), "json"));
    if (result !== undefined) card.append(make("p", { className: "call-name" }, "Your answer"), codeBlock(result, "json"));
    else if (open) {
      const field = make("textarea", { rows: 2, spellcheck: false, className: "code", required: true, placeholder: 'What the tool returns, such as {"celsius": 21}' });
      fields.push(field);
      card.append(make("label", {}, `Answer of ${name}`, field));
    } else card.append(make("p", { className: "note" }, "Not answered."));
  }
  if (open) {
    card.append(make("button", { type: "submit", className: "primary" }, "Answer, and let the model go on"));
    card.addEventListener("submit", (event) => {
      event.preventDefault();
      onAnswer?.(calls.map((call, index) => ({ call, content: fields[index].value })));
    });
  }
  return card;
}
