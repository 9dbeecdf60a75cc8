//! Matrix products with quantised weights: codes (unsigned, except those of Q8_0 and IQ4) times quantised activations, as integers.

use super::output::Output;
use crate::activations::{Activations, Block, Quad, Rows};
use crate::format::Format;
use crate::lanes::{self, Bytes, Codes, Codes4, Codes8, Constants, F32x4, I32x4, Panel, UnpackedCodes, Values};
use crate::packed::{Packed, ROWS};
use crate::planes::BLOCK;
use std::ops::Range;

/// Rows of activations per pass over some groups of weights. Their sums stay on the stack, and each block is unpacked once for all of them.
const TILE: usize = 32;

/// Groups that are multiplied by the same vectors of activations: as many as have the sums of four rows in registers.
pub(super) const GROUPS: usize = if cfg!(all(target_feature = "simd128", feature = "relaxed-simd")) { 1 } else { 2 };

/// Runs of groups that are read in turns, a block of each. The processor fetches all of them ahead, and the pause at the end of a page of one
/// is filled by the others.
const STREAMS: usize = 4;

/// Multiplies groups `groups` of the weights by every row of the input. Does nothing for unquantised weights.
// With the feature `relaxed-simd`, only this function and those that it calls through pointers are compiled for relaxed SIMD.
#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
pub fn multiply(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    assert!(input.columns == weights.columns && groups.end <= weights.groups(), "shapes of input and weights");
    // Called through pointers, so that the compiler keeps the kernels separate: engines compile small functions sooner and better.
    let (singles, quads): (Run<Block<Values>>, Run<Quad>) = match weights.format {
        Format::Q4_0 => (multiply_singles::<Q4_0>, multiply_quads::<Q4_0>),
        Format::Q4_1 => (multiply_singles::<Q4_1>, multiply_quads::<Q4_1>),
        Format::Q5_0 => (multiply_singles::<Q5_0>, multiply_quads::<Q5_0>),
        Format::Q5_1 => (multiply_singles::<Q5_1>, multiply_quads::<Q5_1>),
        Format::Q8_0 => (multiply_singles::<Q8_0>, multiply_quads::<Q8_0>),
        Format::Q2K => (multiply_singles::<Q2K>, multiply_quads::<Q2K>),
        Format::Q3K => (multiply_singles::<Q3K>, multiply_quads::<Q3K>),
        Format::Q4K => (multiply_singles::<Q4K>, multiply_quads::<Q4K>),
        Format::Q5K => (multiply_singles::<Q5K>, multiply_quads::<Q5K>),
        Format::Q6K => (multiply_singles::<Q6K>, multiply_quads::<Q6K>),
        Format::Iq4Nl => (multiply_singles::<Iq4Nl>, multiply_quads::<Iq4Nl>),
        Format::Iq4Xs => (multiply_singles::<Iq4Xs>, multiply_quads::<Iq4Xs>),
        Format::F32 | Format::F16 | Format::Bf16 => return,
    };
    match input.blocks() {
        Rows::Singles(blocks) => singles(weights, blocks, input.rows(), groups, out),
        Rows::Quads(blocks) => quads(weights, blocks, input.rows(), groups, out),
    }
}

