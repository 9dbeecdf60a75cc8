//! The packed layout of GGUF's block types: the codes of 32 columns of four rows, split into bit planes. `packing.rs` writes it.
//!
//! A *word* is a vector of 16 bytes, in which lane `r` (32 bits) belongs to row `r`. Word `j` of a block holds columns `4j..4j + 4`,
//! one per byte of each lane.

use crate::format::Format;

/// Columns that a kernel processes at a time. They share one activation scale.
pub const BLOCK: usize = 32;

/// The plane with the low bits of the codes of 32 columns and four rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Low {
    /// 8 words, one byte per code.
    Bytes,
    /// 4 words, two codes per byte: word `j` holds word `j` of the block in its low nibbles and word `4 + j` in its high nibbles.
    Nibbles8,
    /// 4 words of 16-bit numbers, four codes per number: nibble `k` of word `2g + h` belongs to word `4g + k` of the block, rows `2h`
    /// and `2h + 1`. One instruction (a mask or a shift) extracts operands for 16-bit multiplication.
    Nibbles16,
    /// 2 words, four codes per byte: bits `2j` and `2j + 1` of each byte of word `v` belong to word `4v + j` of the block.
    TwoBits,
}

/// The plane with the bits above those of [`Low`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum High {
    None,
    /// 1 word: bit `j` of each byte belongs to word `j` of the block.
    OneBit,
    /// 2 words, laid out like [`Low::TwoBits`].
    TwoBits,
}

/// The layout of codes of exactly 4 bits (without those of IQ4): that of this build's dot product, which multiplies bytes with relaxed SIMD and 16-bit numbers
/// without.
const FOUR_BIT_CODES: Low = if cfg!(all(target_feature = "simd128", feature = "relaxed-simd")) { Low::Nibbles8 } else { Low::Nibbles16 };

impl Format {
    /// The planes of a quantised format. Floats have none; do not use the value returned for them.
    pub const fn planes(self) -> (Low, High) {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => (FOUR_BIT_CODES, High::None),
            // Indices, not codes: a table maps 16 of them at once to bytes.
            Self::Iq4Nl | Self::Iq4Xs => (Low::Nibbles8, High::None),
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => (Low::Nibbles8, High::OneBit),
            Self::Q6K => (Low::Nibbles8, High::TwoBits),
            Self::Q2K => (Low::TwoBits, High::None),
            Self::Q3K => (Low::TwoBits, High::OneBit),
            Self::Q8_0 | Self::F32 | Self::F16 | Self::Bf16 => (Low::Bytes, High::None),
        }
    }

    /// Bytes of the planes for 32 columns of four rows.
    pub const fn plane_bytes(self) -> usize {
        let (low, high) = self.planes();
        low.words() * 16 + high.words() * 16
    }

    /// Bytes of f16 numbers and scales before the planes in a packed block of four rows.
    pub const fn head_bytes(self) -> usize {
        (self.f16_count() * 2 + self.scale_halves() * 2 + self.scale_words() * 4) * 4
    }

    /// Bytes of a packed block of four rows: exactly four times the file's block.
    pub const fn packed_bytes(self) -> usize {
        4 * self.file_bytes()
    }

    /// Bytes of a packed matrix. May exceed the address space, hence `u64`.
    pub const fn matrix_bytes(self, rows: usize, columns: usize) -> u64 {
        rows.div_ceil(4) as u64 * (columns / self.columns()) as u64 * self.packed_bytes() as u64
    }
}

impl Low {
    /// Words of this plane.
    pub const fn words(self) -> usize {
        match self {
            Self::Bytes => 8,
            Self::Nibbles8 | Self::Nibbles16 => 4,
            Self::TwoBits => 2,
        }
    }

    /// Bits per code in this plane.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bytes => 8,
            Self::Nibbles8 | Self::Nibbles16 => 4,
            Self::TwoBits => 2,
        }
    }
}

impl High {
    /// Words of this plane.
    pub const fn words(self) -> usize {
        match self {
            Self::None => 0,
            Self::OneBit => 1,
            Self::TwoBits => 2,
        }
    }
}

/// Six-bit scale and offset of part `block` (0 to 7, of 32 columns each) of a Q4_K or Q5_K block, from its 12 bytes of scales.
pub fn six_bit_pair(scales: [u8; 12], block: usize) -> (u8, u8) {
    if block < 4 {
        (scales[block] & 63, scales[block + 4] & 63)
    } else {
        let (both, low, high) = (scales[block + 4], scales[block - 4], scales[block]);
        (both & 15 | low >> 6 << 4, both >> 4 | high >> 6 << 4)
    }
}

/// Six-bit scale, −32 to 31, of part `part` (0 to 15, of 16 columns each) of a Q3_K block, from its 12 bytes of scales.
pub fn six_bit_scale(scales: [u8; 12], part: usize) -> i8 {
    let low = scales[part % 8] >> (part / 8 * 4) & 15;
    let high = scales[8 + part % 4] >> (part / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

/// Six-bit scale, −32 to 31, of part `part` (0 to 7, of 32 columns each) of an IQ4_XS block, from its lower bits (four per part) and its
/// upper bits (two per part).
pub fn split_scale(lower: u32, upper: u16, part: usize) -> i8 {
    (lower >> (4 * part) & 15 | (u32::from(upper) >> (2 * part) & 3) << 4) as i8 - 32
}
