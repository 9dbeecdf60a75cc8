//! How the blocks of GGUF's types are packed for the kernels: the codes of 32 columns of four rows as planes of bits (`packed.rs`).

use crate::format::Format;

/// Columns that share what a kernel does at once, and one scale of activations.
pub const BLOCK: usize = 32;

/// What of a code's bits stands in which plane of a packed block of 32 columns and four rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Low {
    /// 8 words: a byte per code.
    Bytes,
    /// 4 words: word `j` holds word `j` of the columns in its low nibbles and word `4 + j` in its high ones.
    Nibbles,
    /// 4 words of numbers of 16 bits, whose quarters belong to four words of the columns: quarter `k` of word `2g + h` to word
    /// `4g + k`, of rows `2h` and `2h + 1`. What is multiplied in 16 bits comes out of it by one instruction.
    Quarters,
    /// 2 words: bits `2j` of word `v` are word `4v + j` of the columns.
    Pairs,
}

/// The bits above the low plane's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum High {
    None,
    /// 1 word: bit `j` of each byte belongs to word `j` of the columns.
    Bit,
    /// 2 words, as [`Low::Pairs`].
    Pairs,
}

/// Codes of exactly 4 bits: as they are multiplied.
const FOURS: Low = if cfg!(all(target_feature = "simd128", feature = "relaxed-simd")) { Low::Nibbles } else { Low::Quarters };

impl Format {
    /// The planes of a quantised format.
    pub const fn planes(self) -> (Low, High) {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => (FOURS, High::None),
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => (Low::Nibbles, High::Bit),
            Self::Q6K => (Low::Nibbles, High::Pairs),
            Self::Q2K => (Low::Pairs, High::None),
            Self::Q3K => (Low::Pairs, High::Bit),
            Self::Q8_0 | Self::F32 | Self::F16 | Self::Bf16 => (Low::Bytes, High::None),
        }
    }

    /// Bytes of the planes of 32 columns of four rows.
    pub const fn plane_bytes(self) -> usize {
        let (low, high) = self.planes();
        low.words() * 16 + high.words() * 16
    }

    /// Bytes in front of the planes in a packed block of four rows.
    pub const fn head_bytes(self) -> usize {
        (self.halves() * 2 + self.scale_words() * 4) * 4
    }

    /// Bytes of a packed block of four rows: exactly those that the file has for them.
    pub const fn packed_bytes(self) -> usize {
        4 * self.file_bytes()
    }

    /// Bytes of a packed matrix, which may be more than there can be memory.
    pub const fn matrix_bytes(self, rows: usize, columns: usize) -> u64 {
        rows.div_ceil(4) as u64 * (columns / self.columns()) as u64 * self.packed_bytes() as u64
    }
}

impl Low {
    pub const fn words(self) -> usize {
        match self {
            Self::Bytes => 8,
            Self::Nibbles | Self::Quarters => 4,
            Self::Pairs => 2,
        }
    }

    /// Bits of a code in this plane.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bytes => 8,
            Self::Nibbles | Self::Quarters => 4,
            Self::Pairs => 2,
        }
    }
}

impl High {
    pub const fn words(self) -> usize {
        match self {
            Self::None => 0,
            Self::Bit => 1,
            Self::Pairs => 2,
        }
    }
}

/// One row's block as a file has it, taken apart: the f16 numbers, the bytes of the scales, and a code per column.
pub struct FileBlock<'a> {
    pub halves: [&'a [u8]; 2],
    pub scales: &'a [u8],
    pub codes: [u8; 256],
}

impl<'a> FileBlock<'a> {
    /// Takes a block of a quantised format apart. `bytes` are `format.file_bytes()`.
    pub fn read(format: Format, bytes: &'a [u8]) -> Self {
        let none: &[u8] = &[];
        let mut codes = [0u8; 256];
        // Four pairs of bits of one byte are 32 columns apart in a block of 128.
        let pair = |quants: &[u8], column: usize| quants[column / 128 * 32 + column % 32] >> (column / 32 % 4 * 2) & 3;
        let (halves, scales) = match format {
            Format::Q5_0 | Format::Q5_1 => {
                let (head, quants) = bytes.split_at(format.halves() * 2 + 4);
                // Two nibbles of one byte are 16 columns apart.
                for (column, byte) in quants.iter().enumerate() {
                    codes[column] = byte & 15;
                    codes[column + 16] = byte >> 4;
                }
                let (numbers, high) = head.split_at(head.len() - 4);
                for (column, code) in codes[..BLOCK].iter_mut().enumerate() {
                    *code |= (high[column / 8] >> (column % 8) & 1) << 4;
                }
                ([&numbers[..2], &numbers[2..]], none)
            }
            Format::Q2K => {
                let (scales, rest) = bytes.split_at(16);
                let (quants, numbers) = rest.split_at(64);
                for (column, code) in codes.iter_mut().enumerate() {
                    *code = pair(quants, column);
                }
                ([&numbers[..2], &numbers[2..]], scales)
            }
            Format::Q3K => {
                let (high, rest) = bytes.split_at(32);
                let (quants, rest) = rest.split_at(64);
                let (scales, numbers) = rest.split_at(12);
                for (column, code) in codes.iter_mut().enumerate() {
                    *code = pair(quants, column) | (high[column % 32] >> (column / 32) & 1) << 2;
                }
                ([numbers, none], scales)
            }
            Format::Q4K | Format::Q5K => {
                let (numbers, rest) = bytes.split_at(4);
                let (scales, rest) = rest.split_at(12);
                let (high, quants) = rest.split_at(rest.len() - 128);
                for (column, code) in codes.iter_mut().enumerate() {
                    let (block, place) = (column / 32, column % 32);
                    *code = quants[block / 2 * 32 + place] >> (block % 2 * 4) & 15;
                    if let Some(high) = high.get(place) {
                        *code |= (high >> block & 1) << 4;
                    }
                }
                ([&numbers[..2], &numbers[2..]], scales)
            }
            Format::Q6K => {
                let (low, rest) = bytes.split_at(128);
                let (high, rest) = rest.split_at(64);
                let (scales, numbers) = rest.split_at(16);
                for (column, code) in codes.iter_mut().enumerate() {
                    let (half, quarter, place) = (column / 128, column / 32 % 4, column % 32);
                    let nibble = low[64 * half + quarter % 2 * 32 + place] >> (quarter / 2 * 4) & 15;
                    *code = nibble | (high[32 * half + place] >> (2 * quarter) & 3) << 4;
                }
                ([numbers, none], scales)
            }
            // What the planes take as it is, and floats, never come here (`packed.rs`).
            Format::Q4_0 | Format::Q4_1 | Format::Q8_0 | Format::F32 | Format::F16 | Format::Bf16 => ([none, none], none),
        };
        Self { halves, scales, codes }
    }
}

/// The six-bit scales and offsets of Q4_K and Q5_K: of part `block` (0 to 7) out of 12 bytes.
pub fn six_bit_pair(scales: [u8; 12], block: usize) -> (u8, u8) {
    if block < 4 {
        (scales[block] & 63, scales[block + 4] & 63)
    } else {
        let (both, low, high) = (scales[block + 4], scales[block - 4], scales[block]);
        (both & 15 | low >> 6 << 4, both >> 4 | high >> 6 << 4)
    }
}

/// The six-bit scales of Q3_K: of part `part` (0 to 15) out of 12 bytes, −32 to 31.
pub fn six_bit_scale(scales: [u8; 12], part: usize) -> i8 {
    let low = scales[part % 8] >> (part / 8 * 4) & 15;
    let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}
