//! From the layout of a file to the packed one (`packed.rs`), four rows at a time, as fast as memory allows.
//!
//! Four rows of a file become one group: what the rows have at the same place becomes one vector, a word of each row per lane, and every vector
//! of the group is written once, in order.

use crate::format::Format;
use crate::lanes::{self, Bytes};
use crate::memory::try_grow;
use crate::packed::{Packed, ROWS};
use crate::planes::{High, Low};
use crate::{Error, Result};

/// A packed matrix under construction, written in the order of the file.
pub struct Packing {
    packed: Packed,
    /// Bytes of the tensor that have not arrived.
    missing: usize,
    /// The beginning of a group whose remaining bytes have not arrived.
    partial: Vec<u8>,
}

impl Packing {
    /// Allocates the memory for a matrix.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it cannot be allocated.
    pub fn new(format: Format, rows: usize, columns: usize) -> Result<Self> {
        let needed = format.matrix_bytes(rows, columns);
        let mut bytes = Vec::new();
        let missing = usize::try_from(needed)
            .ok()
            .filter(|size| try_grow(&mut bytes, *size))
            // Not more than the packed matrix, whose last group may be padded.
            .and_then(|_| usize::try_from(format.tensor_bytes(rows, columns)).ok());
        let Some(missing) = missing else { return Err(out_of_memory(needed)) };
        Ok(Self { packed: Packed { format, rows, columns, bytes }, missing, partial: Vec::new() })
    }

