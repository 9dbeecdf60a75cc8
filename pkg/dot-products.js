// Whether relaxed SIMD is worth it here. Its dot product of bytes is one instruction on ARM, where that of 16-bit numbers is three. On x64
// the latter is one as well, and the former one or three: never faster (docs/performance.md).
//
// No engine tells, but results do: of the second operand seven bits are the same everywhere, and what becomes of the eighth shows
// how it was computed. The builds never set it.

/** A module whose `dot` gives one lane of the dot product of sixteen times 127 with sixteen times 255. */
// prettier-ignore
export const DOT_PRODUCT = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, // "\0asm", version 1
  0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f, // types: () -> i32
  0x03, 0x02, 0x01, 0x00, // functions: one of that type
  0x07, 0x07, 0x01, 0x03, 0x64, 0x6f, 0x74, 0x00, 0x00, // exports: "dot", the function
  0x0a, 0x40, 0x01, 0x3e, 0x00, // code: one body of 62 bytes, no locals
  0xfd, 0x0c, ...Array(16).fill(0x7f), // v128.const
  0xfd, 0x0c, ...Array(16).fill(0xff),
  0xfd, 0x0c, ...Array(16).fill(0x00),
  0xfd, 0x93, 0x02, // i32x4.relaxed_dot_i8x16_i7x16_add_s
  0xfd, 0x1b, 0x00, // i32x4.extract_lane 0
  0x0b, // end
]);

/** Four products of 127 and −1. x64 has the bytes of one operand unsigned, and takes them for 255; in three steps it has no room for the sum. */
const OF_SIGNED_BYTES = 4 * 127 * -1;

/** @param {WebAssembly.Module} module of `DOT_PRODUCT` */
export const multipliesSignedBytes = (module) => new WebAssembly.Instance(module).exports.dot() === OF_SIGNED_BYTES;
