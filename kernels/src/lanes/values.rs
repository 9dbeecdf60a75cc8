//! Activations as 16-bit integers.

use crate::planes::BLOCK;

/// The 32 quantised activations of a block.
#[derive(Clone, Copy, Default)]
pub struct Values(pub(super) [i16; BLOCK]);

impl Values {
    pub fn new(numbers: &[i16; BLOCK]) -> Self {
        Self(*numbers)
    }

    pub fn numbers(&self) -> [i16; BLOCK] {
        self.0
    }
}

/// A block's activations of four rows: `[pair of columns, row, column of the pair]`.
#[derive(Clone, Copy, Default)]
pub struct QuadValues(pub(super) [[i16; 8]; BLOCK / 2]);

impl QuadValues {
    /// Sets one row, 0 to 3.
    pub fn set(&mut self, row: usize, numbers: &[i16; BLOCK]) {
        for (four, pair) in self.0.iter_mut().zip(numbers.as_chunks().0) {
            four.as_chunks_mut::<2>().0[row] = *pair;
        }
    }

    pub fn numbers(&self, row: usize) -> [i16; BLOCK] {
        std::array::from_fn(|column| self.0[column / 2][2 * row + column % 2])
    }
}
