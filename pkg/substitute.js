// What answers in place of the local models: a script, recorded answers, or the real service, in this order.

import { AiInternalError } from "./errors.js";
import { Script, unmatched } from "./script.js";
import { Service } from "./service.js";

/**
 * @import { AiConfig, ServiceAccount } from "./index.d.ts"
 * @import { Asked, Reply, Substitute } from "./internal.d.ts"
 */

/**
 * @typedef {object} Abilities of the runtime
 * @property {ServiceAccount} [account] the account of the environment; absent where the service cannot be asked
 * @property {(record: unknown) => Recorder} [recordings] opens a folder; absent where there are no files
 *
 * @typedef {{records: boolean, ask(asked: Asked): Reply | undefined, record(asked: Asked, answer: object): void, answerOfService(values: any[]): object}} Recorder
 */

/**
 * The substitute that a configuration asks for; `undefined` if it asks for none.
 *
 * @param {AiConfig} config
 * @param {Abilities} abilities
 * @returns {Substitute | undefined}
 * @throws {AiInternalError} if the configuration is invalid, or not for this runtime
 */
export function substituteOf({ script, record, remote, account, models = {}, onWarning = console.warn }, { account: known, recordings }) {
  const scripted = script === undefined ? undefined : new Script(script);
  const recorder = record === undefined ? undefined : recordings?.(record);
  if (record !== undefined && !recorder) throw new AiInternalError("record needs files, so it is for Node only.");
  if (remote !== undefined && !known) throw new AiInternalError("remote needs the token of an account, so it is not for pages.");
  const payer = { id: account?.id ?? known?.id, token: account?.token ?? known?.token, url: account?.url ?? known?.url };
  const service = remote === undefined ? undefined : new Service(remote, payer, (model) => Object.hasOwn(models, model));
  if (!scripted && !recorder && !service) return undefined;
  const askedFor = (/** @type {string} */ model, /** @type {string} */ input, openai = false) => ({ model, input: JSON.parse(input), openai });
  /** @type {(asked: Asked, answer: () => object) => void} */
  const write = (asked, answer) => {
    try {
      recorder?.record(asked, answer());
    } catch (error) {
      onWarning(`workers-ai-local: an answer could not be recorded: ${error.message}`);
    }
  };
  return {
    onlyScript: scripted !== undefined && !recorder && !service,
    records: recorder?.records === true,
    async ask(model, input, openai) {
      const asked = askedFor(model, input, openai);
      const reply = (await scripted?.ask(asked)) ?? recorder?.ask(asked);
      if (reply) return reply;
      const forwarded = await service?.ask(asked);
      if (!forwarded) return scripted && !recorder ? unmatched(asked) : undefined;
      return recorder?.records ? observed(forwarded, (values) => write(asked, () => recorder.answerOfService(values))) : forwarded;
    },
    record: (model, input, answer) => write(askedFor(model, input), () => JSON.parse(answer)),
  };
}

/**
 * A reply of the service that tells `complete` its values when it has been read to its end.
 *
 * @param {Reply} reply
 * @param {(values: any[]) => void} complete
 * @returns {Reply}
 */
function observed(reply, complete) {
  if (reply.object !== undefined) complete([JSON.parse(reply.object)]);
  if (!reply.stream) return reply;
  const { stream } = reply;
  const decoder = new TextDecoder();
  let text = "";
  const read = async () => {
    const bytes = await stream.read();
    text += bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
    if (!bytes) complete(valuesOf(text));
    return bytes;
  };
  return { stream: { ...stream, read } };
}

/**
 * The values of server-sent events.
 *
 * @param {string} text
 */
function valuesOf(text) {
  const lines = text.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  const data = lines.map((line) => line.slice("data:".length).trim()).filter((line) => line !== "" && line !== "[DONE]");
  return data.map((line) => JSON.parse(line));
}