    /// Appends the next bytes of the tensor, in pieces of any size.
    ///
    /// # Errors
    /// [`Error::InvalidData`] if a scale is not finite, or if there are more bytes than the tensor has; [`Error::OutOfMemory`].
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let Some(missing) = self.missing.checked_sub(bytes.len()) else {
            return Err(Error::InvalidData("A tensor received more bytes than its shape holds."));
        };
        self.missing = missing;
        let group = self.packed.group_bytes();
        if group == 0 {
            return Ok(());
        }
        if !self.partial.is_empty() {
            let (first, rest) = bytes.split_at((group - self.partial.len()).min(bytes.len()));
            self.keep(first)?;
            bytes = rest;
            if self.partial.len() == group {
                append(&mut self.packed, &self.partial)?;
                self.partial.clear();
            }
        }
        let groups = bytes.chunks_exact(group);
        let rest = groups.remainder();
        groups.into_iter().try_for_each(|group| append(&mut self.packed, group))?;
        self.keep(rest)
    }

    /// Returns the matrix, with zeros for what was not written.
    ///
    /// # Errors
    /// Those of [`Packing::write`], of its last rows.
    pub fn finish(mut self) -> Result<Packed> {
        let (group, size) = (self.packed.group_bytes(), self.packed.groups() * self.packed.group_bytes());
        if !self.partial.is_empty() {
            // Within its capacity.
            self.partial.resize(group, 0);
            append(&mut self.packed, &self.partial)?;
        }
        // Within the capacity that `new` has allocated.
        self.packed.bytes.resize(size, 0);
        Ok(self.packed)
    }

    /// Keeps the bytes of an incomplete group.
    fn keep(&mut self, bytes: &[u8]) -> Result<()> {
        let group = self.packed.group_bytes();
        let missing = group - self.partial.len();
        if !bytes.is_empty() && self.partial.capacity() < group && !try_grow(&mut self.partial, missing) {
            return Err(out_of_memory(group as u64));
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// Packs the next four rows. Their bytes are exactly as many as the group's.
fn append(packed: &mut Packed, rows: &[u8]) -> Result<()> {
    let start = packed.bytes.len();
    packed.bytes.resize(start + rows.len(), 0);
    pack(packed.format, rows, &mut packed.bytes[start..])
}

fn out_of_memory(bytes: u64) -> Error {
    Error::OutOfMemory { purpose: "loading the model's weights", bytes }
}

/// Packs four rows. Compiled for each format alone.
fn pack(format: Format, rows: &[u8], group: &mut [u8]) -> Result<()> {
    macro_rules! each {
        ($($name:ident)*) => {
            match format {
                Format::F32 => floats::<4>(rows, group),
                Format::F16 | Format::Bf16 => floats::<2>(rows, group),
                $(Format::$name => quantised::<{ Format::$name.file_bytes() }>(Format::$name, rows, group),)*
            }
        };
    }
    let finite = each!(Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2K Q3K Q4K Q5K Q6K Iq4Nl Iq4Xs);
    // The kernels' f16 conversion is correct for finite numbers only.
    if finite {
        Ok(())
    } else {
        Err(Error::InvalidData("The model's weights are damaged: a scale is not a finite number. Get the file again."))
    }
}

/// The four rows of a group, in blocks of `N` bytes.
fn four<const N: usize>(rows: &[u8]) -> [&[[u8; N]]; ROWS] {
    let length = rows.len() / ROWS;
    std::array::from_fn(|row| rows[row * length..(row + 1) * length].as_chunks().0)
}

/// Numbers of `N` bytes, column by column.
fn floats<const N: usize>(rows: &[u8], group: &mut [u8]) -> bool {
    let [a, b, c, d] = four::<N>(rows);
    for ((((out, a), b), c), d) in group.chunks_exact_mut(ROWS * N).zip(a).zip(b).zip(c).zip(d) {
        for (out, number) in out.as_chunks_mut::<N>().0.iter_mut().zip([a, b, c, d]) {
            *out = *number;
        }
    }
    // They may be anything.
    true
}

/// Where a file's block of one row has its parts, in bytes.
struct Places {
    /// The f16 numbers.
    numbers: usize,
    /// The 16-bit parts of scales.
    upper: usize,
    /// The words of the scales.
    scales: usize,
    /// The upper bits of the codes.
    high: usize,
    /// The lower bits of the codes.
    low: usize,
}

impl Places {
    const fn of(format: Format) -> Self {
        let head = format.f16_count() * 2;
        match format {
            Format::Q5_0 | Format::Q5_1 => Self { numbers: 0, upper: 0, scales: 0, high: head, low: head + 4 },
            Format::Iq4Xs => Self { numbers: 0, upper: 2, scales: 4, high: 0, low: 8 },
            Format::Q2K => Self { numbers: 80, upper: 0, scales: 0, high: 0, low: 16 },
            Format::Q3K => Self { numbers: 108, upper: 0, scales: 96, high: 0, low: 32 },
            Format::Q4K => Self { numbers: 0, upper: 0, scales: 4, high: 0, low: 16 },
            Format::Q5K => Self { numbers: 0, upper: 0, scales: 4, high: 16, low: 48 },
            Format::Q6K => Self { numbers: 208, upper: 0, scales: 192, high: 128, low: 0 },
            _ => Self { numbers: 0, upper: 0, scales: 0, high: 0, low: head },
        }
    }
}

/// Blocks of `N` bytes. Returns whether all f16 numbers are finite.
#[inline(always)]
fn quantised<const N: usize>(format: Format, rows: &[u8], group: &mut [u8]) -> bool {
    let [a, b, c, d] = four::<N>(rows);
    let blocks = group.chunks_exact_mut(ROWS * N).zip(a).zip(b).zip(c).zip(d);
    blocks.fold(true, |finite, ((((out, a), b), c), d)| pack_block(format, [a, b, c, d], out) && finite)
}

#[inline(always)]
fn pack_block<const N: usize>(format: Format, rows: [&[u8; N]; ROWS], out: &mut [u8]) -> bool {
    let places = Places::of(format);
    let half = |row: &[u8; N], at: usize| [row[at], row[at + 1]];
    let word = |at: usize| lanes::from_words(rows.map(|row| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]])));
    let four_words = |at: usize| lanes::transposed(rows.map(|row| row[at..].first_chunk().unwrap_or(&[0; 16])));
    let (head, planes) = out.split_at_mut(format.head_bytes());
    let (numbers, head) = head.split_at_mut(format.f16_count() * 2 * ROWS);
    let (upper, scales) = head.split_at_mut(format.scale_halves() * 2 * ROWS);
    let mut finite = true;
    for (index, out) in numbers.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        *out = half(rows[index % ROWS], places.numbers + index / ROWS * 2);
        finite &= out[1] & 0x7c != 0x7c;
    }
    for (out, row) in upper.as_chunks_mut::<2>().0.iter_mut().zip(rows) {
        *out = half(row, places.upper);
    }
    for (index, out) in scales.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        lanes::to_bytes(word(places.scales + 4 * index), out);
    }
    for (part, planes) in planes.chunks_exact_mut(format.plane_bytes()).enumerate() {
        // The codes of 16 columns of this part, four columns per word, in the low bits of each byte.
        let low = |sixteen: usize| match format {
            Format::Q8_0 => four_words(places.low + 16 * sixteen),
            // The two codes of a byte are 32 columns apart.
            Format::Q4K | Format::Q5K => bits(four_words(places.low + part / 2 * 32 + 16 * sixteen), part % 2 * 4, 0x0f0f_0f0f),
            // 64 columns apart, in each half of the block.
            Format::Q6K => bits(four_words(places.low + part / 4 * 64 + part % 2 * 32 + 16 * sixteen), part / 2 % 2 * 4, 0x0f0f_0f0f),
            // The four codes of a byte are 32 columns apart, in each half of the block.
            Format::Q2K | Format::Q3K => bits(four_words(places.low + part / 4 * 32 + 16 * sixteen), part % 4 * 2, 0x0303_0303),
            // 16 columns apart.
            _ => bits(four_words(places.low + 16 * part), 4 * sixteen, 0x0f0f_0f0f),
        };
        // Their upper bits.
        let high = |sixteen: usize| match format {
            // A bit per column: four of them, each to a byte of its own.
            Format::Q5_0 | Format::Q5_1 => [0, 1, 2, 3].map(|index| {
                let four = lanes::and(lanes::shr(word(places.high), (16 * sixteen + 4 * index) as u32), 15);
                lanes::and(joined([four; 4], 7), 0x0101_0101)
            }),
            Format::Q3K | Format::Q5K => bits(four_words(places.high + 16 * sixteen), part, 0x0101_0101),
            Format::Q6K => bits(four_words(places.high + part / 4 * 32 + 16 * sixteen), part % 4 * 2, 0x0303_0303),
            _ => [lanes::from_words([0; ROWS]); 4],
        };
        place(format, low, high, planes);
    }
    finite
}

