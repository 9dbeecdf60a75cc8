//! Products of packed matrices with activations that several of them share.

use super::activations::Activations;
use super::format::BLOCK;
use super::kernels;
use super::packed::Packed;

pub use kernels::Product;

/// The input of matrix products, and its quantised form.
#[derive(Default)]
pub struct Operand {
    pub values: Vec<f32>,
    quantised: Activations,
}

impl Operand {
    /// To be called when `values` (`[rows, columns]`) have changed, before they are multiplied.
    pub fn changed(&mut self, columns: usize) {
        if columns.is_multiple_of(BLOCK) {
            self.quantised.quantise(&self.values, columns);
        }
    }

    /// Multiplies matrices of as many columns with this input, each into its own `out`.
    pub fn multiply<const N: usize>(&self, products: [(&Packed, &mut Vec<f32>); N]) {
        let products = products.map(|(weights, out)| Product { weights, out });
        kernels::multiply(products, &self.values, &self.quantised);
    }
}
