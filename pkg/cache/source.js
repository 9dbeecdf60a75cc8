// Stored models, and other files on disk, as sources that an engine reads.

import { open } from "node:fs/promises";
import { CURATED_MODELS } from "../curated-models.js";
import { sourceError } from "../source.js";
import { nearest } from "../suggest.js";

/**
 * @import { CustomModelSource } from "../index.d.ts"
 * @import { Model, ModelCache } from "./models.js"
 * @import { Source } from "../source.js"
 */

/** Bytes per read of a file. */
const PIECE = 1 << 20;

/**
 * A file of a model that is stored, and downloaded before if need be.
 *
 * @param {ModelCache} cache
 * @param {Model} model
 * @param {number} [index] of the file
 * @param {string} [name] for messages
 * @param {() => void} [onChanged] called when the server has another file by now
 * @returns {Source}
 */
export function cachedModel(cache, model, index = 0, name = model.files[index].path, onChanged = () => {}) {
  const file = model.files[index];
  return {
    name,
    identity: JSON.stringify(["stored", file.path]),
    async open(offset) {
      await cache.ensureFile(model, file).catch((error) => {
        if (error.kind === "changed") onChanged();
        throw error;
      });
      return fileAt(file.path).open(offset);
    },
  };
}

/**
 * The model of a name: its file, and the others if it is split. What the name stands for may be known only when the hub has answered.
 *
 * @param {ModelCache} cache
 * @param {string} name
 * @returns {Source}
 */
export function cachedName(cache, name) {
  /** @type {Promise<Model> | undefined} */
  let asking;
  /** @type {Model | undefined} */
  let model;
  /** Whether the hub has another file than is remembered. */
  let renew = false;
  const resolve = async () => {
    asking ??= cache.resolve(name, { renew });
    try {
      model = await asking;
      renew = false;
      return model;
    } finally {
      // After an error, or when the hub's file may be another.
      asking = undefined;
    }
  };
  // The hub is asked again, by the next attempt.
  const onChanged = () => {
    model = undefined;
    renew = true;
  };
  const known = () => (renew ? undefined : (model ??= cache.known(name)));
  return {
    name,
    identity: JSON.stringify(["stored", name]),
    get others() {
      const found = known();
      return found ? found.files.slice(1).map(({ url }, index) => cachedModel(cache, found, index + 1, url, onChanged)) : [];
    },
    async prepare() {
      if (!known()) await resolve();
    },
    async open(offset) {
      const found = known() ?? (await resolve());
      return cachedModel(cache, found, 0, name, onChanged).open(offset);
    },
  };
}

/**
 * A source that reads a file on disk.
 *
 * @param {string} filePath
 * @returns {CustomModelSource}
 */
export function fileAt(filePath) {
  return {
    name: filePath,
    async open(offset) {
      const handle = await open(filePath).catch((error) => {
        throw error.code === "ENOENT" ? sourceError("not-found", `no such file${suggestion(filePath)}`) : sourceError("refused", error.message);
      });
      const { size } = await handle.stat();
      // While the crate takes one piece, the next one is read, into the other buffer.
      const buffers = [Buffer.allocUnsafeSlow(PIECE), Buffer.allocUnsafeSlow(PIECE)];
      let position = offset;
      let turn = 0;
      const ahead = () => {
        const reading = handle.read(/** @type {Buffer} */ (buffers[(turn += 1) % 2]), 0, PIECE, position).then(({ bytesRead, buffer }) => {
          position += bytesRead;
          return bytesRead > 0 ? new Uint8Array(buffer.buffer, buffer.byteOffset, bytesRead) : undefined;
        });
        // Its failure is that of the `read` that asks for it.
        reading.catch(() => {});
        return reading;
      };
      let next = ahead();
      return {
        size,
        async read() {
          const piece = await next.catch((error) => {
            throw sourceError("refused", error.message);
          });
          if (piece) next = ahead();
          return piece;
        },
        cancel: () => void handle.close().catch(() => {}),
      };
    },
  };
}

/**
 * What may have been meant by a word that is neither a file nor a name.
 *
 * @param {string} text
 */
export function suggestion(text) {
  if (/[\\/]|\.gguf$/i.test(text)) return "";
  const meant = nearest(text, CURATED_MODELS.map(({ name }) => name));
  return `, and no model of this name${meant ? ` (did you mean ${meant}?)` : ""}`;
}
