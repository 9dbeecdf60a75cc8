//! One input that several matrix products share.

use crate::activations::Activations;
use crate::planes::BLOCK;
use crate::products::{self, Product};

/// The input of matrix products, as f32 and in quantised form.
#[derive(Default)]
pub struct Operand {
    /// `[rows, columns]`. Call [`Operand::quantise`] after every change.
    pub values: Vec<f32>,
    quantised: Activations,
}

impl Operand {
    /// Updates the quantised form from `values`. Call it after every change of `values` and before [`Operand::multiply`]. Does nothing
    /// unless `columns` is a multiple of 32, as every quantised format requires.
    pub fn quantise(&mut self, columns: usize) {
        if columns.is_multiple_of(BLOCK) {
            self.quantised.quantise(&self.values, columns);
        }
    }

    /// Multiplies this input by several matrices, each with as many columns as the input.
    pub fn multiply(&self, products: &mut [Product<'_>]) {
        products::multiply(products, &self.values, &self.quantised);
    }
}
