//! Weights packed for the kernels: four rows interleaved, so that each 32-bit lane of a vector belongs to one row.
//!
//! For every group of four rows and every block of 32 columns: the four scales (f16), the four offsets (f16, only Q4_1),
//! then the quants, word by word: 16 bytes hold word `j` of each row's block. A word is four columns; of Q4 types its
//! low nibbles are columns `4j..4j+4`, its high nibbles `16+4j..`. Together a group takes exactly the bytes of the file.

use super::activations::BLOCK;
use crate::error::{AiError, Result};
use crate::memory::try_grow;
use candle_core::quantized::GgmlDType;
use half::f16;

/// Rows of a group.
pub const ROWS: usize = 4;

/// The block formats that have kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `scale · (q − 8)`, q in 0..16
    Q4_0,
    /// `scale · q + offset`, q in 0..16
    Q4_1,
    /// `scale · q`, q in −128..128
    Q8_0,
}

impl Format {
    /// The packed format of a type, where there is one.
    pub fn of(dtype: GgmlDType) -> Option<Self> {
        match dtype {
            GgmlDType::Q4_0 => Some(Self::Q4_0),
            GgmlDType::Q4_1 => Some(Self::Q4_1),
            GgmlDType::Q8_0 => Some(Self::Q8_0),
            _ => None,
        }
    }

    /// Bytes in front of a block's quants, in the file.
    const fn head(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q8_0 => 2,
            Self::Q4_1 => 4,
        }
    }

    /// 32-bit words of a block's quants.
    pub const fn words(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 => 4,
            Self::Q8_0 => 8,
        }
    }

    /// Bytes of one row's block, in the file.
    const fn block_bytes(self) -> usize {
        self.head() + self.words() * 4
    }

    /// Bytes in front of a group's quants.
    pub const fn group_head(self) -> usize {
        self.head() * ROWS
    }

    /// Bytes of one block of a whole group.
    pub const fn group_bytes(self) -> usize {
        self.block_bytes() * ROWS
    }
}

/// A packed matrix `[rows, columns]`.
pub struct Packed {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    /// Groups of four rows (the last one filled up with zeros), each `columns / 32` blocks.
    pub bytes: Vec<u8>,
}

impl Packed {
    /// Blocks of one row.
    pub fn blocks(&self) -> usize {
        self.columns / BLOCK
    }

    /// Groups of four rows.
    pub fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// The block `block` of group `group`.
    pub fn group_block(&self, group: usize, block: usize) -> &[u8] {
        let size = self.format.group_bytes();
        let start = (group * self.blocks() + block) * size;
        &self.bytes[start..start + size]
    }

    /// Copies row `row`, dequantised, to `out`.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        let (group, lane) = (row / ROWS, row % ROWS);
        for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let bytes = self.group_block(group, block);
            let (scale, offset) = scale_and_offset(self.format, bytes, lane);
            for word in 0..self.format.words() {
                let at = self.format.group_head() + word * 16 + lane * 4;
                for (column, byte) in bytes[at..at + 4].iter().enumerate() {
                    let column = word * 4 + column;
                    match self.format {
                        Format::Q8_0 => out[column] = scale * f32::from(*byte as i8),
                        Format::Q4_0 | Format::Q4_1 => {
                            out[column] = scale * f32::from(byte & 15) + offset;
                            out[column + 16] = scale * f32::from(byte >> 4) + offset;
                        }
                    }
                }
            }
        }
    }
}

/// Scale and offset of one row in a group's block.
pub fn scale_and_offset(format: Format, bytes: &[u8], lane: usize) -> (f32, f32) {
    let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
    let scale = half(lane * 2);
    let offset = match format {
        Format::Q4_0 => scale * -8.0,
        Format::Q4_1 => half(ROWS * 2 + lane * 2),
        Format::Q8_0 => 0.0,
    };
    (scale, offset)
}

/// A packed matrix that is being filled, in the order of the file.
pub struct Packing {
    packed: Packed,
    /// Blocks that are in place.
    done: usize,
    /// The beginning of a block whose rest has not come.
    partial: Vec<u8>,
}

impl Packing {
    /// Takes the memory for a matrix.
    pub fn new(format: Format, rows: usize, columns: usize) -> Result<Self> {
        let size = rows.div_ceil(ROWS) * (columns / BLOCK) * format.group_bytes();
        let mut bytes = Vec::new();
        if !try_grow(&mut bytes, size) {
            return Err(AiError::out_of_memory("loading the model's weights", size as u64));
        }
        bytes.resize(size, 0);
        Ok(Self { packed: Packed { format, rows, columns, bytes }, done: 0, partial: Vec::new() })
    }

