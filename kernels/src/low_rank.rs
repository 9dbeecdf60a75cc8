//! What a LoRA adapter adds to a product: `scale · B·(A·x)`, with two small matrices of floats.

use crate::activations::Activations;
use crate::memory::try_grow;
use crate::ops;
use crate::packed::Packed;
use crate::products::{Product, multiply};
use crate::{Error, Result};
use std::ops::Range;

/// Scratch buffers for such products.
#[derive(Default)]
pub struct LowRankProduct {
    /// `scale · A·x`, `[rows, rank]`.
    inner: Vec<f32>,
    /// What is added, `[rows, outputs]`.
    outer: Vec<f32>,
    /// Products with floats do not use it.
    quantised: Activations,
}

impl LowRankProduct {
    /// Adds `scale · b·(a·x)` to the rows `rows` of `output`, `[rows, b.rows]`, where `x` is the same row of `input`, `[rows, a.columns]`. Each row has
    /// the same bits whatever is computed beside it. Does nothing if the shapes do not match.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the scratch buffers cannot be allocated.
    pub fn add(&mut self, a: &Packed, b: &Packed, scale: f32, rows: Range<usize>, input: &[f32], output: &mut [f32]) -> Result<()> {
        let input = input.get(rows.start * a.columns..rows.end * a.columns).unwrap_or_default();
        let output = output.get_mut(rows.start * b.rows..rows.end * b.rows).unwrap_or_default();
        let fits = a.rows == b.columns && a.columns > 0 && !a.format.is_quantised() && !b.format.is_quantised();
        if !fits || input.is_empty() || output.is_empty() {
            return Ok(());
        }
        resize(&mut self.inner, rows.len() * a.rows)?;
        resize(&mut self.outer, output.len())?;
        multiply(&mut [Product::new(a, &mut self.inner)], input, &self.quantised);
        ops::scale(&mut self.inner, scale);
        multiply(&mut [Product::new(b, &mut self.outer)], &self.inner, &self.quantised);
        ops::add(output, &self.outer);
        Ok(())
    }
}

fn resize(buffer: &mut Vec<f32>, length: usize) -> Result<()> {
    if !try_grow(buffer, length.saturating_sub(buffer.len())) {
        return Err(Error::OutOfMemory { purpose: "computing with a LoRA adapter", bytes: length as u64 * 4 });
    }
    buffer.resize(length, 0.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::packing::Packing;

    fn matrix(rows: usize, columns: usize, seed: usize) -> (Vec<f32>, Packed) {
        let numbers: Vec<f32> = (0..rows * columns).map(|index| ((index * 37 + seed) % 17) as f32 * 0.25 - 2.0).collect();
        let mut packing = Packing::new(Format::F32, rows, columns).unwrap();
        packing.write(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        (numbers, packing.finish().unwrap())
    }

    #[test]
    fn adds_to_the_given_rows_only() {
        let ((a, packed_a), (b, packed_b)) = (matrix(3, 7, 1), matrix(5, 3, 2));
        let input: Vec<f32> = (0..4 * 7).map(|index| index as f32 * 0.5 - 3.0).collect();
        let mut output = vec![1.0; 4 * 5];
        let mut product = LowRankProduct::default();
        product.add(&packed_a, &packed_b, 0.5, 1..3, &input, &mut output).unwrap();
        for (row, output) in output.chunks_exact(5).enumerate() {
            let inner: Vec<f32> = a.chunks_exact(7).map(|a| a.iter().zip(&input[row * 7..]).map(|(a, x)| a * x).sum::<f32>()).collect();
            for (b, output) in b.chunks_exact(3).zip(output) {
                let added = if (1..3).contains(&row) { 0.5 * b.iter().zip(&inner).map(|(b, t)| b * t).sum::<f32>() } else { 0.0 };
                assert!((*output - 1.0 - added).abs() < 1e-4, "row {row}: {output}, not 1 + {added}");
            }
        }
    }
}
