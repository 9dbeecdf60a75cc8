//! Matrix products with quantised weights: codes (unsigned, except those of Q8_0 and IQ4) times quantised activations, as integers.

use super::output::Output;
use crate::activations::Activations;
use crate::format::Format;
use crate::lanes::{self, Bytes, Codes4, Codes8, Constants, F32x4, I32x4, UnpackedCodes, Values};
use crate::packed::{Packed, ROWS};
use crate::planes::BLOCK;
use std::ops::Range;

/// Rows of activations per pass over a group of weights. Their sums stay on the stack, and each block is unpacked once for all of
/// them.
const TILE: usize = 32;

/// Multiplies groups `groups` of the weights by every row of the input. Does nothing for unquantised weights.
// With the feature `relaxed-simd`, only this function and those that it calls through pointers are compiled for relaxed SIMD.
#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
pub fn multiply(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    assert!(input.columns == weights.columns && groups.end <= weights.groups(), "shapes of input and weights");
    // Called through pointers, so that the compiler keeps the kernels separate: engines compile small functions sooner and better.
    let (one, many): (Run, Run) = match weights.format {
        Format::Q4_0 => (one_row::<Q4_0>, many_rows::<Q4_0>),
        Format::Q4_1 => (one_row::<Q4_1>, many_rows::<Q4_1>),
        Format::Q5_0 => (one_row::<Q5_0>, many_rows::<Q5_0>),
        Format::Q5_1 => (one_row::<Q5_1>, many_rows::<Q5_1>),
        Format::Q8_0 => (one_row::<Q8_0>, many_rows::<Q8_0>),
        Format::Q2K => (one_row::<Q2K>, many_rows::<Q2K>),
        Format::Q3K => (one_row::<Q3K>, many_rows::<Q3K>),
        Format::Q4K => (one_row::<Q4K>, many_rows::<Q4K>),
        Format::Q5K => (one_row::<Q5K>, many_rows::<Q5K>),
        Format::Q6K => (one_row::<Q6K>, many_rows::<Q6K>),
        Format::Iq4Nl => (one_row::<Iq4Nl>, many_rows::<Iq4Nl>),
        Format::Iq4Xs => (one_row::<Iq4Xs>, many_rows::<Iq4Xs>),
        Format::F32 | Format::F16 | Format::Bf16 => return,
    };
    let run = if input.rows() == 1 { one } else { many };
    run(weights, input, groups, out);
}

/// The kernel of one format: `(weights, input, groups, out)`.
type Run = fn(&Packed, &Activations, Range<usize>, &Output<'_>);

#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn one_row<F: BlockFormat>(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    let bytes = group_bytes::<F>(weights.columns);
    let constants = Constants::new();
    for group in groups {
        let mut total = [lanes::splat(0.0)];
        let packed = &weights.bytes[group * bytes..(group + 1) * bytes];
        add_group::<F, _>(packed, weights.columns, input, 0, &mut total, &constants, |codes| codes);
        out.write(0, group, total[0]);
    }
}

#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn many_rows<F: BlockFormat>(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    let (rows, bytes) = (input.rows(), group_bytes::<F>(weights.columns));
    let constants = Constants::new();
    for group in groups {
        let packed = &weights.bytes[group * bytes..(group + 1) * bytes];
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let mut totals = [lanes::splat(0.0); TILE];
            add_group::<F, _>(packed, weights.columns, input, first, &mut totals[..count], &constants, F::Codes::for_rows);
            for (row, total) in totals[..count].iter().enumerate() {
                out.write(first + row, group, *total);
            }
        }
    }
}

/// Bytes of four packed rows. All but the number of columns is constant.
#[inline(always)]
fn group_bytes<F: BlockFormat>(columns: usize) -> usize {
    columns / F::FORMAT.columns() * F::FORMAT.packed_bytes()
}

