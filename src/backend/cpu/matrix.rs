//! Weight matrices: packed for our kernels where there is one, in candle's block types otherwise. Filled from the file
//! without a second copy.

use super::activations::{Activations, BLOCK};
use super::kernels;
use super::packed::{Format, Packed, Packing};
use crate::error::{AiError, Result};
use crate::memory::try_grow;
use candle_core::CpuStorage;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, BlockQ8_1, BlockQ8K, GgmlType,
};
use candle_core::quantized::{GgmlDType, QuantizedType};
use half::{bf16, f16};

/// A matrix `[rows, columns]` in any type that candle reads.
pub enum Matrix {
    Packed(Packed),
    Blocks { blocks: Box<dyn QuantizedType>, rows: usize, columns: usize },
}

/// The input of matrix products, and its quantised form, which several matrices share.
#[derive(Default)]
pub struct Operand {
    pub values: Vec<f32>,
    quantised: Activations,
}

impl Operand {
    /// To be called when `values` (`[rows, columns]`) have changed, before they are multiplied.
    pub fn changed(&mut self, columns: usize) {
        if columns.is_multiple_of(BLOCK) {
            self.quantised.quantise(&self.values, columns);
        }
    }
}

impl Matrix {
    pub fn rows(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.rows,
            Self::Blocks { rows, .. } => *rows,
        }
    }

    /// `out[r, o] = Σ_i input[r, i] · self[o, i]` for every row `r` of `input`.
    pub fn multiply(&self, input: &Operand, out: &mut [f32]) -> Result<()> {
        match self {
            Self::Packed(packed) => {
                kernels::multiply(packed, &input.quantised, out);
                Ok(())
            }
            Self::Blocks { blocks, rows, columns } => {
                let batch = input.values.len() / columns;
                blocks.matmul_t((batch, *columns, *rows), &input.values, out).map_err(failed)
            }
        }
    }

    /// Copies row `index` (below `rows`), dequantised, to `out` (`columns` numbers).
    pub fn copy_row(&self, index: usize, out: &mut [f32]) -> Result<()> {
        match self {
            Self::Packed(packed) => {
                packed.copy_row(index, out);
                Ok(())
            }
            Self::Blocks { blocks, rows, columns } => match blocks.embedding(&[index as u32], *rows, *columns).map_err(failed)? {
                CpuStorage::F32(row) if row.len() == out.len() => {
                    out.copy_from_slice(&row);
                    Ok(())
                }
                _ => Err(AiError::invalid_data("An embedding row has an unexpected type.")),
            },
        }
    }
}

fn failed(error: candle_core::Error) -> AiError {
    AiError::invalid_data(format!("The matrix product failed: {error}"))
}

/// A matrix that is being filled.
pub enum MatrixFilling {
    Packed(Packing),
    Blocks(Filling, usize, usize),
}

impl MatrixFilling {
    /// Takes memory for a matrix of type `dtype`: `length` bytes as the file has them.
    pub fn new(dtype: GgmlDType, rows: usize, columns: usize, length: usize) -> Result<Self> {
        Ok(match Format::of(dtype) {
            Some(format) => Self::Packed(Packing::new(format, rows, columns)?),
            None => Self::Blocks(Filling::new(dtype, rows * columns, length)?, rows, columns),
        })
    }

    /// The next bytes of the tensor.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Packed(packing) => packing.write(bytes),
            Self::Blocks(filling, ..) => filling.write(bytes),
        }
    }

    /// The finished matrix.
    pub fn finish(self) -> Matrix {
        match self {
            Self::Packed(packing) => Matrix::Packed(packing.finish()),
            Self::Blocks(filling, rows, columns) => Matrix::Blocks { blocks: filling.blocks.into_quantized(), rows, columns },
        }
    }
}

/// A tensor in candle's blocks that is being filled.
pub struct Filling {
    blocks: Box<dyn Fill>,
    filled: usize,
    length: usize,
}

impl Filling {
    /// Takes memory for `elements` numbers of type `dtype`: `length` bytes as the file has them.
    pub fn new(dtype: GgmlDType, elements: usize, length: usize) -> Result<Self> {
        fn zeros<T: GgmlType + 'static>(elements: usize) -> Option<Box<dyn Fill>> {
            let count = elements / T::BLCK_SIZE;
            let mut blocks: Vec<T> = Vec::new();
            if !try_grow(&mut blocks, count) {
                return None;
            }
            blocks.resize(count, T::zeros());
            Some(Box::new(blocks))
        }
        let blocks = match dtype {
            GgmlDType::F32 => zeros::<f32>(elements),
            GgmlDType::F16 => zeros::<f16>(elements),
            GgmlDType::BF16 => zeros::<bf16>(elements),
            GgmlDType::Q4_0 => zeros::<BlockQ4_0>(elements),
            GgmlDType::Q4_1 => zeros::<BlockQ4_1>(elements),
            GgmlDType::Q5_0 => zeros::<BlockQ5_0>(elements),
            GgmlDType::Q5_1 => zeros::<BlockQ5_1>(elements),
            GgmlDType::Q8_0 => zeros::<BlockQ8_0>(elements),
            GgmlDType::Q8_1 => zeros::<BlockQ8_1>(elements),
            GgmlDType::Q2K => zeros::<BlockQ2K>(elements),
            GgmlDType::Q3K => zeros::<BlockQ3K>(elements),
            GgmlDType::Q4K => zeros::<BlockQ4K>(elements),
            GgmlDType::Q5K => zeros::<BlockQ5K>(elements),
            GgmlDType::Q6K => zeros::<BlockQ6K>(elements),
            GgmlDType::Q8K => zeros::<BlockQ8K>(elements),
        };
        let blocks = blocks.ok_or_else(|| AiError::out_of_memory("loading the model's weights", length as u64))?;
        if blocks.byte_length() != length {
            return Err(AiError::invalid_data(format!(
                "A tensor of type {dtype:?} has {length} bytes instead of {}.",
                blocks.byte_length()
            )));
        }
        Ok(Self { blocks, filled: 0, length })
    }

    /// The next bytes of the tensor.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.filled + bytes.len();
        if end > self.length {
            return Err(AiError::invalid_data("A tensor got more bytes than it has."));
        }
        self.blocks.bytes_mut()[self.filled..end].copy_from_slice(bytes);
        self.filled = end;
        Ok(())
    }

    /// The finished tensor as numbers; for norms and other small ones.
    pub fn into_numbers(self, elements: usize) -> Result<Vec<f32>> {
        match self.blocks.into_quantized().dequantize(elements).map_err(failed)? {
            CpuStorage::F32(numbers) => Ok(numbers),
            _ => Err(AiError::invalid_data("A norm has an unexpected type.")),
        }
    }
}

/// A vector of blocks as the bytes that they are made of.
trait Fill {
    fn byte_length(&self) -> usize;
    fn bytes_mut(&mut self) -> &mut [u8];
    fn into_quantized(self: Box<Self>) -> Box<dyn QuantizedType>;
}

impl<T: GgmlType + 'static> Fill for Vec<T> {
    fn byte_length(&self) -> usize {
        size_of_val(self.as_slice())
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let length = size_of_val(self.as_slice());
        // SAFETY: every `GgmlType` is a plain number or a `repr(C)` struct of plain numbers without padding (its size
        // is the block size of the format, which `Filling::new` compares), so every byte pattern is a valid value and
        // no byte is uninitialised. The slice covers exactly the vector's elements and borrows it mutably.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast::<u8>(), length) }
    }

    fn into_quantized(self: Box<Self>) -> Box<dyn QuantizedType> {
        self
    }
}
