// Detects whether relaxed SIMD is faster here. On ARM, its dot product of bytes is one instruction, and the dot product of 16-bit numbers
// is three. On x64, the dot product of 16-bit numbers is one instruction and that of bytes is one or three, so relaxed SIMD is never faster
// (docs/performance.md).
//
// No engine reports its CPU, but results reveal it: the relaxed dot product defines only seven bits of the second operand, and the
// effect of the eighth bit shows how the product was computed. The builds never set this bit.

/** A module whose function `dot` returns one lane of the dot product of sixteen bytes 127 with sixteen bytes 255. */
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

/**
 * The sum of four products 127 · −1, if both operands are signed. x64 treats the bytes of one operand as unsigned, 255; where it needs
 * three instructions, the intermediate sum overflows.
 */
const OF_SIGNED_BYTES = 4 * 127 * -1;

/**
 * Whether the relaxed dot product multiplies signed bytes, as on ARM.
 *
 * @param {WebAssembly.Module} module compiled from `DOT_PRODUCT`
 * @returns {boolean}
 */
export function multipliesSignedBytes(module) {
  const { dot } = new WebAssembly.Instance(module).exports;
  return typeof dot === "function" && dot() === OF_SIGNED_BYTES;
}