/// Adds the products of one packed group with the rows of the input from `first` on to `totals`, one row per total. `convert` is applied
/// to the codes of a block once, before they are multiplied.
#[inline(always)]
fn add_group<F: BlockFormat, C: Codes>(
    packed: &[u8],
    columns: usize,
    input: &Activations,
    first: usize,
    totals: &mut [F32x4],
    constants: &Constants,
    convert: impl Fn(F::Codes) -> C,
) {
    let blocks = columns / BLOCK;
    assert!(input.has_blocks((first + totals.len()) * blocks), "rows of the input");
    let format = F::FORMAT;
    let parts = format.columns() / BLOCK;
    for (index, bytes) in packed.chunks_exact(format.packed_bytes()).enumerate() {
        // SAFETY: `bytes` is a whole packed block of format `F`.
        let head = unsafe { F::head(bytes.as_ptr(), constants) };
        for part in 0..parts {
            // SAFETY: as above; the planes of all parts follow the head.
            let codes = unsafe { F::codes(bytes.as_ptr().add(format.head_bytes() + part * format.plane_bytes()), constants) };
            let codes = convert(codes);
            let scales = F::scales(&head, part);
            let mut at = first * blocks + index * parts + part;
            for total in totals.iter_mut() {
                // SAFETY: `at` is a block of the input (asserted above).
                *total = unsafe { add_block::<F, C>(*total, &codes, &scales, input, at) };
                at += blocks;
            }
        }
    }
}

/// Returns `total` plus the products of 32 columns, with the floating-point operations of the reference implementation, in its order.
///
/// # Safety
/// The input has a block `at`.
#[inline(always)]
unsafe fn add_block<F: BlockFormat, C: Codes>(total: F32x4, codes: &C, scales: &Scales, input: &Activations, at: usize) -> F32x4 {
    // SAFETY: the caller's promise.
    let values = unsafe { input.values.get_unchecked(at) };
    // SAFETY: the caller's promise; each block has four numbers.
    let sum = |index: usize| unsafe { lanes::load_splat(input.scales.as_ptr().add(at).cast::<f32>().add(index)) };
    let scale = sum(0);
    let product = |product: I32x4, weight: F32x4| lanes::mul(lanes::to_float(product), lanes::mul(weight, scale));
    if F::FORMAT.has_scale_per_16() {
        let (first, second) = (codes.dot::<0, 4>(values), codes.dot::<4, 8>(values));
        let total = lanes::add(total, product(first, scales.scale[0]));
        let total = lanes::add(total, lanes::mul(scales.offset[0], sum(2)));
        let total = lanes::add(total, product(second, scales.scale[1]));
        lanes::add(total, lanes::mul(scales.offset[1], sum(3)))
    } else {
        let total = lanes::add(total, product(codes.dot::<0, 8>(values), scales.scale[0]));
        if !F::FORMAT.has_offset() {
            return total;
        }
        lanes::add(total, lanes::mul(scales.offset[0], sum(1)))
    }
}

/// Scales and offsets of four rows for 32 columns. Formats with one scale per 16 columns use both entries, the others the first.
#[derive(Clone, Copy)]
struct Scales {
    scale: [F32x4; 2],
    offset: [F32x4; 2],
}

/// The codes of 32 columns of four rows, packed or unpacked.
trait Codes {
    /// The form that is fastest to multiply by more than one row of activations.
    type ForRows: Codes;

    /// Converts the codes to that form.
    fn for_rows(self) -> Self::ForRows;

    /// `Σ code · value` over words `FROM..TO` (all eight, the first four or the last four), per row.
    fn dot<const FROM: usize, const TO: usize>(&self, values: &Values) -> I32x4;
}

impl Codes for UnpackedCodes {
    type ForRows = Self;

    #[inline(always)]
    fn for_rows(self) -> Self {
        self
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, values: &Values) -> I32x4 {
        UnpackedCodes::dot::<FROM, TO>(self, values)
    }
}

impl Codes for Codes4 {
    type ForRows = UnpackedCodes;

    #[inline(always)]
    fn for_rows(self) -> UnpackedCodes {
        self.unpack()
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, values: &Values) -> I32x4 {
        if TO - FROM == 8 { Codes4::dot(self, values) } else { self.unpack().dot::<FROM, TO>(values) }
    }
}

impl Codes for Codes8 {
    type ForRows = Self;

