//! The weights of a llama model by their role, in whatever representation a backend stores them.

use super::Role;
use crate::error::{AiError, Result};
use std::collections::HashMap;

/// The weights of one transformer layer: matrices `M` and norms `V`.
pub struct Layer<M, V> {
    pub attention_norm: V,
    pub query: M,
    pub key: M,
    pub value: M,
    pub attention_output: M,
    pub ffn_norm: V,
    pub gate: M,
    pub up: M,
    pub down: M,
}

/// Every weight of a model.
pub struct Weights<M, V> {
    pub token_embedding: M,
    pub layers: Vec<Layer<M, V>>,
    pub output_norm: V,
    /// `None`: the embedding is also the output matrix.
    pub output: Option<M>,
    pub rope_divisors: Option<Vec<f32>>,
}

impl<M, V> Weights<M, V> {
    /// Every matrix, with its role.
    pub fn matrices(&self) -> impl Iterator<Item = (Role, &M)> {
        let ends = [(Role::TokenEmbedding, Some(&self.token_embedding)), (Role::Output, self.output.as_ref())];
        let layers = self.layers.iter().enumerate().flat_map(|(index, layer)| {
            [
                (Role::Query(index), &layer.query),
                (Role::Key(index), &layer.key),
                (Role::Value(index), &layer.value),
                (Role::AttentionOutput(index), &layer.attention_output),
                (Role::Gate(index), &layer.gate),
                (Role::Up(index), &layer.up),
                (Role::Down(index), &layer.down),
            ]
        });
        ends.into_iter().filter_map(|(role, matrix)| Some((role, matrix?))).chain(layers)
    }
}

/// Collects weights during a load, until all of them are there.
pub struct WeightCollector<M> {
    matrices: HashMap<Role, M>,
    vectors: HashMap<Role, Vec<f32>>,
}

impl<M> Default for WeightCollector<M> {
    fn default() -> Self {
        Self { matrices: HashMap::new(), vectors: HashMap::new() }
    }
}

impl<M> WeightCollector<M> {
    pub fn add_matrix(&mut self, role: Role, matrix: M) {
        self.matrices.insert(role, matrix);
    }

    pub fn add_vector(&mut self, role: Role, numbers: Vec<f32>) {
        self.vectors.insert(role, numbers);
    }

    /// The complete weights of a model of `layers` layers. `norm` converts the numbers of a norm into the backend's representation.
    ///
    /// # Errors
    ///
    /// 5004 if a weight is missing; the errors of `norm`.
    pub fn into_weights<V>(mut self, layers: usize, mut norm: impl FnMut(Vec<f32>) -> Result<V>) -> Result<Weights<M, V>> {
        let layers = (0..layers)
            .map(|layer| {
                Ok(Layer {
                    attention_norm: norm(self.vector(Role::AttentionNorm(layer))?)?,
                    query: self.matrix(Role::Query(layer))?,
                    key: self.matrix(Role::Key(layer))?,
                    value: self.matrix(Role::Value(layer))?,
                    attention_output: self.matrix(Role::AttentionOutput(layer))?,
                    ffn_norm: norm(self.vector(Role::FfnNorm(layer))?)?,
                    gate: self.matrix(Role::Gate(layer))?,
                    up: self.matrix(Role::Up(layer))?,
                    down: self.matrix(Role::Down(layer))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Weights {
            token_embedding: self.matrix(Role::TokenEmbedding)?,
            layers,
            output_norm: norm(self.vector(Role::OutputNorm)?)?,
            output: self.matrices.remove(&Role::Output),
            rope_divisors: self.vectors.remove(&Role::RopeDivisors),
        })
    }

    fn matrix(&mut self, role: Role) -> Result<M> {
        self.matrices.remove(&role).ok_or_else(|| missing(role))
    }

    fn vector(&mut self, role: Role) -> Result<Vec<f32>> {
        self.vectors.remove(&role).ok_or_else(|| missing(role))
    }
}

fn missing(role: Role) -> AiError {
    AiError::invalid_data(format!("The model has no tensor '{}'.", role.name()))
}