/// Writes the codes of 32 columns, 16 at a time, to the planes.
#[inline(always)]
fn place(format: Format, low: impl Fn(usize) -> [Bytes; 4], high: impl Fn(usize) -> [Bytes; 4], planes: &mut [u8]) {
    let (low_plane, high_plane) = format.planes();
    let (low_words, high_words) = planes.split_at_mut(low_plane.words() * 16);
    let (low_words, high_words) = (low_words.as_chunks_mut::<16>().0, high_words.as_chunks_mut::<16>().0);
    match low_plane {
        Low::Bytes => {
            for (sixteen, out) in low_words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                out.iter_mut().zip(low(sixteen)).for_each(|(out, word)| lanes::to_bytes(word, out));
            }
        }
        Low::Nibbles8 => {
            for ((out, first), second) in low_words.iter_mut().zip(low(0)).zip(low(1)) {
                lanes::to_bytes(joined([first, second], 4), out);
            }
        }
        Low::Nibbles16 => {
            for (sixteen, out) in low_words.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let [a, b, c, d] = low(sixteen);
                let pair = lanes::alternated(joined([a, b], 4), joined([c, d], 4));
                out.iter_mut().zip(pair).for_each(|(out, word)| lanes::to_bytes(word, out));
            }
        }
        Low::TwoBits => low_words.iter_mut().enumerate().for_each(|(sixteen, out)| lanes::to_bytes(joined(low(sixteen), 2), out)),
    }
    match high_plane {
        High::None => {}
        High::OneBit => {
            let words = lanes::or(joined(high(0), 1), lanes::shl(joined(high(1), 1), 4));
            high_words.iter_mut().for_each(|out| lanes::to_bytes(words, out));
        }
        High::TwoBits => high_words.iter_mut().enumerate().for_each(|(sixteen, out)| lanes::to_bytes(joined(high(sixteen), 2), out)),
    }
}

/// Some bits of every word.
#[inline(always)]
fn bits(words: [Bytes; 4], shift: usize, mask: u32) -> [Bytes; 4] {
    words.map(|word| lanes::and(lanes::shr(word, shift as u32), mask))
}

/// Words whose bits do not overlap, each moved `step` bits further than the one before, as one.
#[inline(always)]
fn joined<const N: usize>(words: [Bytes; N], step: usize) -> Bytes {
    let moved = words.into_iter().enumerate().map(|(index, word)| lanes::shl(word, (index * step) as u32));
    moved.reduce(lanes::or).unwrap_or(lanes::from_words([0; ROWS]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_than_the_tensor_has_are_an_error() {
        for (rows, columns) in [(0, 32), (1, 0), (3, 32), (4, 64)] {
            let mut packing = Packing::new(Format::Q8_0, rows, columns).expect("memory");
            let size = Format::Q8_0.tensor_bytes(rows, columns) as usize;
            packing.write(&vec![0; size]).expect("in place");
            assert!(matches!(packing.write(&[0]), Err(Error::InvalidData(_))), "{rows}×{columns}");
        }
    }

    #[test]
    fn what_was_not_written_is_zero() {
        let mut packing = Packing::new(Format::F32, 6, 3).expect("memory");
        let numbers: Vec<u8> = (1..=7).flat_map(|number| (number as f32).to_le_bytes()).collect();
        packing.write(&numbers).expect("in place");
        let packed = packing.finish().expect("finite");
        let written: Vec<f32> =
            (0..6).flat_map(|row| (0..3).map(move |column| (row, column))).map(|(row, column)| packed.float(row, column)).collect();
        assert_eq!(written[..8], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0]);
        assert!(written[8..].iter().all(|number| *number == 0.0));
    }
}
