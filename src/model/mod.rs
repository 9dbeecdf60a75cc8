//! The model: hyperparameters out of the header, and its weights on their way into a backend.
//!
//! Lives here: what a llama-architecture file is made of. Does not live here: how it is computed (`backend`).

mod hyperparameters;
mod load;
mod rope;
mod weights;

pub use hyperparameters::Hyperparameters;
pub use load::{Role, Tensor, WeightSink, load_weights};
pub use rope::{RopeFrequencies, RopeScaling};
pub use weights::{Collected, Layer, Weights};