    #[inline(always)]
    fn for_rows(self) -> Self {
        self
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, values: &Values) -> I32x4 {
        Codes8::dot::<FROM, TO>(self, values)
    }
}

/// A block format: how to read its head (f16 numbers and scales) and its codes.
trait BlockFormat {
    const FORMAT: Format;
    /// The values that are read once per packed block.
    type Head;
    type Codes: Codes;

    /// Reads the head of a packed block.
    ///
    /// # Safety
    /// A whole packed block of the format is at `at`.
    unsafe fn head(at: *const u8, constants: &Constants) -> Self::Head;

    /// The scales of the 32 columns `part` of the block.
    fn scales(head: &Self::Head, part: usize) -> Scales;

    /// Reads the codes of 32 columns.
    ///
    /// # Safety
    /// Their planes are at `at`.
    unsafe fn codes(at: *const u8, constants: &Constants) -> Self::Codes;
}

/// Defines the [`BlockFormat`] of a [`Format`] from three functions: `codes` reads codes, `head` reads the head, `scales` computes scales
/// from the head.
macro_rules! block_format {
    ($name:ident, codes: $codes_type:ty = $codes:expr, head: $head_type:ty = $head:expr, scales: $scales:expr) => {
        struct $name;
        impl BlockFormat for $name {
            const FORMAT: Format = Format::$name;
            type Head = $head_type;
            type Codes = $codes_type;

            #[inline(always)]
            unsafe fn head(at: *const u8, constants: &Constants) -> $head_type {
                // SAFETY: the caller's promise.
                unsafe { $head(at, constants) }
            }

            #[inline(always)]
            fn scales(head: &$head_type, part: usize) -> Scales {
                $scales(head, part)
            }

            #[inline(always)]
            unsafe fn codes(at: *const u8, constants: &Constants) -> $codes_type {
                // SAFETY: the caller's promise.
                unsafe { $codes(at, constants) }
            }
        }
    };
}

block_format!(Q4_0, codes: Codes4 = load_codes_4, head: Scales = scale_and_bias::<8>, scales: block_scales);
block_format!(Q4_1, codes: Codes4 = load_codes_4, head: Scales = scale_and_offset, scales: block_scales);
block_format!(Q5_0, codes: UnpackedCodes = load_codes_5, head: Scales = scale_and_bias::<16>, scales: block_scales);
block_format!(Q5_1, codes: UnpackedCodes = load_codes_5, head: Scales = scale_and_offset, scales: block_scales);
block_format!(Q8_0, codes: Codes8 = load_codes_8, head: Scales = scale_and_bias::<0>, scales: block_scales);
block_format!(Q2K, codes: UnpackedCodes = load_codes_2, head: Head2 = head_2, scales: scales_2);
block_format!(Q3K, codes: UnpackedCodes = load_codes_3, head: Head36 = head_3, scales: scales_3);
block_format!(Q4K, codes: Codes4 = load_codes_4, head: Head45 = head_45, scales: scales_45);
block_format!(Q5K, codes: UnpackedCodes = load_codes_5, head: Head45 = head_45, scales: scales_45);
block_format!(Q6K, codes: UnpackedCodes = load_codes_6, head: Head36 = head_6, scales: scales_6);
block_format!(Iq4Nl, codes: Codes8 = load_codes_iq4, head: Scales = scale_and_bias::<0>, scales: block_scales);
block_format!(Iq4Xs, codes: Codes8 = load_codes_iq4, head: HeadIq4 = head_iq4, scales: scales_iq4);

// Reading codes from their planes.

/// `COUNT` consecutive words.
///
/// # Safety
/// They are at `at`.
#[inline(always)]
unsafe fn load_words<const COUNT: usize>(at: *const u8) -> [Bytes; COUNT] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|index| unsafe { lanes::load(at.add(16 * index)) })
}

