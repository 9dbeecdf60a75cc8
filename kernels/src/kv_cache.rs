//! The KV cache of one sequence. It is appended to in place, can be truncated, and allocates memory page by page as the context grows.
//!
//! # Keys and values are integers, not f16
//!
//! Keys and values are integers with one scale per head and position. Attention multiplies them directly (`i32x4.dot_i16x8_s`). f16
//! would take four instructions per four numbers to widen, and would need fused multiply-add to be fast, whose rounding depends on the
//! processor.
//!
//! Keys are stored in 16 bits, of which 13 are used, so that the sum of a head's products fits into 32 bits. Values are stored in 12 bits,
//! four vectors in the memory of three (`tiles.rs`). So a long context reads an eighth less memory per token than with f16.
//!
//! Keys need more bits than values: the rounding error of a key is multiplied into a score and then exponentiated, while that of a value is
//! averaged over all positions. With 12 bits for both, the logits deviate nearly three times as far, and the deviation comes from the keys.
//! The softmax weights that multiply the values have 14 bits, with one scale per block of 64 positions (`attention.rs`).
//!
//! # Memory
//!
//! Memory is allocated in pages of 256 positions, which never move. Within a page, the keys and values of a head are contiguous and in the
//! order in which attention reads them, because processors prefetch only sequential reads. A long context then costs the longer of
//! computing and fetching, not the sum of both.

use crate::lanes;
use crate::memory::try_grow;
use crate::tiles::{Tile, Tile12, Tile16, as_tiles, as_tiles_mut};
use crate::{Error, Result};

/// Positions per page.
const PAGE: usize = 256;

/// Positions per block. Attention processes one block at a time.
pub const BLOCK: usize = 64;

/// The largest head width: attention's stack buffers are sized for it.
pub const MAX_HEAD_WIDTH: usize = 256;

/// The dimensions that all caches of a model share.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_width: usize,
}

impl Shape {
    /// The memory of a cache with so many positions, in bytes.
    pub fn bytes(self, positions: usize) -> u64 {
        (positions.div_ceil(PAGE) as u64).saturating_mul(Page::bytes(self))
    }

    /// Tiles of eight columns that a head spans; the last one is padded with zeros.
    pub fn column_tiles(self) -> usize {
        self.head_width.div_ceil(8)
    }

    /// The size of a block's keys, in units of `i16`.
    fn keys_len(self) -> usize {
        self.column_tiles() * (BLOCK / 8) * (size_of::<Tile16>() / size_of::<i16>())
    }

    /// The size of a block's keys and values, in units of `i16`.
    fn block_len(self) -> usize {
        self.keys_len() + self.column_tiles() * (BLOCK / 8) * (size_of::<Tile12>() / size_of::<i16>())
    }

    /// The index, within its page, of the block that holds a position.
    fn block_index(self, layer: usize, kv_head: usize, position: usize) -> usize {
        (layer * self.kv_heads + kv_head) * (PAGE / BLOCK) + position % PAGE / BLOCK
    }
}

/// The keys and values of one sequence, of every layer.
pub struct KvCache {
    shape: Shape,
    pages: Vec<Page>,
    /// Committed positions.
    length: usize,
}

/// `PAGE` positions of every layer.
struct Page {
    /// `[layer, kv_head, block, block_len]`: in each block the keys, then the values, as [`Block`] describes them.
    numbers: Vec<i16>,
    /// `[layer, kv_head, block, 2, BLOCK]`: the scales of the keys, then those of the values.
    scales: Vec<f32>,
}

/// [`BLOCK`] positions of one KV head.
pub struct Block<'a> {
    /// `[position / 8, column / 8]`: a tile's sums belong to positions, its terms to columns.
    pub keys: &'a [Tile16],
    /// `[column / 8, position / 8]`: a tile's sums belong to columns, its terms to positions.
    pub values: &'a [Tile12],
    /// `[position / 4, position % 4]`.
    pub key_scales: &'a [[f32; 4]],
    /// `[position / 4, position % 4]`.
    pub value_scales: &'a [[f32; 4]],
}

impl Page {
    /// A page of zeros, or `None` if its memory cannot be allocated.
    fn new(shape: Shape) -> Option<Self> {
        fn zeros<T: Clone + Default>(count: usize) -> Option<Vec<T>> {
            let mut vector = Vec::new();
            try_grow(&mut vector, count).then(|| vector.resize(count, T::default()))?;
            Some(vector)
        }
        let blocks = Self::blocks(shape);
        Some(Self { numbers: zeros(blocks * shape.block_len())?, scales: zeros(blocks * 2 * BLOCK)? })
    }

    fn blocks(shape: Shape) -> usize {
        shape.layers * shape.kv_heads * (PAGE / BLOCK)
    }

