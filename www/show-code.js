// The dialog "Show code": the request that the settings stand for, as code.

import { samples } from "./code-samples.js";
import { element, make } from "./dom.js";
import { codeBlock } from "./markdown.js";
import { tabs } from "./tabs.js";

/** @import { Request } from "./code-samples.js" */

const dialog = /** @type {HTMLDialogElement} */ (element("code"));

/**
 * @param {() => Request} request of this moment
 * @param {(code: string) => void} toWorkerTab
 */
export function showCode(request, toWorkerTab) {
  let chosen = "Worker";
  /** @type {import("./code-samples.js").Sample[]} */
  let all = [];
  const list = element("code-tabs");
  const choose = tabs(list, (tab) => show(tab.dataset.name ?? ""));

  /** @param {string} name */
  const show = (name) => {
    chosen = name;
    const sample = all.find((each) => each.name === name) ?? all[0];
    element("code-note").textContent = sample.note;
    element("code-text").replaceChildren(...(sample.code === null ? [] : [codeBlock(sample.code, sample.language)]));
    element("code-run").replaceChildren(...(sample.run ? [make("h3", {}, "Run it"), codeBlock(sample.run, "bash")] : []));
    element("code-to-worker").hidden = sample.name !== "Worker";
  };

  element("open-code").addEventListener("click", () => {
    all = samples(request());
    list.replaceChildren(...all.map(({ name }) => make("button", { type: "button", role: "tab", "data-name": name, "aria-controls": "code-text" }, name)));
    choose(/** @type {HTMLElement} */ (list.querySelector(`[data-name="${chosen}"]`)));
    dialog.showModal();
  });
  element("code-to-worker").addEventListener("click", () => {
    dialog.close();
    toWorkerTab(all.find(({ name }) => name === "Worker")?.code ?? "");
  });
}
