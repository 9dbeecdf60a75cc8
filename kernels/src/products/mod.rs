//! Matrix products with packed weights: a kernel per format, and the reference implementation that defines their results.
//!
//! Integer sums are exact, and every lane of a vector does the floating-point operations of the reference, in its order. So the generated
//! text does not depend on the build or on the number of threads.

mod check;
mod codes;
#[cfg(feature = "export-comparison")]
mod export;
mod floats;
mod output;
pub mod reference;

pub use check::compare_with_reference;
#[cfg(target_family = "wasm")]
pub use check::measure;

use crate::activations::Activations;
use crate::packed::Packed;
use crate::threads;
use output::Output;

/// A matrix product to compute, and where to write it.
pub struct Product<'a> {
    weights: &'a Packed,
    out: Output<'a>,
}

impl<'a> Product<'a> {
    /// Describes the product `out[r, o] = Σ_i input[r, i] · weights[o, i]`. `out` is `[rows, weights.rows]`.
    pub fn new(weights: &'a Packed, out: &'a mut [f32]) -> Self {
        Self { weights, out: Output::new(out, weights.rows) }
    }
}

/// Multiply-adds per piece of work: as many as are worth handing to another thread.
const MULTIPLY_ADDS_PER_PIECE: usize = 1 << 16;

/// Groups per piece at least. Kernels compute several groups at a time (`codes.rs`), which a piece of one would prevent.
const LEAST_GROUPS_PER_PIECE: usize = 4;
const _: () = assert!(LEAST_GROUPS_PER_PIECE >= codes::GROUPS);

/// Computes products with the same input, on all threads. `input` is `[rows, columns]`, `quantised` is its quantised form; each product
/// uses the one that its weights' format needs. The caller ensures that the shapes match.
pub fn multiply(products: &mut [Product<'_>], input: &[f32], quantised: &Activations) {
    let products = &*products;
    let groups: usize = products.iter().map(|product| product.weights.groups()).sum();
    let piece_size = (MULTIPLY_ADDS_PER_PIECE / (input.len() * 4).max(1)).max(LEAST_GROUPS_PER_PIECE);
    debug_assert!(products.iter().all(|product| product.weights.columns == products[0].weights.columns));
    // Each group is in exactly one range, so it is written by one thread.
    threads::for_ranges(groups, piece_size, |range| {
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
    fn the_kernels_in_use_agree_with_the_reference() {
        let (different, compared) = super::check::compare_with_reference(1, 20);
        assert!(compared > 1000);
        assert_eq!(different, 0, "of {compared}");
    }
}
