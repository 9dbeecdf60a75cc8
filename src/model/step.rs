//! The steps of a forward pass, which both backends carry out. They name what is computed, not how: a backend may compute several steps in
//! one.

use super::Role;

/// A buffer of activations, `[rows, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The residual stream.
    Stream,
    /// What RMS norm returns: of the residual stream, or of what is added to it.
    Normed,
    Query,
    Key,
    Value,
    /// The output of attention, before its output projection.
    Attended,
    /// The gate of the feed-forward network, and then its inner activations.
    Gate,
    Up,
    /// The output of attention or of the feed-forward network, which is added to the residual stream.
    Delta,
}

/// A step of the forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// RMS norm of every row of `from`, scaled by the vector `norm`.
    Norm { norm: Role, from: Slot, to: Slot },
    /// The products of matrices with `from`; the first one after `from` has changed.
    Products { from: Slot, products: Vec<(Role, Slot)> },
    /// Adds a vector to every row.
    Bias { bias: Role, to: Slot },
    /// RMS norm of every part of `of` that is as long as the vector `norm` (a head, or all of them), in place, scaled by that vector.
    PartNorm { norm: Role, of: Slot },
    /// Rotates queries and keys by the angles of their positions, and appends keys and values to the layer's KV cache.
    Rotate { layer: usize },
    /// Causal attention of the queries over the layer's KV cache, into `Attended`.
    Attend { layer: usize },
    /// The gated activation: `Gate = activation(Gate) · Up`.
    Activate,
    /// The residual connection: `Stream += from`.
    Add { from: Slot },
}
