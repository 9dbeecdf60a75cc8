//! The weights of a llama model in the CPU's memory, and the sink that collects them.

use super::format::Format;
use super::packed::{Packed, Packing};
use crate::error::{AiError, Result};
use crate::gguf::TensorEntry;
use crate::model::{Role, WeightSink};
use std::collections::HashMap;

/// The weights of one transformer layer.
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Packed,
    pub key: Packed,
    pub value: Packed,
    pub attention_output: Packed,
    pub ffn_norm: Vec<f32>,
    pub gate: Packed,
    pub up: Packed,
    pub down: Packed,
}

/// Every weight of a model.
pub struct Weights {
    pub token_embedding: Packed,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// `None`: the embedding serves as output.
    pub output: Option<Packed>,
    pub rope_divisors: Option<Vec<f32>>,
}

/// Collects weights as they arrive.
#[derive(Default)]
pub struct CpuWeights {
    tensors: HashMap<Role, Packed>,
    filling: Option<(Role, Packing)>,
}

impl WeightSink for CpuWeights {
    fn begin(&mut self, role: Role, entry: &TensorEntry) -> Result<()> {
        let Some(format) = Format::of(entry.dtype) else {
            return Err(AiError::invalid_data(format!(
                "Tensor '{}' is of type {:?}, which is not for weights. Use a file of another type, for instance Q4_K or Q8_0.",
                entry.name, entry.dtype
            )));
        };
        let (rows, columns) = match entry.shape[..] {
            [rows, columns] => (rows, columns),
            _ => (1, entry.shape.iter().product()),
        };
        let length = rows as u64 * columns as u64 / format.columns() as u64 * format.file_bytes() as u64;
        if entry.length != length {
            return Err(AiError::invalid_data(format!("Tensor '{}' has {} bytes instead of {length}.", entry.name, entry.length)));
        }
        self.filling = Some((role, Packing::new(format, rows, columns)?));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.filling {
            Some((_, packing)) => packing.write(bytes),
            None => Err(AiError::invalid_data("Bytes came for no tensor.")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        if let Some((role, packing)) = self.filling.take() {
            self.tensors.insert(role, packing.finish());
        }
        Ok(())
    }
}

impl CpuWeights {
    /// The complete weights of a model of `layers` layers.
    pub fn build(mut self, layers: usize) -> Result<Weights> {
        let layers = (0..layers)
            .map(|layer| {
                Ok(Layer {
                    attention_norm: self.vector(Role::AttentionNorm(layer))?,
                    query: self.matrix(Role::Query(layer))?,
                    key: self.matrix(Role::Key(layer))?,
                    value: self.matrix(Role::Value(layer))?,
                    attention_output: self.matrix(Role::AttentionOutput(layer))?,
                    ffn_norm: self.vector(Role::FfnNorm(layer))?,
                    gate: self.matrix(Role::Gate(layer))?,
                    up: self.matrix(Role::Up(layer))?,
                    down: self.matrix(Role::Down(layer))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Weights {
            token_embedding: self.matrix(Role::TokenEmbedding)?,
            layers,
            output_norm: self.vector(Role::OutputNorm)?,
            output: self.tensors.remove(&Role::Output),
            rope_divisors: self.vector(Role::RopeDivisors).ok(),
        })
    }

    fn matrix(&mut self, role: Role) -> Result<Packed> {
        self.tensors.remove(&role).ok_or_else(|| missing(role))
    }

    /// A tensor of one row as numbers.
    fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        let packed = self.matrix(role)?;
        let mut numbers = vec![0.0; packed.columns];
        packed.copy_row(0, &mut numbers);
        Ok(numbers)
    }
}

fn missing(role: Role) -> AiError {
    AiError::invalid_data(format!("The model has no tensor for {role:?}."))
}
