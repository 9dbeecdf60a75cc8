//! The vectors of texts, from the engine or from the host.

use crate::input::Pooling;

/// The vectors of texts.
pub struct Vectors {
    /// One after the other.
    pub numbers: Vec<f32>,
    /// Length of each.
    pub width: usize,
    /// Tokens of all texts.
    pub tokens: usize,
    /// How those of a text's tokens became one, if the request determines it.
    pub pooling: Option<Pooling>,
    /// Name of the model's file.
    pub served_by: String,
}
