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
