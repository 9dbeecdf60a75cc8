//! Weight matrices in candle's block types, filled from the file without a second copy.

use crate::error::{AiError, Result};
use candle_core::CpuStorage;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, BlockQ8_1, BlockQ8K, GgmlType,
};
use candle_core::quantized::{GgmlDType, QuantizedType};
use half::{bf16, f16};

/// A matrix `[rows, columns]` in any type that candle reads.
pub struct Matrix {
    blocks: Box<dyn QuantizedType>,
    pub rows: usize,
    pub columns: usize,
}

impl Matrix {
    /// `out[r, o] = Σ_i input[r, i] · self[o, i]` for every row `r` of `input` (`[input.len() / columns, columns]`).
    pub fn multiply(&self, input: &[f32], out: &mut [f32]) -> Result<()> {
        let batch = input.len() / self.columns;
        self.blocks.matmul_t((batch, self.columns, self.rows), input, out).map_err(failed)
    }

    /// Copies row `index` (below `rows`), dequantised, to `out` (`columns` numbers).
    pub fn copy_row(&self, index: usize, out: &mut [f32]) -> Result<()> {
        match self.blocks.embedding(&[index as u32], self.rows, self.columns).map_err(failed)? {
            CpuStorage::F32(row) if row.len() == out.len() => {
                out.copy_from_slice(&row);
                Ok(())
            }
            _ => Err(AiError::invalid_data("An embedding row has an unexpected type.")),
        }
    }
}

fn failed(error: candle_core::Error) -> AiError {
    AiError::invalid_data(format!("The matrix product failed: {error}"))
}

/// A tensor that is being filled.
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
            blocks.try_reserve_exact(count).ok()?;
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

    /// The finished matrix.
    pub fn into_matrix(self, rows: usize, columns: usize) -> Matrix {
        Matrix { blocks: self.blocks.into_quantized(), rows, columns }
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
