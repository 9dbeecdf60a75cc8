//! Matrix products over codes: unsigned (or, of Q8_0, signed) bytes times activations in 8 bits.

use super::super::activations::Activations;
use super::super::format::{BLOCK, Format};
use super::super::packed::{Packed, ROWS};
use super::output::Output;
use crate::lanes::{self, Activation, Bytes, F32x4, I32x4, SignedWords, Words};
use std::ops::Range;

/// Rows of activations that are computed in one pass through a group: their sums stay on the stack, and each unpacked block
/// serves all of them.
const TILE: usize = 32;

/// Groups `groups` of the weights against every row of the input.
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

fn one_row<K: Kernel>(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    let bytes = weights.group_bytes();
    for group in groups {
        let mut total = [lanes::splat(0.0)];
        add_group::<K>(&weights.bytes[group * bytes..(group + 1) * bytes], weights.columns, input, 0, &mut total);
        out.write(0, group, total[0]);
    }
}

fn many_rows<K: Kernel>(weights: &Packed, input: &Activations, groups: Range<usize>, out: &Output<'_>) {
    let (rows, bytes) = (input.rows(), weights.group_bytes());
    for group in groups {
        let packed = &weights.bytes[group * bytes..(group + 1) * bytes];
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let mut totals = [lanes::splat(0.0); TILE];
            add_group::<K>(packed, weights.columns, input, first, &mut totals[..count]);
            for (row, total) in totals[..count].iter().enumerate() {
                out.write(first + row, group, *total);
            }
        }
    }
}

/// Adds the products of a group with the rows from `first` on, one per total.
#[inline(always)]
fn add_group<K: Kernel>(packed: &[u8], columns: usize, input: &Activations, first: usize, totals: &mut [F32x4]) {
    let blocks = columns / BLOCK;
    assert!(input.scales.len() >= (first + totals.len()) * blocks, "rows of the input");
    let format = K::FORMAT;
    let parts = format.columns() / BLOCK;
    for (index, bytes) in packed.chunks_exact(format.packed_bytes()).enumerate() {
        // SAFETY: `bytes` is a whole packed block of the kernel's format.
        let head = unsafe { K::head(bytes.as_ptr()) };
        for part in 0..parts {
            // SAFETY: as above; each part has its planes behind the head.
            let weights = unsafe { K::words(bytes.as_ptr().add(format.head_bytes() + part * format.plane_bytes())) };
            let scales = K::scales(&head, part);
            let mut at = first * blocks + index * parts + part;
            for total in totals.iter_mut() {
                // SAFETY: block `at` is one of the `scales.len()` blocks of the input (asserted above), and `narrow` and
                // `wide` have 32 values for each of them.
                unsafe {
                    let values = Values { narrow: input.narrow.as_ptr().add(at * BLOCK), wide: input.wide.as_ptr().add(at * BLOCK) };
                    *total = add_block::<K>(*total, &weights, &scales, values, input.scales.as_ptr().add(at).cast());
                }
                at += blocks;
            }
        }
    }
}

/// A block of activations, in both widths.
#[derive(Clone, Copy)]
struct Values {
    narrow: *const Activation,
    wide: *const i16,
}

/// The twin's floating-point operations, in its order.
///
/// # Safety
/// `values` are 32 activations, `sums` the four numbers that belong to them.
#[inline(always)]
unsafe fn add_block<K: Kernel>(total: F32x4, weights: &K::Words, scales: &Scales, values: Values, sums: *const f32) -> F32x4 {
    // SAFETY: the caller's promise.
    unsafe {
        let scale = lanes::load_splat(sums);
        let product = |product: I32x4, weight: F32x4| lanes::mul(lanes::to_float(product), lanes::mul(weight, scale));
        if K::FORMAT.has_halves() {
            let [first, second] = K::halves(weights, values);
            let total = lanes::add(total, product(first, scales.scale[0]));
            let total = lanes::add(total, lanes::mul(scales.offset[0], lanes::load_splat(sums.add(2))));
            let total = lanes::add(total, product(second, scales.scale[1]));
            lanes::add(total, lanes::mul(scales.offset[1], lanes::load_splat(sums.add(3))))
        } else {
            let total = lanes::add(total, product(K::whole(weights, values), scales.scale[0]));
            if !K::FORMAT.has_offset() {
                return total;
            }
            lanes::add(total, lanes::mul(scales.offset[0], lanes::load_splat(sums.add(1))))
        }
    }
}

/// Scales and offsets of four rows: for 32 columns the first ones, for two times 16 both.
struct Scales {
    scale: [F32x4; 2],
    offset: [F32x4; 2],
}