/// The low four bits of codes with more than four, or indices of four, from a plane of [`Nibbles8`](crate::planes::Low::Nibbles8).
///
/// # Safety
/// Four words are at `at`.
#[inline(always)]
unsafe fn load_low_4_bits(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise.
    let words = unsafe { load_words::<4>(at) };
    let low = words.map(|word| lanes::and(word, 0x0f0f_0f0f));
    let high = words.map(|word| lanes::and(lanes::shr(word, 4), 0x0f0f_0f0f));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// The low two bits of codes with two bits or more, from a plane of [`TwoBits`](crate::planes::Low::TwoBits).
///
/// # Safety
/// Two words are at `at`.
#[inline(always)]
unsafe fn load_low_2_bits(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise.
    let [a, b] = unsafe { load_words(at) };
    let of = |word: Bytes, index: u32| lanes::and(lanes::shr(word, 2 * index), 0x0303_0303);
    [of(a, 0), of(a, 1), of(a, 2), of(a, 3), of(b, 0), of(b, 1), of(b, 2), of(b, 3)]
}

/// Adds a plane with one bit per code as bit `PLACE` of the codes.
///
/// # Safety
/// One word is at `at`.
#[inline(always)]
unsafe fn with_high_bit<const PLACE: u32>(mut words: [Bytes; 8], at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise.
    let plane = unsafe { lanes::load(at) };
    let mut index = 0;
    while index < 8 {
        let bits = if index < PLACE { lanes::shl(plane, PLACE - index) } else { lanes::shr(plane, index - PLACE) };
        words[index as usize] = lanes::or(words[index as usize], lanes::and(bits, 0x0101_0101 << PLACE));
        index += 1;
    }
    words
}

/// Adds a plane with two bits per code as bits 4 and 5 of the codes.
///
/// # Safety
/// Two words are at `at`.
#[inline(always)]
unsafe fn with_high_two_bits(mut words: [Bytes; 8], at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise.
    let planes = unsafe { load_words::<2>(at) };
    let mut index = 0;
    while index < 8 {
        let (plane, place) = (planes[index / 4], 2 * (index as u32 % 4));
        let bits = if place < 4 { lanes::shl(plane, 4 - place) } else { lanes::shr(plane, place - 4) };
        words[index] = lanes::or(words[index], lanes::and(bits, 0x3030_3030));
        index += 1;
    }
    words
}

/// 2-bit codes.
///
/// # Safety
/// Two words are at `at`.
#[inline(always)]
unsafe fn load_codes_2(at: *const u8, _: &Constants) -> UnpackedCodes {
    // SAFETY: the caller's promise.
    UnpackedCodes::new(unsafe { load_low_2_bits(at) })
}

/// 3-bit codes.
///
/// # Safety
/// Two words of 2-bit numbers and one of single bits are at `at`.
#[inline(always)]
unsafe fn load_codes_3(at: *const u8, _: &Constants) -> UnpackedCodes {
    // SAFETY: the caller's promise.
    UnpackedCodes::new(unsafe { with_high_bit::<2>(load_low_2_bits(at), at.add(32)) })
}

/// 4-bit codes.
///
/// # Safety
/// Four words are at `at`.
#[inline(always)]
unsafe fn load_codes_4(at: *const u8, constants: &Constants) -> Codes4 {
    // SAFETY: the caller's promise.
    Codes4::new(unsafe { load_words(at) }, constants)
}

/// 5-bit codes.
///
/// # Safety
/// Four words of nibbles and one of single bits are at `at`.
#[inline(always)]
unsafe fn load_codes_5(at: *const u8, _: &Constants) -> UnpackedCodes {
    // SAFETY: the caller's promise.
    UnpackedCodes::new(unsafe { with_high_bit::<4>(load_low_4_bits(at), at.add(64)) })
}

/// 6-bit codes.
///
/// # Safety
/// Four words of nibbles and two of 2-bit numbers are at `at`.
#[inline(always)]
unsafe fn load_codes_6(at: *const u8, _: &Constants) -> UnpackedCodes {
    // SAFETY: the caller's promise.
    UnpackedCodes::new(unsafe { with_high_two_bits(load_low_4_bits(at), at.add(64)) })
}

/// Signed 8-bit codes.
///
/// # Safety
/// Eight words are at `at`.
#[inline(always)]
unsafe fn load_codes_8(at: *const u8, constants: &Constants) -> Codes8 {
    // SAFETY: the caller's promise.
    unsafe { Codes8::load(at, constants) }
}

/// Signed 8-bit codes, from their indices in a table.
///
/// # Safety
/// Four words are at `at`.
#[inline(always)]
unsafe fn load_codes_iq4(at: *const u8, constants: &Constants) -> Codes8 {
    // SAFETY: the caller's promise.
    let indices = unsafe { load_low_4_bits(at) };
    Codes8::new(indices.map(|indices| constants.iq4_codes(indices)), constants)
}

// Reading heads, and computing scales from them.

/// One f16 per row, the scale. The weight is `scale · (code - BIAS)`.
///
/// # Safety
/// Eight bytes are at `at`.
#[inline(always)]
unsafe fn scale_and_bias<const BIAS: u8>(at: *const u8, constants: &Constants) -> Scales {
    // SAFETY: the caller's promise.
    let scale = unsafe { constants.load_four_f16(at) };
    Scales { scale: [scale; 2], offset: [lanes::mul(scale, lanes::splat(-f32::from(BIAS))); 2] }
}

/// Two f16 per row: scale and offset.
///
/// # Safety
/// Sixteen bytes are at `at`.
#[inline(always)]
unsafe fn scale_and_offset(at: *const u8, constants: &Constants) -> Scales {
    // SAFETY: the caller's promise.
    let (scale, offset) = unsafe { constants.load_eight_f16(at) };
    Scales { scale: [scale; 2], offset: [offset; 2] }
}

/// Scales that apply to the whole block.
#[inline(always)]
fn block_scales(head: &Scales, _: usize) -> Scales {
    *head
}

/// Q2_K: one byte per 16 columns, with a 4-bit scale in the low and a 4-bit offset in the high nibble.
struct Head2 {
    scale: F32x4,
    /// The factor of the offsets, negated.
    minus: F32x4,
    bytes: [Bytes; 4],
}

/// # Safety
/// Two f16 of four rows and then four words are at `at`.
#[inline(always)]
unsafe fn head_2(at: *const u8, constants: &Constants) -> Head2 {
    // SAFETY: the caller's promise.
    let ((scale, factor), bytes) = unsafe { (constants.load_eight_f16(at), load_words(at.add(16))) };
    Head2 { scale, minus: lanes::mul(factor, lanes::splat(-1.0)), bytes }
}

#[inline(always)]
fn scales_2(head: &Head2, part: usize) -> Scales {
    let word = head.bytes[part / 2];
    let (low, high) = (lanes::and(word, 0x0f0f_0f0f), lanes::and(lanes::shr(word, 4), 0x0f0f_0f0f));
    let of = |word, side: usize| lanes::to_float(lanes::byte(word, (2 * (part % 2) + side) as u32));
    Scales {
        scale: [lanes::mul(head.scale, of(low, 0)), lanes::mul(head.scale, of(low, 1))],
        offset: [lanes::mul(head.minus, of(high, 0)), lanes::mul(head.minus, of(high, 1))],
    }
}

/// Q3_K and Q6_K: one scale per 16 columns. The offset is a constant multiple of the scale.
struct Head36 {
    scale: F32x4,
    bytes: [Bytes; 4],
}

/// # Safety
/// One f16 of four rows and then three words are at `at`.
#[inline(always)]
unsafe fn head_3(at: *const u8, constants: &Constants) -> Head36 {
    // SAFETY: the caller's promise.
    let (scale, [a, b, c]) = unsafe { (constants.load_four_f16(at), load_words(at.add(8))) };
    let low = |word, shift| lanes::and(lanes::shr(word, shift), 0x0f0f_0f0f);
    let high = |shift| lanes::shl(lanes::and(lanes::shr(c, shift), 0x0303_0303), 4);
    let bytes =
        [lanes::or(low(a, 0), high(0)), lanes::or(low(b, 0), high(2)), lanes::or(low(a, 4), high(4)), lanes::or(low(b, 4), high(6))];
    Head36 { scale, bytes }
}

/// # Safety
/// One f16 of four rows and then four words are at `at`.
#[inline(always)]
unsafe fn head_6(at: *const u8, constants: &Constants) -> Head36 {
    // SAFETY: the caller's promise.
    let (scale, bytes) = unsafe { (constants.load_four_f16(at), load_words(at.add(8))) };
    Head36 { scale, bytes }
}

#[inline(always)]
fn scales_3(head: &Head36, part: usize) -> Scales {
    let of = |place| lanes::sub_int(lanes::byte(head.bytes[part / 2], place), lanes::splat_int(32));
    scales_per_16(head, part, of, -4.0)
}

#[inline(always)]
fn scales_6(head: &Head36, part: usize) -> Scales {
    scales_per_16(head, part, |place| lanes::signed_byte(head.bytes[part / 2], place), -32.0)
}

/// The scales of two times 16 columns, which `of` reads by index, and offsets of `bias` times the scale.
#[inline(always)]
fn scales_per_16(head: &Head36, part: usize, of: impl Fn(u32) -> I32x4, bias: f32) -> Scales {
    let scale = [0, 1].map(|side| lanes::mul(head.scale, lanes::to_float(of((2 * (part % 2) + side) as u32))));
    Scales { scale, offset: scale.map(|scale| lanes::mul(scale, lanes::splat(bias))) }
}

/// Q4_K and Q5_K: a six-bit scale and a six-bit offset per 32 columns.
struct Head45 {
    scale: F32x4,
    /// The factor of the offsets, negated.
    minus: F32x4,
    scales: [Bytes; 2],
    offsets: [Bytes; 2],
}

/// # Safety
/// Two f16 of four rows and then three words are at `at`.
#[inline(always)]
unsafe fn head_45(at: *const u8, constants: &Constants) -> Head45 {
    // SAFETY: the caller's promise.
    let ((scale, factor), [a, b, c]) = unsafe { (constants.load_eight_f16(at), load_words(at.add(16))) };
    let upper = |word| lanes::and(lanes::shr(word, 2), 0x3030_3030);
    let scales = [lanes::and(a, 0x3f3f_3f3f), lanes::or(lanes::and(c, 0x0f0f_0f0f), upper(a))];
    let offsets = [lanes::and(b, 0x3f3f_3f3f), lanes::or(lanes::and(lanes::shr(c, 4), 0x0f0f_0f0f), upper(b))];
    Head45 { scale, minus: lanes::mul(factor, lanes::splat(-1.0)), scales, offsets }
}

#[inline(always)]
fn scales_45(head: &Head45, part: usize) -> Scales {
    let of = |words: &[Bytes; 2]| lanes::to_float(lanes::byte(words[part / 4], part as u32 % 4));
    let (scale, offset) = (lanes::mul(head.scale, of(&head.scales)), lanes::mul(head.minus, of(&head.offsets)));
    Scales { scale: [scale; 2], offset: [offset; 2] }
}

/// IQ4_XS: a six-bit scale per 32 columns.
struct HeadIq4 {
    scale: F32x4,
    /// Per row, four bits of each part.
    lower: Bytes,
    /// Per row, the two bits above of each part.
    upper: Bytes,
}

/// # Safety
/// One f16 of four rows, a 16-bit integer of four rows, and then one word are at `at`.
#[inline(always)]
unsafe fn head_iq4(at: *const u8, constants: &Constants) -> HeadIq4 {
    // SAFETY: the caller's promise.
    unsafe { HeadIq4 { scale: constants.load_four_f16(at), upper: lanes::load_four_u16(at.add(8)), lower: lanes::load(at.add(16)) } }
}

#[inline(always)]
fn scales_iq4(head: &HeadIq4, part: usize) -> Scales {
    let part = part as u32;
    let (lower, upper) = (lanes::and(lanes::shr(head.lower, 4 * part), 15), lanes::and(lanes::shr(head.upper, 2 * part), 3));
    // The only byte that is not zero.
    let bits = lanes::byte(lanes::or(lower, lanes::shl(upper, 4)), 0);
    let scale = lanes::mul(head.scale, lanes::to_float(lanes::sub_int(bits, lanes::splat_int(32))));
    Scales { scale: [scale; 2], offset: [lanes::splat(0.0); 2] }
}

const _: () = assert!(ROWS == 4, "a vector has four lanes");
