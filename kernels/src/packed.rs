//! Weights packed for the kernels: four rows are interleaved, so that each 32-bit lane of a vector belongs to one row.
//!
//! For every group of four rows and every block of the file's format, the layout is: the f16 numbers of the four rows side by side, then
//! their 16-bit parts of scales; the words of the scales (16 bytes hold word `j` of each row); for every 32 columns, the planes of their codes (`planes.rs`). Floats
//! are stored column by column, four rows each. A group takes exactly as many bytes as its rows take in the file. `packing.rs` writes it.

use crate::format::{Format, IQ4_CODES};
use crate::planes::{BLOCK, High, Low, six_bit_pair, six_bit_scale, split_scale};
use half::{bf16, f16};

/// Rows per group.
pub const ROWS: usize = 4;

/// A packed matrix `[rows, columns]`.
pub struct Packed {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    /// Groups of four rows (the last one padded with zeros), each of `columns / format.columns()` packed blocks.
    pub bytes: Vec<u8>,
}

/// 32 columns of one row. The weight of column `c` is `scale · codes[c] + offset`, where `(scale, offset)` is `scales[c / 16]`.
pub struct RowBlock {
    /// Signed for Q8_0 and IQ4, otherwise non-negative.
    pub codes: [i32; BLOCK],
    pub scales: [(f32, f32); 2],
}

impl Packed {
    /// Blocks per row.
    pub fn blocks(&self) -> usize {
        self.columns / self.format.columns()
    }

    /// Number of groups of four rows.
    pub fn groups(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Bytes per group.
    pub fn group_bytes(&self) -> usize {
        self.blocks() * self.format.packed_bytes()
    }

    /// The first row, dequantised: all numbers of a vector, which is stored as a matrix of one row.
    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.columns];
        self.copy_row(0, &mut numbers);
        numbers
    }

    /// One number of an unquantised matrix.
    pub fn float(&self, row: usize, column: usize) -> f32 {
        let size = self.format.file_bytes();
        let at = (row / ROWS * self.columns + column) * ROWS * size + row % ROWS * size;
        match (self.format, &self.bytes[at..at + size]) {
            (Format::F16, [a, b]) => f16::from_le_bytes([*a, *b]).to_f32(),
            (Format::Bf16, [a, b]) => bf16::from_le_bytes([*a, *b]).to_f32(),
            (_, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]),
            _ => f32::NAN,
        }
    }

    /// Columns `32 · block..32 · (block + 1)` of a row of a quantised matrix, decoded.
    pub fn row_block(&self, row: usize, block: usize) -> RowBlock {
        let (format, lane) = (self.format, row % ROWS);
        let parts = format.columns() / BLOCK;
        let start = row / ROWS * self.group_bytes() + block / parts * format.packed_bytes();
        let (head, planes) = self.bytes[start..start + format.packed_bytes()].split_at(format.head_bytes());
        let part = block % parts;
        let planes = &planes[part * format.plane_bytes()..][..format.plane_bytes()];
        RowBlock { codes: codes(format, planes, lane), scales: scales(format, head, lane, part) }
    }

    /// Copies row `row`, dequantised, to `out`, which has `columns` numbers.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        if !self.format.is_quantised() {
            for (column, out) in out.iter_mut().enumerate() {
                *out = self.float(row, column);
            }
            return;
        }
        for (index, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let block = self.row_block(row, index);
            for (column, (out, code)) in out.iter_mut().zip(block.codes).enumerate() {
                let (scale, offset) = block.scales[column / 16];
                *out = scale * code as f32 + offset;
            }
        }
    }
}

/// Index of the byte in a plane of [`Low::Nibbles16`] that holds a row's code: in the low nibble for an even word, in the high one for an
/// odd word.
fn nibble16_byte(word: usize, column: usize, lane: usize) -> usize {
    (word / 4 * 2 + lane / 2) * 16 + (lane % 2 * 4 + column) * 2 + word % 4 / 2
}

