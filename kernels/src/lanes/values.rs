//! Activations in 16 bits.

use crate::planes::BLOCK;

/// The activations of a block.
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
