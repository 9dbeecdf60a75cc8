//! The output of a matrix product. Several threads write different groups of it at the same time.

use crate::lanes::{self, F32x4};
use crate::packed::ROWS;
use std::marker::PhantomData;

/// An output `[rows, outputs]`, written in groups of four outputs, as weights are packed in groups of four rows.
pub struct Output<'a> {
    start: *mut f32,
    length: usize,
    outputs: usize,
    _borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: `write` is the only access, and `products::multiply`, which shares an `Output`, assigns each group to one thread.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// `out` is `[rows, outputs]`.
    pub fn new(out: &'a mut [f32], outputs: usize) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), outputs, _borrowed: PhantomData }
    }

    /// Writes the four outputs of group `group` in row `row`. Drops those beyond the last output. Panics if the row is out of range.
    #[inline(always)]
    pub fn write(&self, row: usize, group: usize, values: F32x4) {
        let first = group * ROWS;
        let at = row * self.outputs + first;
        let count = self.outputs.saturating_sub(first).min(ROWS);
        assert!(at + count <= self.length, "row out of range");
        // SAFETY: `at..at + count` is inside the borrowed slice (asserted), and no other thread writes this group.
        unsafe {
            if count == ROWS {
                lanes::to_slice(values, &mut *self.start.add(at).cast());
            } else {
                std::ptr::copy_nonoverlapping(lanes::to_array(values).as_ptr(), self.start.add(at), count);
            }
        }
    }
}
