// What answers in place of the local models: a script, recorded answers, or the real service, in this order.

import { AiInternalError } from "./errors.js";
import { Script, unmatched } from "./script.js";
import { Service } from "./service.js";
import { eventData } from "./sse.js";

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
  const payer = () => ({ id: account?.id ?? known?.id, token: account?.token ?? known?.token, url: account?.url ?? known?.url });
  const service = remote === undefined ? undefined : new Service(remote, payer, (model) => Object.hasOwn(models, model));
  if (!scripted && !recorder && !service) return undefined;
  const askedFor = (/** @type {string} */ model, /** @type {string} */ input, openai = false) => ({ model, input: JSON.parse(input), openai });
  const notRecorded = (/** @type {Error} */ { message }) => onWarning(`workers-ai-local: an answer could not be recorded: ${message}`);
  return {
    onlyScript: scripted !== undefined && !recorder && !service,
    records: recorder?.records === true,
    ask(model, input, openai) {
      const ended = new AbortController();
      const reply = replyTo(askedFor(model, input, openai), ended.signal).then(toHost);
      const cancel = () => {
        ended.abort();
        // It may have come at the same moment.
        reply.then((come) => come && "stream" in come && come.stream?.cancel(), () => {});
      };
      return { reply, cancel };
    },
    record(model, input, answer) {
      try {
        recorder?.record(askedFor(model, input), JSON.parse(answer));
      } catch (error) {
        notRecorded(error);
      }
    },
  };

  /**
   * @param {Asked} asked
   * @param {AbortSignal} signal
   * @returns {Promise<Reply | undefined>}
   */
  async function replyTo(asked, signal) {
    const reply = (await scripted?.ask(asked)) ?? recorder?.ask(asked);
    if (reply) return reply;
    const forwarded = await service?.ask(asked, signal);
    if (!forwarded) return scripted && !recorder ? unmatched(asked) : undefined;
    if (!recorder?.records) return forwarded;
    return observed(forwarded, async (values) => {
      try {
        const whole = await values();
        if (whole) recorder.record(asked, recorder.answerOfService(whole));
      } catch (error) {
        notRecorded(error);
      }
    });
  }
}

/**
 * The form in which the crate reads a reply.
 *
 * @param {Reply | undefined} reply
 */
function toHost(reply) {
  if (!reply || reply.stream) return reply;
  const [[name, json]] = Object.entries(reply);
  return { text: `{"${name}":${json}}` };
}

/**
 * A reply of the service that calls `complete` when it has been read to its end, with a function that parses its values: `undefined` if the answer
 * is not whole.
 *
 * @param {Reply} reply
 * @param {(values: () => Promise<any[] | undefined>) => Promise<void>} complete
 * @returns {Promise<Reply>}
 */
async function observed(reply, complete) {
  const { object } = reply;
  if (object !== undefined) await complete(async () => [JSON.parse(object)]);
  if (!reply.stream) return reply;
  const { stream } = reply;
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const chunks = [];
  const read = async () => {
    const bytes = await stream.read();
    // The crate reads the bytes, but does not change them.
    if (bytes) chunks.push(/** @type {Uint8Array<ArrayBuffer>} */ (bytes));
    else await complete(() => valuesOf(chunks));
    return bytes;
  };
  return { stream: { ...stream, read } };
}

/**
 * The values of a stream's events; `undefined` if its end or an error says that it is not whole.
 *
 * @param {Uint8Array<ArrayBuffer>[]} chunks
 */
async function valuesOf(chunks) {
  const data = [];
  for await (const each of eventData(new Blob(chunks).stream())) data.push(each);
  if (data.pop() !== "[DONE]") return undefined;
  const values = data.map((each) => JSON.parse(each));
  return values.some((value) => value?.error || value?.errors?.length > 0) ? undefined : values;
}
