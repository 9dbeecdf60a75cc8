// A stored file's pieces: its bytes in order, each piece with what is needed to check it and to go on behind it.
//
// Pieces, because a file that is open for writing is lost with its page, and Cache Storage takes whole files only. At most one piece is in memory
// for the writing, and at most one is downloaded twice after a page was closed.

import { sourceError } from "./source.js";

/** Bytes of a piece; the last one is shorter. */
export const PIECE_BYTES = 8 << 20;

const STATE_BYTES = 32;
const DIGEST_BYTES = 32;
/** Behind the bytes: the state of the whole file's SHA-256 before them, and the SHA-256 of all that. */
const TRAILER_BYTES = STATE_BYTES + DIGEST_BYTES;

/**
 * @typedef {object} Piece
 * @property {Uint8Array<ArrayBuffer>} bytes
 * @property {Int32Array<ArrayBuffer>} before the state of the file's SHA-256 before them
 */

/** The number of bytes in a stored piece. @param {Blob | undefined} stored */
export const lengthOf = (stored) => Math.max(0, (stored?.size ?? 0) - TRAILER_BYTES);

/**
 * A piece's file.
 *
 * @param {Uint8Array} bytes
 * @param {Int32Array} before
 */
export async function sealed(bytes, before) {
  const file = new Uint8Array(bytes.length + TRAILER_BYTES);
  file.set(bytes);
  file.set(new Uint8Array(before.buffer, before.byteOffset, STATE_BYTES), bytes.length);
  const digest = await digestOf(file.subarray(0, -DIGEST_BYTES));
  file.set(digest, file.length - DIGEST_BYTES);
  return file;
}

/**
 * The piece in a file.
 *
 * @param {Blob} stored
 * @returns {Promise<Piece>}
 * @throws a source's error if it is not what was stored
 */
export async function unsealed(stored) {
  const file = new Uint8Array(await stored.arrayBuffer());
  const length = lengthOf(stored);
  const digest = await digestOf(file.subarray(0, -DIGEST_BYTES));
  const expected = file.subarray(file.length - DIGEST_BYTES);
  if (file.length < TRAILER_BYTES || digest.some((byte, index) => byte !== expected[index])) throw sourceError("interrupted", "what the browser has stored of it is damaged");
  return { bytes: file.subarray(0, length), before: new Int32Array(file.slice(length, length + STATE_BYTES).buffer) };
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
const digestOf = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
