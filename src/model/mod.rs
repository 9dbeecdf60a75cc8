//! The model: what it computes, read from the header, and the loading of its weights into a backend.
//!
//! This module describes steps and weights, not how they are computed (`backend`).

pub mod architecture;
mod architectures;
mod hyperparameters;
mod load;
mod rope;
mod step;
mod weights;

pub use architecture::Architecture;
pub use hyperparameters::Hyperparameters;
pub(crate) use load::shape_of;
pub use load::{Role, RoleInLayer, Tensor, WeightSink, load_weights};
pub use rope::{Rope, RopeFrequencies, YarnNumbers};
pub use step::{Slot, Step};
pub use weights::{WeightCollector, Weights};