/// The kernel of one format: `(weights, blocks of the input, rows of the input, groups, out)`.
type Run<B> = fn(&Packed, &[B], usize, Range<usize>, &Output<'_>);

#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn multiply_singles<F: BlockFormat>(weights: &Packed, input: &[Block<Values>], rows: usize, groups: Range<usize>, out: &Output<'_>) {
    let constants = Constants::new();
    let format = F::FORMAT;
    let (size, parts) = (format.packed_bytes(), format.columns() / BLOCK);
    let (blocks, bytes) = (weights.blocks(), weights.group_bytes());
    assert!(bytes == blocks * size && input.len() >= rows * blocks * parts, "whole blocks of weights, all rows of the input");
    let mut first = groups.start;
    while first < groups.end {
        // Unknown to the compiler, so that it does not repeat the code for each stream.
        let streams = std::hint::black_box(STREAMS).min(STREAMS).min(groups.end - first);
        // From one stream to the next, in groups.
        let distance = (groups.end - first) / streams;
        let packed = &weights.bytes[first * bytes..(first + streams * distance) * bytes];
        for step in 0..distance {
            for (row, input) in input.chunks_exact((blocks * parts).max(1)).enumerate().take(rows) {
                let mut totals = [lanes::splat(0.0); STREAMS];
                for block in 0..blocks {
                    let mut at = step * bytes + block * size;
                    for total in &mut totals[..streams] {
                        // SAFETY: a whole packed block of format `F`: `at` is block `block` of group `step + stream · distance` of `packed`, which
                        // has `streams · distance` groups of `blocks` blocks (asserted).
                        let start = unsafe { packed.as_ptr().add(at) };
                        // SAFETY: as above.
                        let head = unsafe { F::head(start, &constants) };
                        for part in 0..parts {
                            // SAFETY: as above; the planes of all parts follow the head.
                            let codes = unsafe { F::codes(start.add(format.head_bytes() + part * format.plane_bytes()), &constants) };
                            // SAFETY: the row has `blocks · parts` blocks.
                            let input = unsafe { input.get_unchecked(block * parts + part) };
                            *total = add_block::<F>(*total, &codes, &F::scales(&head, part), input);
                        }
                        at += distance * bytes;
                    }
                }
                for (stream, total) in totals[..streams].iter().enumerate() {
                    out.write(row, first + step + stream * distance, *total);
                }
            }
        }
        first += streams * distance;
    }
}

#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn multiply_quads<F: BlockFormat>(weights: &Packed, input: &[Quad], rows: usize, groups: Range<usize>, out: &Output<'_>) {
    let constants = Constants::new();
    let format = F::FORMAT;
    let (size, parts) = (format.packed_bytes(), format.columns() / BLOCK);
    let (blocks, bytes) = (weights.blocks(), weights.group_bytes());
    assert!(bytes == blocks * size, "whole blocks of weights");
    // Called through pointers, like the kernels.
    let add: [RunQuad<PanelOf<F>>; 2] = match (format.has_scale_per_16(), format.has_offset()) {
        (true, _) => [add_quad::<_, 2, true, true>, add_quad::<_, 4, true, true>],
        (false, true) => [add_quad::<_, 2, false, true>, add_quad::<_, 4, false, true>],
        (false, false) => [add_quad::<_, 2, false, false>, add_quad::<_, 4, false, false>],
    };
    let mut panels = [PanelOf::<F>::ZERO; GROUPS];
    let mut scales = [Scales::ZERO; GROUPS];
    let distance = groups.len().div_ceil(GROUPS);
    for group in groups.start..groups.start + distance {
        // If there is no other group left, the last one is computed again.
        let own = std::array::from_fn::<usize, GROUPS, _>(|index| (group + index * distance).min(groups.end - 1));
        let packed = own.map(|group| &weights.bytes[group * bytes..(group + 1) * bytes]);
        for (first, input) in (0..rows).step_by(TILE).zip(input.chunks((TILE / 4 * blocks * parts).max(1))) {
            let count = TILE.min(rows - first);
            let mut totals = [[[lanes::splat(0.0); 4]; GROUPS]; TILE / 4];
            for block in 0..blocks {
                // SAFETY: a whole packed block of format `F`: each of `packed` has `blocks` of them (asserted).
                let starts = packed.map(|packed| unsafe { packed.as_ptr().add(block * size) });
                // SAFETY: as above.
                let heads = starts.map(|start| unsafe { F::head(start, &constants) });
                for part in 0..parts {
                    for (((start, head), panel), scales) in starts.iter().zip(&heads).zip(&mut panels).zip(&mut scales) {
                        // SAFETY: as above; the planes of all parts follow the head.
                        unsafe { F::codes(start.add(format.head_bytes() + part * format.plane_bytes()), &constants) }.unpack_to(panel);
                        *scales = F::scales(head, part);
                    }
                    for (index, totals) in totals[..count.div_ceil(4)].iter_mut().enumerate() {
                        let quad = &input[index * blocks * parts + block * parts + part];
                        add[usize::from(count - 4 * index > 2)](&panels, &scales, quad, totals);
                    }
                }
            }
            for (row, index) in (first..first + count).zip(0..) {
                for (group, totals) in own.into_iter().zip(&totals[index / 4]) {
                    out.write(row, group, totals[index % 4]);
                }
            }
        }
    }
}

