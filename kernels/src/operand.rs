//! Products of packed matrices with activations that several of them share.

use crate::activations::Activations;
use crate::planes::BLOCK;
use crate::products::{self, Product};

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

    /// Computes products of this input with matrices of as many columns.
    pub fn multiply(&self, products: &mut [Product<'_>]) {
        products::multiply(products, &self.values, &self.quantised);
    }
}
