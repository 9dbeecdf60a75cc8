//! Matrix products over codes: unsigned bytes (of Q8_0, signed ones) times activations as integers.

use super::output::Output;
use crate::activations::Activations;
use crate::format::Format;
use crate::lanes::{self, Bytes, Constants, Eights, F32x4, Fours, I32x4, Values, Words};
use crate::packed::{Packed, ROWS};
use crate::planes::BLOCK;
use std::ops::Range;

/// Rows of activations that are computed in one pass through a group: their sums stay on the stack, and each unpacked block
/// serves all of them.
const TILE: usize = 32;

/// Groups `groups` of the weights against every row of the input.
// With what it calls through pointers the only function that is compiled for relaxed SIMD, where that is asked for.
#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
pub fn multiply(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    assert!(input.columns == weights.columns && groups.end <= weights.groups(), "shapes of input and weights");
    // Called through pointers, so that no compiler merges the kernels: engines compile small functions sooner and better.
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
        Format::F32 | Format::F16 | Format::Bf16 => return,
    };
    let run = if input.rows() == 1 { one } else { many };
    run(weights, input, groups, out);
}

type Run = fn(&Packed, &Activations, Range<usize>, &Output<'_>);

#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn one_row<K: Kernel>(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    let bytes = weights.group_bytes();
    let constants = Constants::new();
    for group in groups {
        let mut total = [lanes::splat(0.0)];
        let packed = &weights.bytes[group * bytes..(group + 1) * bytes];
        add_group::<K, _>(packed, weights.columns, input, 0, &mut total, &constants, |codes| codes);
        out.write(0, group, total[0]);
    }
}

#[cfg_attr(all(feature = "relaxed-simd", target_feature = "simd128"), target_feature(enable = "relaxed-simd"))]
fn many_rows<K: Kernel>(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    let (rows, bytes) = (input.rows(), weights.group_bytes());
    let constants = Constants::new();
    for group in groups {
        let packed = &weights.bytes[group * bytes..(group + 1) * bytes];
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let mut totals = [lanes::splat(0.0); TILE];
            add_group::<K, _>(packed, weights.columns, input, first, &mut totals[..count], &constants, K::Codes::for_rows);
            for (row, total) in totals[..count].iter().enumerate() {
                out.write(first + row, group, *total);
            }
        }
    }
}

/// Adds the products of a group with the rows from `first` on, one per total. Codes are multiplied in the form that `formed` gives
/// them.
#[inline(always)]
fn add_group<K: Kernel, C: Codes>(
    packed: &[u8],
    columns: usize,
    input: &Activations,
    first: usize,
    totals: &mut [F32x4],
    constants: &Constants,
    formed: impl Fn(K::Codes) -> C,
) {
    let blocks = columns / BLOCK;
    assert!(input.has_blocks((first + totals.len()) * blocks), "rows of the input");
    let format = K::FORMAT;
    let parts = format.columns() / BLOCK;
    for (index, bytes) in packed.chunks_exact(format.packed_bytes()).enumerate() {
        // SAFETY: `bytes` is a whole packed block of the kernel's format.
        let head = unsafe { K::head(bytes.as_ptr(), constants) };
        for part in 0..parts {
            // SAFETY: as above; each part has its planes behind the head.
            let codes = unsafe { K::codes(bytes.as_ptr().add(format.head_bytes() + part * format.plane_bytes()), constants) };
            let codes = formed(codes);
            let scales = K::scales(&head, part);
            let mut at = first * blocks + index * parts + part;
            for total in totals.iter_mut() {
                // SAFETY: one of the input's blocks (asserted above).
                *total = unsafe { add_block::<K, C>(*total, &codes, &scales, input, at) };
                at += blocks;
            }
        }
    }
}

