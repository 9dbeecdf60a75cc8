// LoRA adapters that are uploaded to `serve`, as `wrangler ai finetune create` uploads them to Cloudflare's REST API. They live as long as the process.

import { randomUUID } from "node:crypto";
import { ADD_LORA } from "../loras.js";

/**
 * @import { Ai } from "../node.js"
 * @typedef {{id: string, model: string, name: string, files: Record<string, Uint8Array<ArrayBuffer>>}} Upload
 */

const PATH = /^\/client\/v4\/accounts\/[^/]+\/ai\/finetunes(?:\/([^/]+)\/finetune-assets)?\/?$/;
const [CONFIG, WEIGHTS] = ["adapter_config.json", "adapter_model.safetensors"];
/** The longest body. The service takes files of up to 300 MB. */
const MAX_BYTES = 512 << 20;
/** The most adapters whose files have not all come. */
const MAX_UPLOADS = 16;

/**
 * The handler of requests with uploads of adapters before it.
 *
 * @param {Ai} ai gets the adapters
 * @param {{fetch(request: Request): Promise<Response>}} next answers all other requests
 */
export function withUploads(ai, next) {
  /** Those whose files have not all come, by id. @type {Map<string, Upload>} */
  const uploads = new Map();

  /** @param {Request} request */
  async function create(request) {
    const { model, name } = await request.json().catch(() => ({}));
    if (typeof model !== "string" || typeof name !== "string" || !model || !name) return failed(400, 5006, "the body must be {model, name, description}");
    const listed = await (await next.fetch(new Request(request.url))).json();
    if (listed.result.some((/** @type {{name: string}} */ other) => other.name === name)) return failed(400, 3003, `There is a LoRA adapter '${name}' already. Choose another name.`);
    // One that was begun and left makes room.
    if (uploads.size >= MAX_UPLOADS) uploads.delete([...uploads.keys()][0]);
    const id = randomUUID();
    uploads.set(id, { id, model, name, files: {} });
    return succeeded({ id, model, name, description: "", public: 0 });
  }

  /**
   * @param {Request} request
   * @param {string} id
   */
  async function upload(request, id) {
    const own = uploads.get(id);
    if (!own) return failed(404, 3042, `There is no LoRA adapter ${id} that waits for files.`);
    if (!(Number(request.headers.get("content-length")) <= MAX_BYTES)) return failed(413, 3006, `Request is too large: a file of an adapter has at most ${MAX_BYTES} bytes.`);
    const form = await request.formData().catch(() => new FormData());
    const [file, name] = [form.get("file"), form.get("file_name")];
    if (!(file instanceof Blob) || (name !== CONFIG && name !== WEIGHTS)) {
      return failed(400, 5006, `the body must be a form with the file ("file") and its name ("file_name"), ${CONFIG} or ${WEIGHTS}`);
    }
    own.files[name] = new Uint8Array(await file.arrayBuffer());
    const { [CONFIG]: config, [WEIGHTS]: weights } = own.files;
    if (config && weights) {
      uploads.delete(id);
      ai[ADD_LORA](own.name, { id, model: own.model, source: { config, weights } });
    }
    return succeeded({ id, model: own.model, name: own.name, file_name: name });
  }

  return {
    /** @param {Request} request */
    async fetch(request) {
      const found = request.method === "POST" && PATH.exec(new URL(request.url).pathname);
      if (!found) return next.fetch(request);
      return found[1] === undefined ? create(request) : upload(request, found[1]);
    },
  };
}

/** @param {object} result */
const succeeded = (result) => Response.json({ result, success: true, errors: [], messages: [] });

/**
 * @param {number} status
 * @param {number} code
 * @param {string} text
 */
const failed = (status, code, text) => Response.json({ result: {}, success: false, errors: [{ code, message: `AiError: ${text}` }], messages: [] }, { status });
