// Comparison of keys, in Node.

import { createHash, timingSafeEqual } from "node:crypto";

/**
 * Compares secrets, in a time that does not tell where they differ.
 *
 * @param {string} one
 * @param {string} other
 */
export function isSame(one, other) {
  // Hashes have one length, as the comparison requires.
  const hash = (/** @type {string} */ text) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(one), hash(other));
}