impl Scales {
    #[inline(always)]
    fn whole(scale: F32x4, offset: F32x4) -> Self {
        Self { scale: [scale; 2], offset: [offset; 2] }
    }
}

/// What differs from format to format.
trait Kernel {
    const FORMAT: Format;
    /// What is read once per packed block.
    type Head;
    /// The codes of 32 columns.
    type Words;

    /// # Safety
    /// A whole packed block of the format stands at `at`.
    unsafe fn head(at: *const u8) -> Self::Head;

    fn scales(head: &Self::Head, part: usize) -> Scales;

    /// # Safety
    /// The planes of 32 columns stand at `at`.
    unsafe fn words(at: *const u8) -> Self::Words;

    /// `Σ q · x` of 32 columns.
    ///
    /// # Safety
    /// `values` are 32 activations.
    unsafe fn whole(words: &Self::Words, values: Values) -> I32x4;

    /// `Σ q · x` of 16 columns, twice.
    ///
    /// # Safety
    /// `values` are 32 activations.
    unsafe fn halves(words: &Self::Words, values: Values) -> [I32x4; 2];
}

/// 4-bit codes.
#[inline(always)]
unsafe fn nibbles(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: four words stand at `at`.
    let words = unsafe { [lanes::load(at), lanes::load(at.add(16)), lanes::load(at.add(32)), lanes::load(at.add(48))] };
    let low = words.map(|word| lanes::and(word, 0x0f0f_0f0f));
    let high = words.map(|word| lanes::and(lanes::shr(word, 4), 0x0f0f_0f0f));
    [low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]
}

/// 2-bit codes.
#[inline(always)]
unsafe fn pairs(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: two words stand at `at`.
    let (a, b) = unsafe { (lanes::load(at), lanes::load(at.add(16))) };
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
    let planes = unsafe { [lanes::load(at), lanes::load(at.add(16))] };
    let mut index = 0;
    while index < 8 {
        let (plane, place) = (planes[index / 4], 2 * (index as u32 % 4));
        let bits = if place < 4 { lanes::shl(plane, 4 - place) } else { lanes::shr(plane, place - 4) };
        words[index] = lanes::or(words[index], lanes::and(bits, 0x3030_3030));
        index += 1;
    }
    words
}

/// Reads the format's f16 numbers: one or two per row.
#[inline(always)]
unsafe fn numbers<const COUNT: usize>(at: *const u8) -> (F32x4, F32x4) {
    // SAFETY: the caller's promise: `COUNT` f16 numbers of four rows stand at `at`.
    unsafe { if COUNT == 2 { lanes::load_halves(at) } else { (lanes::load_four_halves(at), lanes::splat(0.0)) } }
}

/// The parts that all kernels of unsigned codes share. `$exact` words can be summed in 16 bits: 2 · 127 · largest code each.
macro_rules! unsigned {
    ($exact:literal) => {
        type Words = Words;

        #[inline(always)]
        unsafe fn whole(words: &Words, values: Values) -> I32x4 {
            // SAFETY: the caller's promise.
            unsafe { words.dot::<0, 8, $exact>(values.narrow) }
        }

        #[inline(always)]
        unsafe fn halves(words: &Words, values: Values) -> [I32x4; 2] {
            // SAFETY: the caller's promise.
            unsafe { [words.dot::<0, 4, $exact>(values.narrow), words.dot::<4, 8, $exact>(values.narrow)] }
        }
    };
}

/// A format of one scale per 32 columns, and an offset that is a number of its own or a multiple of the scale.
macro_rules! simple {
    ($name:ident, $format:expr, $numbers:literal, $exact:literal, $words:expr, $offset:expr) => {
        struct $name;
        impl Kernel for $name {
            const FORMAT: Format = $format;
            type Head = Scales;
            unsigned!($exact);

            #[inline(always)]
            unsafe fn head(at: *const u8) -> Scales {
                // SAFETY: the caller's promise.
                let (scale, own) = unsafe { numbers::<$numbers>(at) };
                let offset: fn(F32x4, F32x4) -> F32x4 = $offset;
                Scales::whole(scale, offset(scale, own))
            }

            #[inline(always)]
            fn scales(head: &Scales, _: usize) -> Scales {
                Scales { ..*head }
            }

            #[inline(always)]
            unsafe fn words(at: *const u8) -> Words {
                // SAFETY: the caller's promise.
                Words::new(unsafe { $words(at) })
            }
        }
    };
}

/// 5-bit codes.
#[inline(always)]
unsafe fn fives(at: *const u8) -> [Bytes; 8] {
    // SAFETY: the caller's promise: four words of nibbles and one of bits stand at `at`.
    unsafe { with_bit::<4>(nibbles(at), at.add(64)) }
}