/// The codes of row `lane` from the planes of 32 columns.
fn codes(format: Format, planes: &[u8], lane: usize) -> [i32; BLOCK] {
    let (low, high) = format.planes();
    let (low_plane, high_plane) = planes.split_at(low.words() * 16);
    let byte = |plane: &[u8], word: usize, column: usize| plane[word * 16 + lane * 4 + column];
    std::array::from_fn(|index| {
        let (word, column) = (index / 4, index % 4);
        let below = match low {
            Low::Bytes => return i32::from(byte(low_plane, word, column) as i8),
            Low::Nibbles8 => byte(low_plane, word % 4, column) >> (word / 4 * 4) & 15,
            Low::Nibbles16 => low_plane[nibble16_byte(word, column, lane)] >> (word % 2 * 4) & 15,
            Low::TwoBits => byte(low_plane, word / 4, column) >> (word % 4 * 2) & 3,
        };
        let above = match high {
            High::None => 0,
            High::OneBit => byte(high_plane, 0, column) >> word & 1,
            High::TwoBits => byte(high_plane, word / 4, column) >> (word % 4 * 2) & 3,
        };
        let bits = below | above << low.bits();
        if format.has_table() { i32::from(IQ4_CODES[usize::from(bits & 15)]) } else { i32::from(bits) }
    })
}

