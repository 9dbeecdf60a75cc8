// What the cache knows of a stored file, in a file beside it, and whether the stored file is still the one that was checked.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";

/**
 * @typedef {object} FileRecord
 * @property {string[]} names the names by which the file was asked for
 * @property {string} url
 * @property {number} size bytes
 * @property {string} sha256 of the whole file, as 64 hexadecimal digits
 * @property {string} [etag] what the server called this version
 * @property {string} [modified] the server's Last-Modified
 * @property {Stamp} checked what the file looked like when its SHA-256 was last seen to be this one
 *
 * @typedef {{size: number, mtimeMs: number, ctimeMs: number}} Stamp whatever writes to a file changes one of these; no program can set `ctimeMs`
 */

/** @param {string} file */
export const recordOf = (file) => `${file}.record.json`;

/** @param {string} file @returns {Promise<FileRecord | undefined>} */
export const readRecord = (file) => readJson(recordOf(file));

/**
 * Notes that a file was just seen to have this SHA-256.
 *
 * @param {string} file
 * @param {Omit<FileRecord, "checked" | "size">} facts
 */
export async function writeRecord(file, facts) {
  const checked = stampOf(await stat(file));
  await writeJson(recordOf(file), { ...facts, size: checked.size, checked });
}

/** Notes that a file is used now: its record's time says so, because the file's own times say whether it was changed. @param {string} file */
export const markUsed = (file) => utimes(recordOf(file), new Date(), new Date()).catch(() => {});

/**
 * Whether a stored file is the one that is expected:
 * - without reading it, if nothing has written to it since its SHA-256 was compared;
 * - otherwise by its SHA-256, which is then noted.
 *
 * @param {string} file
 * @param {object} expected
 * @param {string[]} expected.names
 * @param {string} expected.url
 * @param {number} [expected.size]
 * @param {string} [expected.sha256] without it, the one that was recorded when the file was stored
 * @param {object} [options]
 * @param {boolean} [options.full] read it in any case
 * @returns {Promise<"good" | "missing" | "other">} "other": it has other bytes
 */
export async function compare(file, { names, url, size, sha256 }, { full = false } = {}) {
  const found = await stat(file).catch(() => undefined);
  if (!found) return "missing";
  const record = await readRecord(file);
  const wanted = sha256?.toLowerCase() ?? record?.sha256;
  if (wanted === undefined || (size !== undefined && found.size !== size)) return "other";
  const known = record?.sha256 === wanted && isSame(record.checked, stampOf(found));
  if ((full || !known) && (await hashed(file, createHash("sha256"))).digest("hex") !== wanted) return "other";
  const all = [...new Set([...(record?.names ?? []), ...names])];
  if (full || !known || all.length > (record?.names.length ?? 0)) await writeRecord(file, { ...record, names: all, url, sha256: wanted }).catch(() => {});
  return "good";
}

/** @param {Stamp} stamp @returns {Stamp} */
const stampOf = ({ size, mtimeMs, ctimeMs }) => ({ size, mtimeMs, ctimeMs });

/**
 * @param {Stamp | undefined} one
 * @param {Stamp} other
 */
const isSame = (one, other) => one?.size === other.size && one.mtimeMs === other.mtimeMs && one.ctimeMs === other.ctimeMs;

/**
 * @param {string} file
 * @param {import("node:crypto").Hash} hash gets the bytes of the file
 */
export async function hashed(file, hash) {
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash;
}

/** @param {string} file @returns {Promise<any>} `undefined` if it is missing or damaged */
export async function readJson(file) {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch {
    return undefined;
  }
}

let written = 0;

/**
 * Writes a file in one step: readers see the old or the new one.
 *
 * @param {string} file
 * @param {unknown} value
 */
export async function writeJson(file, value) {
  const part = `${file}.${process.pid}-${(written += 1)}.tmp`;
  try {
    await writeFile(part, `${JSON.stringify(value, null, 2)}\n`);
    await rename(part, file);
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    throw error;
  }
}