/// Codes of the format `F` in the form in which they are multiplied by four rows.
type PanelOf<F> = <<F as BlockFormat>::Codes as Codes>::Panel;

/// `(panels, scales, activations, totals)`.
type RunQuad<P> = fn(&[P; GROUPS], &[Scales; GROUPS], &Quad, &mut [[F32x4; 4]; GROUPS]);

/// Adds the products of 32 columns with the first `R` of four rows of activations to `totals`, in the order of [`add_block`]. `HALVES` and
/// `OFFSETS` say whether the format has a scale per 16 columns, and offsets.
#[inline(never)]
#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn add_quad<P: Panel, const R: usize, const HALVES: bool, const OFFSETS: bool>(
    panels: &[P; GROUPS],
    scales: &[Scales; GROUPS],
    quad: &Quad,
    totals: &mut [[F32x4; 4]; GROUPS],
) {
    let mut add = |products: [[I32x4; R]; GROUPS], half: usize, sum: usize| {
        for row in 0..R {
            let [scale, sum] = [0, sum].map(|index| lanes::splat(quad.scales[row][index]));
            for ((products, scales), totals) in products.iter().zip(scales).zip(totals.iter_mut()) {
                let product = lanes::mul(lanes::to_float(products[row]), lanes::mul(scales.scale[half], scale));
                totals[row] = lanes::add(totals[row], product);
                if OFFSETS {
                    totals[row] = lanes::add(totals[row], lanes::mul(scales.offset[half], sum));
                }
            }
        }
    };
    if HALVES {
        add(P::multiply::<GROUPS, R, 0, 4>(panels, &quad.values), 0, 2);
        add(P::multiply::<GROUPS, R, 4, 8>(panels, &quad.values), 1, 3);
    } else {
        add(P::multiply::<GROUPS, R, 0, 8>(panels, &quad.values), 0, 1);
    }
}

/// Returns `total` plus the products of 32 columns, with the floating-point operations of the reference implementation, in its order.
#[inline(always)]
fn add_block<F: BlockFormat>(total: F32x4, codes: &F::Codes, scales: &Scales, input: &Block<Values>) -> F32x4 {
    let sum = |index: usize| lanes::splat(input.scales[index]);
    let scale = sum(0);
    let product = |product: I32x4, weight: F32x4| lanes::mul(lanes::to_float(product), lanes::mul(weight, scale));
    if F::FORMAT.has_scale_per_16() {
        let (first, second) = (codes.dot::<0, 4>(&input.values), codes.dot::<4, 8>(&input.values));
        let total = lanes::add(total, product(first, scales.scale[0]));
        let total = lanes::add(total, lanes::mul(scales.offset[0], sum(2)));
        let total = lanes::add(total, product(second, scales.scale[1]));
        lanes::add(total, lanes::mul(scales.offset[1], sum(3)))
    } else {
        let total = lanes::add(total, product(codes.dot::<0, 8>(&input.values), scales.scale[0]));
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

impl Scales {
    const ZERO: Self = Self { scale: [lanes::ZERO; 2], offset: [lanes::ZERO; 2] };
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