    /// The next bytes of the tensor; never more than it has.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        let size = self.packed.format.block_bytes();
        if !self.partial.is_empty() {
            let missing = (size - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.partial.len() == size {
                let block = std::mem::take(&mut self.partial);
                self.place(&block)?;
            }
        }
        let blocks = bytes.chunks_exact(size);
        self.partial.extend_from_slice(blocks.remainder());
        blocks.into_iter().try_for_each(|block| self.place(block))
    }

    fn place(&mut self, block: &[u8]) -> Result<()> {
        let Packed { format, rows, columns, .. } = self.packed;
        let blocks = columns / BLOCK;
        let (row, column_block) = (self.done / blocks, self.done % blocks);
        if row >= rows {
            return Err(AiError::invalid_data("A tensor got more bytes than it has."));
        }
        self.done += 1;
        let lane = row % ROWS;
        let start = (row / ROWS * blocks + column_block) * format.group_bytes();
        let group = &mut self.packed.bytes[start..start + format.group_bytes()];
        let (head, quants) = block.split_at(format.head());
        for (index, half) in head.chunks_exact(2).enumerate() {
            // The kernels widen finite numbers only.
            if half[1] & 0x7c == 0x7c {
                return Err(AiError::invalid_data("The model's weights are damaged: a scale is not a finite number. Get the file again."));
            }
            let at = (index * ROWS + lane) * 2;
            group[at..at + 2].copy_from_slice(half);
        }
        for (index, word) in quants.chunks_exact(4).enumerate() {
            let at = format.group_head() + index * 16 + lane * 4;
            group[at..at + 4].copy_from_slice(word);
        }
        Ok(())
    }

    /// The finished matrix.
    pub fn finish(self) -> Packed {
        self.packed
    }
}

#[cfg(test)]
mod tests {
    use super::super::activations::Activations;
    use super::super::kernels::plain;
    use super::*;
    use candle_core::quantized::QTensor;
    use candle_core::{Device, Tensor};
    use rand_core::{RngCore, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    fn random(rng: &mut Pcg64Mcg, count: usize) -> Vec<f32> {
        (0..count).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 4.0).collect()
    }

    /// Random shapes and values of every format, written in random pieces, against candle's blocks.
    #[test]
    fn packed_matrices_agree_with_candle() {
        let mut rng = Pcg64Mcg::seed_from_u64(11);
        for dtype in [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0] {
            for _ in 0..12 {
                let (rows, columns, batch) =
                    (1 + rng.next_u32() as usize % 21, 32 * (1 + rng.next_u32() as usize % 9), 1 + rng.next_u32() as usize % 9);
                let weights = Tensor::from_vec(random(&mut rng, rows * columns), (rows, columns), &Device::Cpu).expect("a tensor");
                let quantised = QTensor::quantize(&weights, dtype).expect("quantised");
                let file = quantised.data().expect("bytes");
                let mut packing = Packing::new(Format::of(dtype).expect("a format"), rows, columns).expect("memory");
                let mut rest: &[u8] = &file;
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at((1 + rng.next_u32() as usize % 90).min(rest.len()));
                    packing.write(piece).expect("in place");
                    rest = after;
                }
                let packed = packing.finish();

                let plain: Vec<f32> =
                    quantised.dequantize(&Device::Cpu).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("numbers");
                let mut row = vec![0.0; columns];
                for (index, expected) in plain.chunks_exact(columns).enumerate() {
                    packed.copy_row(index, &mut row);
                    // `q · d + m` here, `(q − 8) · d` there: the last bit may differ.
                    assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5), "{dtype:?} row {index}");
                }

                let input = random(&mut rng, batch * columns);
                let mut activations = Activations::default();
                activations.quantise(&input, columns);
                let mut out = vec![0.0; batch * rows];
                plain::multiply(&packed, &activations, &mut out);
                for (index, out) in out.iter().enumerate() {
                    let (input, weights) = (&input[index / rows * columns..][..columns], &plain[index % rows * columns..][..columns]);
                    let exact: f32 = input.iter().zip(weights).map(|(a, b)| a * b).sum();
                    let size: f32 = input.iter().zip(weights).map(|(a, b)| (a * b).abs()).sum();
                    assert!((out - exact).abs() <= 0.01 * size + 1e-3, "{dtype:?} {rows}×{columns}: {out} instead of {exact}");
                }
            }
        }
    }
}