    fn bytes(shape: Shape) -> u64 {
        let block = shape.block_len() * size_of::<i16>() + 2 * BLOCK * size_of::<f32>();
        [shape.layers, shape.kv_heads, PAGE / BLOCK, block].iter().fold(1u64, |product, factor| product.saturating_mul(*factor as u64))
    }
}

impl KvCache {
    /// An empty cache, which has not allocated memory yet.
    pub fn new(shape: Shape) -> Self {
        Self { shape, pages: Vec::new(), length: 0 }
    }

    /// Number of committed positions.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Appends the `count` positions that were written after [`KvCache::length`] in every layer.
    pub fn commit(&mut self, count: usize) {
        self.length += count;
    }

    /// Removes every position from `length` on. Keeps the memory for later positions.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Allocates memory for `additional` positions in every layer.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it cannot be allocated. The cache is then unchanged.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        let before = self.pages.len();
        let wanted = (self.length + additional).div_ceil(PAGE);
        while self.pages.len() < wanted {
            let Some(page) = Page::new(self.shape) else {
                self.pages.truncate(before);
                let bytes = self.shape.bytes((wanted - before) * PAGE);
                return Err(Error::OutOfMemory { purpose: "the context (KV cache)", bytes });
            };
            self.pages.push(page);
        }
        Ok(())
    }

    /// Writes the key and value of one position of a layer, `[kv_heads, head_width]` each. The caller has reserved memory for it;
    /// otherwise this does nothing.
    pub fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let shape = self.shape;
        let Some(page) = self.pages.get_mut(position / PAGE) else { return };
        let at = position % BLOCK;
        for (head, (key, value)) in key.chunks_exact(shape.head_width).zip(value.chunks_exact(shape.head_width)).enumerate() {
            let block = shape.block_index(layer, head, position);
            let (keys, values) = page.numbers[block * shape.block_len()..][..shape.block_len()].split_at_mut(shape.keys_len());
            let (keys, values): (&mut [Tile16], &mut [Tile12]) = (as_tiles_mut(keys), as_tiles_mut(values));
            let (key_scales, value_scales) = page.scales[2 * block * BLOCK..][..2 * BLOCK].split_at_mut(BLOCK);

            let mut numbers = [0i16; MAX_HEAD_WIDTH];
            key_scales[at] = to_fixed_point(key, Tile16::LARGEST, &mut numbers);
            let of_eight_positions = &mut keys[at / 8 * shape.column_tiles()..][..shape.column_tiles()];
            for (tile, columns) in of_eight_positions.iter_mut().zip(numbers.as_chunks::<8>().0) {
                for (column, number) in columns.iter().enumerate() {
                    tile.set(at % 8, column, *number);
                }
            }
            value_scales[at] = to_fixed_point(value, Tile12::LARGEST, &mut numbers);
            for (of_eight_columns, columns) in values.chunks_exact_mut(BLOCK / 8).zip(numbers.as_chunks::<8>().0) {
                for (column, number) in columns.iter().enumerate() {
                    of_eight_columns[at / 8].set(column, at % 8, *number);
                }
            }
        }
    }

    /// The block of KV head `head` that begins at `position`, a multiple of [`BLOCK`]. Panics beyond the reserved positions.
    pub fn block(&self, layer: usize, head: usize, position: usize) -> Block<'_> {
        let page = &self.pages[position / PAGE];
        let block = self.shape.block_index(layer, head, position);
        let (keys, values) = page.numbers[block * self.shape.block_len()..][..self.shape.block_len()].split_at(self.shape.keys_len());
        let (key_scales, value_scales) = page.scales[2 * block * BLOCK..][..2 * BLOCK].split_at(BLOCK);
        Block {
            keys: as_tiles(keys),
            values: as_tiles(values),
            key_scales: key_scales.as_chunks().0,
            value_scales: value_scales.as_chunks().0,
        }
    }

    /// Replaces the contents by the first `length` positions of `other`, or by all if it has fewer.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if memory for them cannot be allocated. The cache is then empty.
    pub fn copy_prefix(&mut self, other: &KvCache, length: usize) -> Result<()> {
        self.truncate(0);
        let length = length.min(other.length);
        self.reserve(length)?;
        for (page, from) in self.pages.iter_mut().zip(&other.pages).take(length.div_ceil(PAGE)) {
            page.numbers.copy_from_slice(&from.numbers);
            page.scales.copy_from_slice(&from.scales);
        }
        self.length = length;
        Ok(())
    }
}