simple!(Q4_0, Format::Q4_0, 1, 8, nibbles, |scale, _| lanes::mul(scale, lanes::splat(-8.0)));
simple!(Q4_1, Format::Q4_1, 2, 8, nibbles, |_, own| own);
simple!(Q5_0, Format::Q5_0, 1, 4, fives, |scale, _| lanes::mul(scale, lanes::splat(-16.0)));
simple!(Q5_1, Format::Q5_1, 2, 4, fives, |_, own| own);

struct Q8_0;
impl Kernel for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    type Head = F32x4;
    type Words = SignedWords;

    #[inline(always)]
    unsafe fn head(at: *const u8) -> F32x4 {
        // SAFETY: the caller's promise.
        unsafe { lanes::load_four_halves(at) }
    }

    #[inline(always)]
    fn scales(head: &F32x4, _: usize) -> Scales {
        Scales::whole(*head, *head)
    }

    #[inline(always)]
    unsafe fn words(at: *const u8) -> SignedWords {
        // SAFETY: the caller's promise.
        unsafe { SignedWords::load(at) }
    }

    #[inline(always)]
    unsafe fn whole(words: &SignedWords, values: Values) -> I32x4 {
        // SAFETY: the caller's promise.
        unsafe { words.dot(values.wide) }
    }

    #[inline(always)]
    unsafe fn halves(words: &SignedWords, values: Values) -> [I32x4; 2] {
        // SAFETY: the caller's promise. (The format has no halves.)
        [unsafe { words.dot(values.wide) }; 2]
    }
}

/// The f16 numbers of a K-quant's block, and its scales' bytes: a byte per part in each row.
struct KHead {
    scale: F32x4,
    /// The negated factor of the offsets.
    minus: F32x4,
    scales: [Bytes; 4],
    offsets: [Bytes; 2],
}

struct Q2K;
impl Kernel for Q2K {
    const FORMAT: Format = Format::Q2K;
    type Head = KHead;
    unsigned!(8);

    #[inline(always)]
    unsafe fn head(at: *const u8) -> KHead {
        // SAFETY: the caller's promise: two f16 of four rows, then four words.
        unsafe {
            let (scale, factor) = lanes::load_halves(at);
            let words = at.add(16);
            let scales = [lanes::load(words), lanes::load(words.add(16)), lanes::load(words.add(32)), lanes::load(words.add(48))];
            KHead { scale, minus: lanes::mul(factor, lanes::splat(-1.0)), scales, offsets: [scales[0]; 2] }
        }
    }

    #[inline(always)]
    fn scales(head: &KHead, part: usize) -> Scales {
        let word = head.scales[part / 2];
        let (low, high) = (lanes::and(word, 0x0f0f_0f0f), lanes::and(lanes::shr(word, 4), 0x0f0f_0f0f));
        let of = |word, side: usize| lanes::to_float(lanes::byte(word, (2 * (part % 2) + side) as u32));
        Scales {
            scale: [lanes::mul(head.scale, of(low, 0)), lanes::mul(head.scale, of(low, 1))],
            offset: [lanes::mul(head.minus, of(high, 0)), lanes::mul(head.minus, of(high, 1))],
        }
    }

    #[inline(always)]
    unsafe fn words(at: *const u8) -> Words {
        // SAFETY: the caller's promise.
        Words::new(unsafe { pairs(at) })
    }
}

struct Q3K;
impl Kernel for Q3K {
    const FORMAT: Format = Format::Q3K;
    type Head = KHead;
    unsigned!(8);

    #[inline(always)]
    unsafe fn head(at: *const u8) -> KHead {
        // SAFETY: the caller's promise: one f16 of four rows, then three words.
        let (scale, [a, b, c]) =
            unsafe { (lanes::load_four_halves(at), [lanes::load(at.add(8)), lanes::load(at.add(24)), lanes::load(at.add(40))]) };
        let low = |word, shift| lanes::and(lanes::shr(word, shift), 0x0f0f_0f0f);
        let high = |shift| lanes::shl(lanes::and(lanes::shr(c, shift), 0x0303_0303), 4);
        let scales =
            [lanes::or(low(a, 0), high(0)), lanes::or(low(b, 0), high(2)), lanes::or(low(a, 4), high(4)), lanes::or(low(b, 4), high(6))];
        KHead { scale, minus: scale, scales, offsets: [a, b] }
    }

