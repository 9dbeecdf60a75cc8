//! The model: its hyperparameters, read from the header, and the loading of its weights into a backend.
//!
//! This module describes what a llama-architecture file consists of, not how it is computed (`backend`).

mod hyperparameters;
mod load;
mod rope;
mod weights;

pub use hyperparameters::Hyperparameters;
pub use load::{Role, Tensor, WeightSink, load_weights};
pub use rope::{RopeFrequencies, RopeScaling};
pub use weights::{Layer, WeightCollector, Weights};