/// Scale and offset of row `lane` for each half (16 columns) of part `part` (32 columns) of a block.
fn scales(format: Format, head: &[u8], lane: usize, part: usize) -> [(f32, f32); 2] {
    let bytes = |index: usize| {
        let at = (index * ROWS + lane) * 2;
        [head[at], head[at + 1]]
    };
    let half = |index: usize| f16::from_le_bytes(bytes(index)).to_f32();
    let words = &head[(format.f16_count() + format.scale_halves()) * 2 * ROWS..];
    let byte = |index: usize| words[index / 4 * 16 + lane * 4 + index % 4];
    let twelve = || std::array::from_fn(byte);
    let scale = half(0);
    match format {
        Format::Q4_0 => [(scale, scale * -8.0); 2],
        Format::Q5_0 => [(scale, scale * -16.0); 2],
        Format::Q4_1 | Format::Q5_1 => [(scale, half(1)); 2],
        Format::Q2K => [0, 1].map(|side| {
            let byte = byte(2 * part + side);
            (scale * f32::from(byte & 15), half(1) * -f32::from(byte >> 4))
        }),
        Format::Q3K => [0, 1].map(|side| {
            let scale = scale * f32::from(six_bit_scale(twelve(), 2 * part + side));
            (scale, scale * -4.0)
        }),
        Format::Q4K | Format::Q5K => {
            let (own, offset) = six_bit_pair(twelve(), part);
            [(scale * f32::from(own), half(1) * -f32::from(offset)); 2]
        }
        Format::Q6K => [0, 1].map(|side| {
            let scale = scale * f32::from(byte(2 * part + side) as i8);
            (scale, scale * -32.0)
        }),
        Format::Iq4Xs => {
            let lower = u32::from_le_bytes(std::array::from_fn(byte));
            [(scale * f32::from(split_scale(lower, u16::from_le_bytes(bytes(1)), part)), 0.0); 2]
        }
        Format::Iq4Nl | Format::Q8_0 | Format::F32 | Format::F16 | Format::Bf16 => [(scale, 0.0); 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::activations::Activations;
    use crate::packing::Packing;
    use crate::products::reference;
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    use rand_core::{RngCore, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    fn random(rng: &mut Pcg64Mcg, count: usize) -> Vec<f32> {
        (0..count).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 4.0).collect()
    }

    /// Random shapes and values of every format, written in pieces of random size, compared with candle's blocks.
    #[test]
    fn packed_matrices_agree_with_candle() {
        use GgmlDType::*;
        let mut rng = Pcg64Mcg::seed_from_u64(11);
        let dtypes = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K];
        for (format, dtype) in Format::ALL.into_iter().zip(dtypes) {
            assert_eq!(format.file_bytes(), dtype.type_size(), "{dtype:?}");
            assert_eq!(format.columns(), dtype.block_size(), "{dtype:?}");
            for _ in 0..12 {
                let unit = format.columns().max(BLOCK);
                let (rows, columns, batch) =
                    (1 + rng.next_u32() as usize % 21, unit * (1 + rng.next_u32() as usize % 5), 1 + rng.next_u32() as usize % 9);
                let weights = Tensor::from_vec(random(&mut rng, rows * columns), (rows, columns), &Device::Cpu).expect("a tensor");
                let quantised = QTensor::quantize(&weights, dtype).expect("quantised");
                let file = quantised.data().expect("bytes");
                let packed = packed_in_pieces(format, rows, columns, &file, 90, &mut rng);

                let dequantised: Vec<f32> =
                    quantised.dequantize(&Device::Cpu).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("numbers");
                let mut row = vec![0.0; columns];
                for (index, expected) in dequantised.chunks_exact(columns).enumerate() {
                    packed.copy_row(index, &mut row);
                    // Ours is `q · d + m`, candle's `(q − 8) · d`: the last bit may differ.
                    assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5), "{dtype:?} row {index}");
                }

                let input = random(&mut rng, batch * columns);
                let mut activations = Activations::default();
                activations.quantise(&input, columns);
                let mut out = vec![0.0; batch * rows];
                reference::multiply(&packed, &input, &activations, &mut out);
                for (index, out) in out.iter().enumerate() {
                    let (input, weights) = (&input[index / rows * columns..][..columns], &dequantised[index % rows * columns..][..columns]);
                    let exact: f32 = input.iter().zip(weights).map(|(a, b)| a * b).sum();
                    let size: f32 = input.iter().zip(weights).map(|(a, b)| (a * b).abs()).sum();
                    assert!((out - exact).abs() <= 0.01 * size + 1e-3, "{dtype:?} {rows}×{columns}: {out} instead of {exact}");
                }
            }
        }
    }

    /// A block of 32 weights of IQ4, from `scale` and sixteen bytes, as ggml's `dequantize_row_iq4_nl` has it.
    fn iq4_weights(scale: f64, bytes: &[u8]) -> Vec<f64> {
        const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
        let nibbles = bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4));
        nibbles.map(|nibble| scale * f64::from(VALUES[usize::from(nibble)])).collect()
    }

    /// A block of IQ4_NL or IQ4_XS, dequantised from ggml's definition, independently of `planes.rs`.
    fn iq4_block(format: Format, block: &[u8]) -> Vec<f64> {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f64();
        if format == Format::Iq4Nl {
            return iq4_weights(scale, &block[2..]);
        }
        let (upper, lower, quants) = (u16::from_le_bytes([block[2], block[3]]), &block[4..8], &block[8..]);
        let scale_of = |part: usize| {
            let bits = i32::from(lower[part / 2] >> (4 * (part % 2)) & 15) | i32::from(upper >> (2 * part) & 3) << 4;
            scale * f64::from(bits - 32)
        };
        quants.chunks_exact(16).enumerate().flat_map(|(part, bytes)| iq4_weights(scale_of(part), bytes)).collect()
    }

    /// Checksums of blocks as the Python package `gguf` of llama.cpp dequantises them: it is the oracle for [`iq4_block`].
    #[test]
    fn the_definition_of_iq4_is_that_of_ggml() {
        for (format, sum, weighted) in [(Format::Iq4Nl, 100.75, 2312.5), (Format::Iq4Xs, 815.25, -23373.5)] {
            let mut block: Vec<u8> = (0..format.file_bytes()).map(|index| (index * 37 + index * index * 11 + 5) as u8).collect();
            block[..2].copy_from_slice(&f16::from_f32(0.25).to_le_bytes());
            let weights = iq4_block(format, &block);
            assert_eq!(weights.iter().sum::<f64>(), sum, "{format:?}");
            assert_eq!(weights.iter().zip(1..).map(|(weight, place)| weight * f64::from(place)).sum::<f64>(), weighted, "{format:?}");
        }
    }

    /// The packed matrix of a file's bytes, written in pieces of random size, up to `most` bytes each.
    fn packed_in_pieces(format: Format, rows: usize, columns: usize, file: &[u8], most: usize, rng: &mut Pcg64Mcg) -> Packed {
        let mut packing = Packing::new(format, rows, columns).expect("memory");
        let mut rest = file;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + rng.next_u32() as usize % most).min(rest.len()));
            packing.write(piece).expect("in place");
            rest = after;
        }
        packing.finish().expect("finite")
    }

    /// Random blocks of the types that candle does not have, written in pieces of random size, compared with ggml's definition in f64.
    #[test]
    fn packed_matrices_of_iq4_agree_with_the_definition() {
        let mut rng = Pcg64Mcg::seed_from_u64(12);
        for format in [Format::Iq4Nl, Format::Iq4Xs] {
            for _ in 0..24 {
                let (rows, batch) = (1 + rng.next_u32() as usize % 21, 1 + rng.next_u32() as usize % 9);
                let columns = format.columns() * (1 + rng.next_u32() as usize % 5);
                let mut file = vec![0; format.tensor_bytes(rows, columns) as usize];
                rng.fill_bytes(&mut file);
                for block in file.chunks_exact_mut(format.file_bytes()) {
                    let scale = f16::from_f32(random(&mut rng, 1)[0]);
                    block[..2].copy_from_slice(&scale.to_le_bytes());
                }
                let exact: Vec<f64> = file.chunks_exact(format.file_bytes()).flat_map(|block| iq4_block(format, block)).collect();
                let packed = packed_in_pieces(format, rows, columns, &file, 300, &mut rng);
                let mut row = vec![0.0; columns];
                for (index, exact) in exact.chunks_exact(columns).enumerate() {
                    packed.copy_row(index, &mut row);
                    assert!(row.iter().zip(exact).all(|(a, b)| f64::from(*a) == f64::from(*b as f32)), "{format:?} row {index}");
                }

                let input = random(&mut rng, batch * columns);
                let mut activations = Activations::default();
                activations.quantise(&input, columns);
                let mut out = vec![0.0; batch * rows];
                reference::multiply(&packed, &input, &activations, &mut out);
                for (index, out) in out.iter().enumerate() {
                    let (input, weights) = (&input[index / rows * columns..][..columns], &exact[index % rows * columns..][..columns]);
                    let expected: f64 = input.iter().zip(weights).map(|(a, b)| f64::from(*a) * b).sum();
                    // Activations, up to 2 here, are rounded to 14 bits with a sign.
                    let allowed = weights.iter().map(|weight| weight.abs()).sum::<f64>() * 2.0 / 8128.0;
                    assert!((f64::from(*out) - expected).abs() <= allowed, "{format:?} {rows}×{columns}: {out} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn a_scale_of_iq4_that_is_not_finite_is_an_error() {
        for format in [Format::Iq4Nl, Format::Iq4Xs] {
            let mut block = vec![0xff; format.file_bytes()];
            let mut packing = Packing::new(format, 1, format.columns()).expect("memory");
            packing.write(&block).expect("an incomplete group");
            assert!(matches!(packing.finish(), Err(Error::InvalidData(_))), "{format:?}");
            // The other bytes are integers, which may have any bits.
            block[..2].copy_from_slice(&f16::ONE.to_le_bytes());
            let mut packing = Packing::new(format, 1, format.columns()).expect("memory");
            packing.write(&block).expect("an incomplete group");
            packing.finish().expect("finite");
        }
    }
}
