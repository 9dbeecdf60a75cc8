//! Where a matrix product goes: several threads write different groups of it at once.

use crate::lanes::{self, F32x4};
use crate::packed::ROWS;
use std::marker::PhantomData;

/// `[rows, outputs]`, to be written by groups of four outputs.
pub struct Output<'a> {
    start: *mut f32,
    length: usize,
    outputs: usize,
    _borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: `write` is the only access, and whoever shares an `Output` gives each group to one thread (see `products`).
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    pub fn new(out: &'a mut [f32], outputs: usize) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), outputs, _borrowed: PhantomData }
    }

    /// Writes the outputs of one group for one row; those behind the last one are left out.
    #[inline(always)]
    pub fn write(&self, row: usize, group: usize, values: F32x4) {
        let first = group * ROWS;
        let at = row * self.outputs + first;
        let count = self.outputs.saturating_sub(first).min(ROWS);
        assert!(at + count <= self.length, "a row beyond the output");
        // SAFETY: `at..at + count` is inside the borrowed slice (asserted), and no other thread has this group.
        unsafe {
            if count == ROWS {
                lanes::to_slice(values, &mut *self.start.add(at).cast());
            } else {
                std::ptr::copy_nonoverlapping(lanes::to_array(values).as_ptr(), self.start.add(at), count);
            }
        }
    }
}
