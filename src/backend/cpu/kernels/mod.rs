//! Matrix products over packed weights: the plain twin, which defines the result, and SIMD variants that give the same
//! bits.
//!
//! Integer sums are exact, and every lane of the SIMD code does the twin's floating-point operations in the twin's
//! order; so text does not depend on which of them computed it.

#[cfg(any(test, target_arch = "wasm32"))]
mod check;
pub mod plain;
#[cfg(target_feature = "simd128")]
mod simd128;

#[cfg(target_arch = "wasm32")]
pub use check::compare_with_twin;

use super::activations::Activations;
use super::packed::Packed;

/// `out[r, o] = Σ_i input[r, i] · weights[o, i]`. `out` is `[input.rows(), weights.rows]`, the columns are as many: the
/// caller sees to it.
pub fn multiply(weights: &Packed, input: &Activations, out: &mut [f32]) {
    #[cfg(target_feature = "simd128")]
    simd128::multiply(weights, input, out);
    #[cfg(not(target_feature = "simd128"))]
    plain::multiply(weights, input, out);
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