    #[inline(always)]
    fn scales(head: &KHead, part: usize) -> Scales {
        let word = head.scales[part / 2];
        let of = |side: usize| lanes::sub_int(lanes::byte(word, (2 * (part % 2) + side) as u32), lanes::splat_int(32));
        let scale = [0, 1].map(|side| lanes::mul(head.scale, lanes::to_float(of(side))));
        Scales { scale, offset: scale.map(|scale| lanes::mul(scale, lanes::splat(-4.0))) }
    }

    #[inline(always)]
    unsafe fn words(at: *const u8) -> Words {
        // SAFETY: the caller's promise: two words of pairs and one of bits.
        Words::new(unsafe { with_bit::<2>(pairs(at), at.add(32)) })
    }
}

/// Q4_K and Q5_K: two f16 of four rows, then three words of six-bit scales and offsets.
#[inline(always)]
unsafe fn six_bit_head(at: *const u8) -> KHead {
    // SAFETY: the caller's promise.
    let ((scale, factor), [a, b, c]) =
        unsafe { (lanes::load_halves(at), [lanes::load(at.add(16)), lanes::load(at.add(32)), lanes::load(at.add(48))]) };
    let upper = |word| lanes::and(lanes::shr(word, 2), 0x3030_3030);
    let scales = [lanes::and(a, 0x3f3f_3f3f), lanes::or(lanes::and(c, 0x0f0f_0f0f), upper(a))];
    let offsets = [lanes::and(b, 0x3f3f_3f3f), lanes::or(lanes::and(lanes::shr(c, 4), 0x0f0f_0f0f), upper(b))];
    KHead { scale, minus: lanes::mul(factor, lanes::splat(-1.0)), scales: [scales[0], scales[1], a, b], offsets }
}

#[inline(always)]
fn six_bit_scales(head: &KHead, part: usize) -> Scales {
    let of = |words: &[Bytes]| lanes::to_float(lanes::byte(words[part / 4], part as u32 % 4));
    Scales::whole(lanes::mul(head.scale, of(&head.scales)), lanes::mul(head.minus, of(&head.offsets)))
}

struct Q4K;
impl Kernel for Q4K {
    const FORMAT: Format = Format::Q4K;
    type Head = KHead;
    unsigned!(8);

    #[inline(always)]
    unsafe fn head(at: *const u8) -> KHead {
        // SAFETY: the caller's promise.
        unsafe { six_bit_head(at) }
    }

    #[inline(always)]
    fn scales(head: &KHead, part: usize) -> Scales {
        six_bit_scales(head, part)
    }

    #[inline(always)]
    unsafe fn words(at: *const u8) -> Words {
        // SAFETY: the caller's promise.
        Words::new(unsafe { nibbles(at) })
    }
}

struct Q5K;
impl Kernel for Q5K {
    const FORMAT: Format = Format::Q5K;
    type Head = KHead;
    unsigned!(4);

    #[inline(always)]
    unsafe fn head(at: *const u8) -> KHead {
        // SAFETY: the caller's promise.
        unsafe { six_bit_head(at) }
    }

    #[inline(always)]
    fn scales(head: &KHead, part: usize) -> Scales {
        six_bit_scales(head, part)
    }

    #[inline(always)]
    unsafe fn words(at: *const u8) -> Words {
        // SAFETY: the caller's promise.
        Words::new(unsafe { fives(at) })
    }
}

struct Q6K;
impl Kernel for Q6K {
    const FORMAT: Format = Format::Q6K;
    type Head = KHead;
    unsigned!(2);

    #[inline(always)]
    unsafe fn head(at: *const u8) -> KHead {
        // SAFETY: the caller's promise: one f16 of four rows, then four words.
        unsafe {
            let (scale, words) = (lanes::load_four_halves(at), at.add(8));
            let scales = [lanes::load(words), lanes::load(words.add(16)), lanes::load(words.add(32)), lanes::load(words.add(48))];
            KHead { scale, minus: scale, scales, offsets: [scales[0]; 2] }
        }
    }

    #[inline(always)]
    fn scales(head: &KHead, part: usize) -> Scales {
        let word = head.scales[part / 2];
        let of = |side: usize| lanes::to_float(lanes::signed_byte(word, (2 * (part % 2) + side) as u32));
        let scale = [0, 1].map(|side| lanes::mul(head.scale, of(side)));
        Scales { scale, offset: scale.map(|scale| lanes::mul(scale, lanes::splat(-32.0))) }
    }

    #[inline(always)]
    unsafe fn words(at: *const u8) -> Words {
        // SAFETY: the caller's promise: four words of nibbles and two of pairs.
        Words::new(unsafe { with_pairs(nibbles(at), at.add(64)) })
    }
}

const _: () = assert!(ROWS == 4, "a vector has four lanes");
