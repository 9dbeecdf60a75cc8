// The panel of the request: its fields, what they say, and what an earlier visit left in them.

import { element, showError } from "./dom.js";
import { recall, remember } from "./store.js";

/** @import { OfferedTool, Settings } from "./request.js" */

/** Ids of the number fields; they are also the names of the input's fields. */
const NUMBERS = ["max_tokens", "temperature", "top_p", "top_k", "seed", "repetition_penalty", "frequency_penalty", "presence_penalty"];
const OTHERS = ["system", "format", "schema", "stop_strings", "logit_bias", "reasoning_effort", "tool_choice"];

const EXAMPLE_SCHEMA = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" }, hobbies: { type: "array", items: { type: "string" }, maxItems: 3 } },
  required: ["name", "age", "hobbies"],
  additionalProperties: false,
};

/** @param {string} id */
const field = (id) => /** @type {HTMLInputElement} */ (element(id));

export class SettingsPanel {
  /** Called when anything has changed. */
  onChange = () => {};
  /** The tools, which have a part of the panel of their own. @type {() => OfferedTool[]} */
  tools = () => [];

  constructor() {
    /** What the fields say before anybody touches them. */
    this.initial = this.#values();
    this.initial.schema = JSON.stringify(EXAMPLE_SCHEMA, null, 2);
    this.#fill({ ...this.initial, ...recall("settings") });
    for (const id of [...NUMBERS, ...OTHERS, "raw"]) {
      field(id).addEventListener("input", () => this.#changed());
      // The browser cannot show a validation message for a field inside a closed <details>, so open it.
      field(id).addEventListener("invalid", () => {
        const section = field(id).closest("details");
        if (section) section.open = true;
      });
    }
    element("reset").addEventListener("click", () => {
      this.#fill(this.initial);
      this.#changed();
    });
    this.#show();
  }

  #values() {
    const texts = [...NUMBERS, ...OTHERS].map((id) => [id, field(id).value]);
    return /** @type {Record<string, any>} */ (Object.fromEntries([...texts, ["raw", field("raw").checked]]));
  }

  /** @param {Record<string, any>} values */
  #fill(values) {
    for (const id of [...NUMBERS, ...OTHERS]) field(id).value = values[id] ?? "";
    field("raw").checked = values.raw === true;
  }

  #changed() {
    remember("settings", this.#values());
    this.#show();
    this.onChange();
  }

  /**
   * Sets a field, as the user would.
   *
   * @param {string} id
   * @param {string} value
   */
  set(id, value) {
    field(id).value = value;
    this.#changed();
  }

  /** Shows the fields that the others call for, and marks what cannot be read. */
  #show() {
    const bySchema = field("format").value === "json_schema";
    element("schema-field").hidden = !bySchema;
    const problem = bySchema ? this.#schema().problem : null;
    showError(element("schema-error"), problem);
    // A hidden field must not keep the form from being sent.
    field("schema").setCustomValidity(problem ?? "");
    field("logit_bias").setCustomValidity(this.#bias() === null ? 'Not an object of token numbers and values from -100 to 100, such as {"42": -100}' : "");
  }

  /** @returns {{schema?: object, problem: string | null}} */
  #schema() {
    try {
      const schema = JSON.parse(field("schema").value);
      if (typeof schema === "object" && schema !== null && !Array.isArray(schema)) return { schema, problem: null };
      return { problem: 'A JSON Schema is an object, such as {"type": "object", "properties": {…}}.' };
    } catch (error) {
      return { problem: `This is not JSON yet: ${/** @type {Error} */ (error).message}.` };
    }
  }

  /** The bias as an object; `undefined` if there is none, `null` if it cannot be read. */
  #bias() {
    const text = field("logit_bias").value.trim();
    if (!text) return undefined;
    try {
      const value = JSON.parse(text);
      const fits = typeof value === "object" && value !== null && Object.entries(value).every(([token, bias]) => /^\d+$/.test(token) && typeof bias === "number" && Math.abs(bias) <= 100);
      return fits ? value : null;
    } catch {
      return null;
    }
  }

  /** @returns {Settings} */
  get settings() {
    const values = this.#values();
    const numbers = NUMBERS.filter((id) => values[id] !== "").map((id) => [id, Number(values[id])]);
    const stop = values.stop_strings.split("\n").filter(Boolean);
    const bias = this.#bias();
    const sampling = { ...Object.fromEntries(numbers), ...(stop.length > 0 && { stop }), ...(bias && { logit_bias: bias }), ...(values.reasoning_effort && { reasoning_effort: values.reasoning_effort }) };
    return {
      model: field("model").value,
      system: values.system.trim(),
      format: values.format,
      schema: this.#schema().schema,
      tools: this.tools(),
      toolChoice: values.tool_choice,
      sampling,
      raw: values.raw,
    };
  }
}
