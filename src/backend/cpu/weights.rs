//! The weights of a llama model in the CPU's memory, and the sink that collects them.

use super::matrix::{Filling, Matrix, MatrixFilling};
use crate::error::{AiError, Result};
use crate::gguf::TensorEntry;
use crate::model::{Role, WeightSink};
use std::collections::HashMap;

/// The weights of one transformer layer.
pub struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Matrix,
    pub key: Matrix,
    pub value: Matrix,
    pub attention_output: Matrix,
    pub ffn_norm: Vec<f32>,
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
}

/// Every weight of a model.
pub struct Weights {
    pub token_embedding: Matrix,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// `None`: the embedding serves as output.
    pub output: Option<Matrix>,
    pub rope_divisors: Option<Vec<f32>>,
}

/// Collects weights as they arrive.
#[derive(Default)]
pub struct CpuWeights {
    matrices: HashMap<Role, Matrix>,
    vectors: HashMap<Role, Vec<f32>>,
    filling: Option<(Role, Target)>,
}

/// The tensor that is being filled.
enum Target {
    Matrix(MatrixFilling),
    /// With its number of elements.
    Vector(Filling, usize),
}

impl WeightSink for CpuWeights {
    fn begin(&mut self, role: Role, entry: &TensorEntry) -> Result<()> {
        let length = usize::try_from(entry.length).map_err(|_| AiError::out_of_memory("loading the model's weights", entry.length))?;
        let target = match entry.shape[..] {
            [rows, columns] => Target::Matrix(MatrixFilling::new(entry.dtype, rows, columns, length)?),
            _ => {
                let elements = entry.shape.iter().product();
                Target::Vector(Filling::new(entry.dtype, elements, length)?, elements)
            }
        };
        self.filling = Some((role, target));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.filling {
            Some((_, Target::Matrix(filling))) => filling.write(bytes),
            Some((_, Target::Vector(filling, _))) => filling.write(bytes),
            None => Err(AiError::invalid_data("Bytes came for no tensor.")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self.filling.take() {
            Some((role, Target::Matrix(filling))) => drop(self.matrices.insert(role, filling.finish())),
            Some((role, Target::Vector(filling, elements))) => drop(self.vectors.insert(role, filling.into_numbers(elements)?)),
            None => {}
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
            output: self.matrices.remove(&Role::Output),
            rope_divisors: self.vectors.remove(&Role::RopeDivisors),
        })
    }

    fn matrix(&mut self, role: Role) -> Result<Matrix> {
        self.matrices.remove(&role).ok_or_else(|| missing(role))
    }

    fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        self.vectors.remove(&role).ok_or_else(|| missing(role))
    }
}

fn missing(role: Role) -> AiError {
    AiError::invalid_data(format!("The model has no tensor for {role:?}."))
}
