//! Matrix products over packed weights, by kernels for every format, and the plain twin that defines their results.
//!
//! Integer sums are exact, and every lane of a vector does the twin's floating-point operations in the twin's order; so text
//! does not depend on which build or which number of threads computed it.

#[cfg(any(test, target_arch = "wasm32"))]
mod check;
mod codes;
mod floats;
mod output;
#[cfg(any(test, target_arch = "wasm32"))]
pub mod plain;

#[cfg(target_arch = "wasm32")]
pub use check::{compare_with_twin, measure};

use crate::activations::Activations;
use crate::packed::Packed;
use crate::threads;
use output::Output;

/// A product to be computed.
pub struct Product<'a> {
    weights: &'a Packed,
    out: Output<'a>,
}

impl<'a> Product<'a> {
    /// `out[r, o] = Σ_i input[r, i] · weights[o, i]`. `out` is `[rows, weights.rows]`.
    pub fn new(weights: &'a Packed, out: &'a mut [f32]) -> Self {
        Self { weights, out: Output::new(out, weights.rows) }
    }
}

/// Multiply-adds that are worth handing to another thread at once.
const GRAIN: usize = 1 << 16;

/// Computes products with the same input (`[rows, columns]`, and the same as integers), by all threads that there are. Shapes
/// fit: the caller sees to it.
pub fn multiply(products: &mut [Product<'_>], input: &[f32], quantised: &Activations) {
    let products = &*products;
    let groups: usize = products.iter().map(|product| product.weights.groups()).sum();
    let grain = (GRAIN / (input.len() * 4).max(1)).max(1);
    debug_assert!(products.iter().all(|product| product.weights.columns == products[0].weights.columns));
    // Every group belongs to one range, so each is written by one thread.
    threads::for_ranges(groups, grain, |range| {
        let mut first = 0;
        for Product { weights, out } in products {
            let own = weights.groups();
            let groups = range.start.clamp(first, first + own) - first..range.end.clamp(first, first + own) - first;
            if !groups.is_empty() {
                if weights.format.is_quantised() {
                    codes::multiply(weights, quantised, groups, out);
                } else {
                    floats::multiply(weights, input, groups, out);
                }
            }
            first += own;
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_in_use_agree_with_their_twin() {
        let (different, compared) = super::check::compare_with_twin(1, 20);
        assert!(compared > 1000);
        assert_eq!(different, 0, "of {compared}");
    }
}