/// The total with the products of 32 columns: the twin's floating-point operations, in its order.
///
/// # Safety
/// The input has a block `at`.
#[inline(always)]
unsafe fn add_block<K: Kernel, C: Codes>(total: F32x4, codes: &C, scales: &Scales, input: &Activations, at: usize) -> F32x4 {
    // SAFETY: the caller's promise.
    let values = unsafe { input.values.get_unchecked(at) };
    // SAFETY: the caller's promise; four numbers belong to the block.
    let sum = |index: usize| unsafe { lanes::load_splat(input.scales.as_ptr().add(at).cast::<f32>().add(index)) };
    let scale = sum(0);
    let product = |product: I32x4, weight: F32x4| lanes::mul(lanes::to_float(product), lanes::mul(weight, scale));
    if K::FORMAT.has_halves() {
        let [first, second] = codes.dot_halves(values);
        let total = lanes::add(total, product(first, scales.scale[0]));
        let total = lanes::add(total, lanes::mul(scales.offset[0], sum(2)));
        let total = lanes::add(total, product(second, scales.scale[1]));
        lanes::add(total, lanes::mul(scales.offset[1], sum(3)))
    } else {
        let total = lanes::add(total, product(codes.dot(values), scales.scale[0]));
        if !K::FORMAT.has_offset() {
            return total;
        }
        lanes::add(total, lanes::mul(scales.offset[0], sum(1)))
    }
}

/// Scales and offsets of four rows: for 32 columns the first ones, for two times 16 both.
#[derive(Clone, Copy)]
struct Scales {
    scale: [F32x4; 2],
    offset: [F32x4; 2],
}

/// Codes of 32 columns of four rows.
trait Codes {
    /// `Σ code · value` per row.
    fn dot(&self, values: &Values) -> I32x4;

    /// The same over the first 16 columns, and over the others.
    fn dot_halves(&self, values: &Values) -> [I32x4; 2];

    /// The form for more than one row of values.
    type ForRows: Codes;

    fn for_rows(self) -> Self::ForRows;
}

impl Codes for Words {
    type ForRows = Self;

    #[inline(always)]
    fn dot(&self, values: &Values) -> I32x4 {
        Words::dot::<0, 8>(self, values)
    }

    #[inline(always)]
    fn dot_halves(&self, values: &Values) -> [I32x4; 2] {
        [Words::dot::<0, 4>(self, values), Words::dot::<4, 8>(self, values)]
    }

    #[inline(always)]
    fn for_rows(self) -> Self {
        self
    }
}

impl Codes for Fours {
    type ForRows = Words;

    #[inline(always)]
    fn dot(&self, values: &Values) -> I32x4 {
        Fours::dot(self, values)
    }

    #[inline(always)]
    fn dot_halves(&self, values: &Values) -> [I32x4; 2] {
        self.words().dot_halves(values)
    }

    #[inline(always)]
    fn for_rows(self) -> Words {
        self.words()
    }
}

impl Codes for Eights {
    type ForRows = Self;

    #[inline(always)]
    fn dot(&self, values: &Values) -> I32x4 {
        Eights::dot::<0, 8>(self, values)
    }

    #[inline(always)]
    fn dot_halves(&self, values: &Values) -> [I32x4; 2] {
        [Eights::dot::<0, 4>(self, values), Eights::dot::<4, 8>(self, values)]
    }

    #[inline(always)]
    fn for_rows(self) -> Self {
        self
    }
}

/// What differs from format to format.
trait Kernel {
    const FORMAT: Format;
    /// What is read once per packed block.
    type Head;
    type Codes: Codes;

    /// # Safety
    /// A whole packed block of the format stands at `at`.
    unsafe fn head(at: *const u8, constants: &Constants) -> Self::Head;

    fn scales(head: &Self::Head, part: usize) -> Scales;

    /// The codes of 32 columns.
    ///
    /// # Safety
    /// Their planes stand at `at`.
    unsafe fn codes(at: *const u8, constants: &Constants) -> Self::Codes;
}