/// Quantises a head's numbers to integers of magnitude up to `largest`, writes them to `out`, padded with zeros to a multiple of 8, and
/// returns their scale. NaN makes the scale NaN.
pub fn to_fixed_point(values: &[f32], largest: i16, out: &mut [i16; MAX_HEAD_WIDTH]) -> f32 {
    let mut numbers = [[lanes::splat(0.0); 2]; MAX_HEAD_WIDTH / 8];
    for (numbers, values) in numbers.iter_mut().zip(values.chunks(8)) {
        let mut eight = [0f32; 8];
        eight[..values.len()].copy_from_slice(values);
        let fours = eight.as_chunks::<4>().0;
        *numbers = [lanes::from_slice(&fours[0]), lanes::from_slice(&fours[1])];
    }
    let count = values.len().div_ceil(8).min(numbers.len());
    lanes::to_fixed_point(&numbers[..count], largest, &mut out.as_chunks_mut::<8>().0[..count])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::{no_factors, set_factors};

    #[test]
    fn fixed_point_is_within_half_a_step() {
        let values: Vec<f32> = (0..20).map(|i| (i as f32 * 1.3).sin() * 3.0).collect();
        let mut out = [7i16; MAX_HEAD_WIDTH];
        let scale = to_fixed_point(&values, Tile16::LARGEST, &mut out);
        for (value, number) in values.iter().zip(out) {
            assert!((value - f32::from(number) * scale).abs() <= 3.0 / f32::from(Tile16::LARGEST) * 0.51);
        }
        assert_eq!(out[20..24], [0; 4]);
        assert_eq!(to_fixed_point(&[0.0; 8], Tile16::LARGEST, &mut out), 0.0);
        assert!(to_fixed_point(&[1.0, f32::NAN], Tile16::LARGEST, &mut out).is_nan());
        to_fixed_point(&[1e-42, -1e-42], Tile16::LARGEST, &mut out);
        assert!(out.iter().all(|number| number.abs() <= Tile16::LARGEST));
    }

    /// One number of a tile, read as its product with a single factor of 1.
    fn number<T: Tile>(tile: &T, sum: usize, term: usize) -> f32 {
        let mut one = [0; 8];
        one[term] = 1;
        let mut factors = no_factors::<1>();
        set_factors(&mut factors, 0, &one);
        lanes::to_array(lanes::to_float(T::dot(&[*tile], &[factors])[0][sum / 4]))[sum % 4]
    }

    #[test]
    fn a_prefix_is_copied_and_positions_are_overwritten() {
        let shape = Shape { layers: 2, kv_heads: 2, head_width: 12 };
        let row = |seed: usize| -> Vec<f32> { (0..24).map(|i| ((i + 31 * seed) as f32).cos()).collect() };
        let mut cache = KvCache::new(shape);
        cache.reserve(PAGE + 6).expect("memory");
        for layer in 0..2 {
            for position in 0..PAGE + 6 {
                cache.write(layer, position, &row(position + layer), &row(position * 3));
            }
        }
        cache.commit(PAGE + 6);
        let mut copy = KvCache::new(shape);
        copy.copy_prefix(&cache, PAGE + 2).expect("memory");
        assert_eq!(copy.length(), PAGE + 2);
        for start in (0..PAGE + 2).step_by(BLOCK) {
            let (a, b) = (cache.block(1, 1, start), copy.block(1, 1, start));
            assert!(a.keys == b.keys && a.values == b.values && a.key_scales == b.key_scales && a.value_scales == b.value_scales);
        }
        // A number is at most half a step away from the value that it represents.
        let (key_tolerance, value_tolerance) = (0.51 / f32::from(Tile16::LARGEST), 0.51 / f32::from(Tile12::LARGEST));
        let block = cache.block(1, 1, PAGE);
        let (key, value) = (row(PAGE + 5 + 1)[12..].to_vec(), row(3 * (PAGE + 5))[12..].to_vec());
        for (column, (key, value)) in key.iter().zip(value).enumerate() {
            let ours = number(&block.keys[column / 8], 5, column % 8) * block.key_scales[1][1];
            assert!((ours - key).abs() < key_tolerance, "key {ours} instead of {key}");
            let ours = number(&block.values[column / 8 * (BLOCK / 8)], column % 8, 5) * block.value_scales[1][1];
            assert!((ours - value).abs() < value_tolerance, "value {ours} instead of {value}");
        }
        // Overwrite a position, as after `truncate`, while the old positions after it are still in memory.
        let before = cache.block(1, 1, PAGE).values[0];
        cache.write(1, PAGE + 2, &row(7), &row(9));
        let after = cache.block(1, 1, PAGE);
        assert!((number(&after.values[0], 3, 2) * after.value_scales[0][2] - row(9)[15]).abs() < value_tolerance);
        for position in [0, 1, 3, 4, 5] {
            assert_eq!(number(&after.values[0], 3, position), number(&before, 3, position));
        }
    }
}
