//! The weights of a model by their role, in whatever representation a backend stores them.

use super::Role;
use crate::error::{AiError, Result};
use std::collections::HashMap;

/// Every weight of a model: matrices `M` and vectors `V`.
pub struct Weights<M, V> {
    matrices: HashMap<Role, M>,
    vectors: HashMap<Role, V>,
    pub rope_divisors: Option<Vec<f32>>,
}

impl<M, V> Weights<M, V> {
    /// A matrix.
    ///
    /// # Errors
    ///
    /// 5004 if the model does not have it.
    pub fn matrix(&self, role: Role) -> Result<&M> {
        self.matrices.get(&role).ok_or_else(|| missing(role))
    }

    /// A vector.
    ///
    /// # Errors
    ///
    /// 5004 if the model does not have it.
    pub fn vector(&self, role: Role) -> Result<&V> {
        self.vectors.get(&role).ok_or_else(|| missing(role))
    }

    /// The output matrix, which may be the embedding too (tied).
    ///
    /// # Errors
    ///
    /// 5004 if the model has neither.
    pub fn output(&self) -> Result<&M> {
        self.matrix(Role::Output).or_else(|_| self.matrix(Role::TokenEmbedding))
    }

    /// Every matrix, with its role.
    pub fn matrices(&self) -> impl Iterator<Item = (Role, &M)> {
        self.matrices.iter().map(|(role, matrix)| (*role, matrix))
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

    /// The weights. `convert` turns a vector into the backend's representation.
    ///
    /// # Errors
    ///
    /// The errors of `convert`.
    pub fn into_weights<V>(mut self, mut convert: impl FnMut(Vec<f32>) -> Result<V>) -> Result<Weights<M, V>> {
        let rope_divisors = self.vectors.remove(&Role::RopeDivisors);
        let vectors = self.vectors.into_iter().map(|(role, numbers)| Ok((role, convert(numbers)?))).collect::<Result<_>>()?;
        Ok(Weights { matrices: self.matrices, vectors, rope_divisors })
    }
}

fn missing(role: Role) -> AiError {
    AiError::invalid_data(format!("The model has no tensor '{}'.", role.name()))
}