/// A kernel: how its codes and its head are read, and how scales come out of the head.
macro_rules! kernel {
    ($name:ident, codes: $codes_type:ty = $codes:expr, head: $head_type:ty = $head:expr, scales: $scales:expr) => {
        struct $name;
        impl Kernel for $name {
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

kernel!(Q4_0, codes: Fours = fours, head: Scales = scale_and_bias::<8>, scales: of_block);
kernel!(Q4_1, codes: Fours = fours, head: Scales = scale_and_offset, scales: of_block);
kernel!(Q5_0, codes: Words = fives, head: Scales = scale_and_bias::<16>, scales: of_block);
kernel!(Q5_1, codes: Words = fives, head: Scales = scale_and_offset, scales: of_block);
kernel!(Q8_0, codes: Eights = eights, head: Scales = scale_and_bias::<0>, scales: of_block);
kernel!(Q2K, codes: Words = twos, head: Head2 = head_2, scales: scales_2);
kernel!(Q3K, codes: Words = threes, head: Head36 = head_3, scales: scales_3);
kernel!(Q4K, codes: Fours = fours, head: Head45 = head_45, scales: scales_45);
kernel!(Q5K, codes: Words = fives, head: Head45 = head_45, scales: scales_45);
kernel!(Q6K, codes: Words = sixes, head: Head36 = head_6, scales: scales_6);

// How codes are read from their planes.

/// `COUNT` words one behind the other.
///
/// # Safety
/// They stand at `at`.
#[inline(always)]
unsafe fn load_words<const COUNT: usize>(at: *const u8) -> [Bytes; COUNT] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|index| unsafe { lanes::load(at.add(16 * index)) })
}

/// The lower four bits of codes that have more.
#[inline(always)]
unsafe fn nibbles(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: four words stand at `at`.
    let words = unsafe { load_words::<4>(at) };
    let low = words.map(|word| lanes::and(word, 0x0f0f_0f0f));
    let high = words.map(|word| lanes::and(lanes::shr(word, 4), 0x0f0f_0f0f));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// The lower two bits of codes, or all.
#[inline(always)]
unsafe fn pairs(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: two words stand at `at`.
    let [a, b] = unsafe { load_words(at) };
    let of = |word: Bytes, index: u32| lanes::and(lanes::shr(word, 2 * index), 0x0303_0303);
    [of(a, 0), of(a, 1), of(a, 2), of(a, 3), of(b, 0), of(b, 1), of(b, 2), of(b, 3)]
}

/// Adds a plane of one bit per code, which is worth `2^PLACE`.
#[inline(always)]
unsafe fn with_bit<const PLACE: u32>(mut words: [Bytes; 8], at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: one word stands at `at`.
    let plane = unsafe { lanes::load(at) };
    let mut index = 0;
    while index < 8 {
        let bits = if index < PLACE { lanes::shl(plane, PLACE - index) } else { lanes::shr(plane, index - PLACE) };
        words[index as usize] = lanes::or(words[index as usize], lanes::and(bits, 0x0101_0101 << PLACE));
        index += 1;
    }
    words
}

/// Adds a plane of two bits per code, which are worth 16.
#[inline(always)]
unsafe fn with_pairs(mut words: [Bytes; 8], at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: two words stand at `at`.
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
#[inline(always)]
unsafe fn twos(at: *const u8, _: &Constants) -> Words {
    // SAFETY: the caller's promise: two words stand at `at`.
    Words::new(unsafe { pairs(at) })
}

/// 3-bit codes.
#[inline(always)]
unsafe fn threes(at: *const u8, _: &Constants) -> Words {
    // SAFETY: the caller's promise: two words of pairs and one of bits stand at `at`.
    Words::new(unsafe { with_bit::<2>(pairs(at), at.add(32)) })
}

/// 4-bit codes.
#[inline(always)]
unsafe fn fours(at: *const u8, constants: &Constants) -> Fours {
    // SAFETY: the caller's promise: four words stand at `at`.
    Fours::new(unsafe { load_words(at) }, constants)
}

/// 5-bit codes.
#[inline(always)]
unsafe fn fives(at: *const u8, _: &Constants) -> Words {
    // SAFETY: the caller's promise: four words of nibbles and one of bits stand at `at`.
    Words::new(unsafe { with_bit::<4>(nibbles(at), at.add(64)) })
}

/// 6-bit codes.
#[inline(always)]
unsafe fn sixes(at: *const u8, _: &Constants) -> Words {
    // SAFETY: the caller's promise: four words of nibbles and two of pairs stand at `at`.
    Words::new(unsafe { with_pairs(nibbles(at), at.add(64)) })
}

/// 8-bit codes, with a sign.
#[inline(always)]
unsafe fn eights(at: *const u8, constants: &Constants) -> Eights {
    // SAFETY: the caller's promise: eight words stand at `at`.
    unsafe { Eights::load(at, constants) }
}

// Heads, and the scales that come out of them.

/// One f16 of four rows: the scale, and codes begin at `-BIAS`.
#[inline(always)]
unsafe fn scale_and_bias<const BIAS: u8>(at: *const u8, constants: &Constants) -> Scales {
    // SAFETY: the caller's promise.
    let scale = unsafe { constants.load_four_halves(at) };
    Scales { scale: [scale; 2], offset: [lanes::mul(scale, lanes::splat(-f32::from(BIAS))); 2] }
}

/// Two f16 of four rows.
#[inline(always)]
unsafe fn scale_and_offset(at: *const u8, constants: &Constants) -> Scales {
    // SAFETY: the caller's promise.
    let (scale, offset) = unsafe { constants.load_halves(at) };
    Scales { scale: [scale; 2], offset: [offset; 2] }
}

#[inline(always)]
fn of_block(head: &Scales, _: usize) -> Scales {
    *head
}

/// Q2_K: a byte per 16 columns, scale and offset in its halves.
struct Head2 {
    scale: F32x4,
    /// The negated factor of the offsets.
    minus: F32x4,
    bytes: [Bytes; 4],
}

#[inline(always)]
unsafe fn head_2(at: *const u8, constants: &Constants) -> Head2 {
    // SAFETY: the caller's promise: two f16 of four rows, then four words.
    let ((scale, factor), bytes) = unsafe { (constants.load_halves(at), load_words(at.add(16))) };
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

/// Q3_K and Q6_K: a scale per 16 columns, of which offsets are a multiple.
struct Head36 {
    scale: F32x4,
    bytes: [Bytes; 4],
}

#[inline(always)]
unsafe fn head_3(at: *const u8, constants: &Constants) -> Head36 {
    // SAFETY: the caller's promise: one f16 of four rows, then three words.
    let (scale, [a, b, c]) = unsafe { (constants.load_four_halves(at), load_words(at.add(8))) };
    let low = |word, shift| lanes::and(lanes::shr(word, shift), 0x0f0f_0f0f);
    let high = |shift| lanes::shl(lanes::and(lanes::shr(c, shift), 0x0303_0303), 4);
    let bytes =
        [lanes::or(low(a, 0), high(0)), lanes::or(low(b, 0), high(2)), lanes::or(low(a, 4), high(4)), lanes::or(low(b, 4), high(6))];
    Head36 { scale, bytes }
}

#[inline(always)]
unsafe fn head_6(at: *const u8, constants: &Constants) -> Head36 {
    // SAFETY: the caller's promise: one f16 of four rows, then four words.
    let (scale, bytes) = unsafe { (constants.load_four_halves(at), load_words(at.add(8))) };
    Head36 { scale, bytes }
}

#[inline(always)]
fn scales_3(head: &Head36, part: usize) -> Scales {
    let of = |place| lanes::sub_int(lanes::byte(head.bytes[part / 2], place), lanes::splat_int(32));
    by_sixteen(head, part, of, -4.0)
}

#[inline(always)]
fn scales_6(head: &Head36, part: usize) -> Scales {
    by_sixteen(head, part, |place| lanes::signed_byte(head.bytes[part / 2], place), -32.0)
}

#[inline(always)]
fn by_sixteen(head: &Head36, part: usize, of: impl Fn(u32) -> I32x4, bias: f32) -> Scales {
    let scale = [0, 1].map(|side| lanes::mul(head.scale, lanes::to_float(of((2 * (part % 2) + side) as u32))));
    Scales { scale, offset: scale.map(|scale| lanes::mul(scale, lanes::splat(bias))) }
}

/// Q4_K and Q5_K: six-bit scales and offsets per 32 columns.
struct Head45 {
    scale: F32x4,
    /// The negated factor of the offsets.
    minus: F32x4,
    scales: [Bytes; 2],
    offsets: [Bytes; 2],
}

#[inline(always)]
unsafe fn head_45(at: *const u8, constants: &Constants) -> Head45 {
    // SAFETY: the caller's promise: two f16 of four rows, then three words.
    let ((scale, factor), [a, b, c]) = unsafe { (constants.load_halves(at), load_words(at.add(16))) };
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

const _: () = assert!(ROWS == 4, "a vector has four lanes");
