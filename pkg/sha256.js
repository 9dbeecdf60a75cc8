// SHA-256 of a file that comes in pieces, which `crypto.subtle` cannot compute.

/** The hash value before the first block. */
const INITIAL = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/** Of each round: the fractional part of the cube root of a prime number. */
const CONSTANTS = Int32Array.of(
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74,
  0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,
  0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
  0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5,
  0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
);

/** Bytes that are hashed at once. */
const BLOCK = 64;
/** The message schedule of one block. */
const words = new Int32Array(64);

/** The state before the first byte: the eight words of the hash value. */
export const initialState = () => Int32Array.from(INITIAL);

/**
 * Hashes bytes that follow those that are in the state.
 *
 * @param {Int32Array} state changed
 * @param {Uint8Array} bytes a multiple of 64 of them
 */
export function hashBlocks(state, bytes) {
  for (let at = 0; at < bytes.length; at += BLOCK) hashBlock(state, bytes, at);
}

/**
 * The SHA-256 of a whole file, as hexadecimal digits.
 *
 * @param {Int32Array} state of the bytes before `rest`
 * @param {Uint8Array} rest the last bytes of the file
 * @param {number} length of the file
 */
export function finishHash(state, rest, length) {
  const whole = rest.length - (rest.length % BLOCK);
  const last = state.slice();
  hashBlocks(last, rest.subarray(0, whole));
  const remainder = rest.subarray(whole);
  // A one bit, zeros, and the length in bits as a number of 64 bits.
  const padded = new Uint8Array(remainder.length + 9 <= BLOCK ? BLOCK : 2 * BLOCK);
  padded.set(remainder);
  padded[remainder.length] = 0x80;
  new DataView(padded.buffer).setBigUint64(padded.length - 8, BigInt(length) * 8n);
  hashBlocks(last, padded);
  return Array.from(last, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** @param {number} e */
const sigma1 = (e) => ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
/** @param {number} a */
const sigma0 = (a) => ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));

/**
 * Written for speed: engines compile sums of two 32-bit numbers to one instruction each, and do not compile destructuring away.
 *
 * @param {Int32Array} state
 * @param {Uint8Array} bytes
 * @param {number} at where the block begins
 */
function hashBlock(state, bytes, at) {
  const w = words;
  const k = CONSTANTS;
  for (let i = 0; i < 16; i += 1, at += 4) w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  for (let i = 16; i < 64; i += 1) {
    const x = w[i - 15];
    const y = w[i - 2];
    const early = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const late = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = ((w[i - 16] + w[i - 7]) | 0) + ((early + late) | 0);
  }
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  let e = state[4];
  let f = state[5];
  let g = state[6];
  let h = state[7];
  // Four rounds per turn, because moving eight variables in every round would take most of the time.
  for (let i = 0; i < 64; i += 4) {
    h = (((h + ((k[i] + w[i]) | 0)) | 0) + ((sigma1(e) + (g ^ (e & (f ^ g)))) | 0)) | 0;
    d = (d + h) | 0;
    h = (h + ((sigma0(a) + ((a & b) | (c & (a | b)))) | 0)) | 0;
    g = (((g + ((k[i + 1] + w[i + 1]) | 0)) | 0) + ((sigma1(d) + (f ^ (d & (e ^ f)))) | 0)) | 0;
    c = (c + g) | 0;
    g = (g + ((sigma0(h) + ((h & a) | (b & (h | a)))) | 0)) | 0;
    f = (((f + ((k[i + 2] + w[i + 2]) | 0)) | 0) + ((sigma1(c) + (e ^ (c & (d ^ e)))) | 0)) | 0;
    b = (b + f) | 0;
    f = (f + ((sigma0(g) + ((g & h) | (a & (g | h)))) | 0)) | 0;
    e = (((e + ((k[i + 3] + w[i + 3]) | 0)) | 0) + ((sigma1(b) + (d ^ (b & (c ^ d)))) | 0)) | 0;
    a = (a + e) | 0;
    e = (e + ((sigma0(f) + ((f & g) | (h & (f | g)))) | 0)) | 0;
    let swapped = a;
    a = e;
    e = swapped;
    swapped = b;
    b = f;
    f = swapped;
    swapped = c;
    c = g;
    g = swapped;
    swapped = d;
    d = h;
    h = swapped;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}
