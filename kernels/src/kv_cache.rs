//! The KV cache of one sequence: appended in place, truncatable, its memory taken page by page as the context grows.
//!
//! Keys and values are kept in 16 bits, as integers with one scale per head and position. That is as small as f16, at least
//! as precise for numbers of one head, and integers can be multiplied as they are: attention needs no conversion.
//!
//! The keys and values of one head lie in the order in which attention reads them, without a gap: processors fetch ahead what is
//! read in order, so that a long context costs the time in which it can be computed or fetched, not the sum of both.

use crate::lanes;
use crate::memory::try_grow;
use crate::{Refusal, Result};

/// Positions of a page.
const PAGE: usize = 256;

/// Positions that attention takes in at once.
pub const BLOCK: usize = 32;

/// The largest head that attention has room for on the stack.
pub const MAX_HEAD_WIDTH: usize = 256;

/// Largest magnitude of a key's or value's number. With 13 bits 32 products of two such numbers still fit into 32 bits.
pub const LARGEST: i16 = 8191;

/// What the caches of a model have in common.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_width: usize,
}

impl Shape {
    /// Numbers of a head in memory: its width, filled up to whole vectors.
    pub fn stride(self) -> usize {
        self.head_width.next_multiple_of(8)
    }

    /// Which block of its page holds a position.
    fn block(self, layer: usize, kv_head: usize, position: usize) -> usize {
        (layer * self.kv_heads + kv_head) * (PAGE / BLOCK) + position % PAGE / BLOCK
    }
}

/// Keys and values of every layer.
pub struct KvCache {
    shape: Shape,
    pages: Vec<Page>,
    length: usize,
}

/// `PAGE` positions of every layer.
struct Page {
    /// `[layer, kv_head, block]`, in each the keys and then the values of [`Block`].
    numbers: Vec<i16>,
    /// `[layer, kv_head, block, 2, BLOCK]`: the keys' scales and then the values'.
    scales: Vec<f32>,
}

/// `BLOCK` positions of one head. Numbers whose products belong to one sum stand in pairs: one instruction multiplies and adds them.
pub struct Block<'a> {
    /// `[position / 8, column / 2, 8 positions, 2 columns]`
    pub keys: &'a [i16],
    /// `[column / 8, position / 2, 8 columns, 2 positions]`
    pub values: &'a [i16],
    /// By position, four at a time.
    pub key_scales: &'a [[f32; 4]],
    pub value_scales: &'a [[f32; 4]],
}

impl Page {
    fn new(shape: Shape) -> Option<Self> {
        fn zeros<T: Clone + Default>(count: usize) -> Option<Vec<T>> {
            let mut vector = Vec::new();
            try_grow(&mut vector, count).then(|| vector.resize(count, T::default()))?;
            Some(vector)
        }
        let scales = shape.layers * shape.kv_heads * 2 * PAGE;
        Some(Self { numbers: zeros(scales * shape.stride())?, scales: zeros(scales)? })
    }

    fn bytes(shape: Shape) -> usize {
        shape.layers * shape.kv_heads * 2 * PAGE * (shape.stride() * size_of::<i16>() + size_of::<f32>())
    }
}

impl KvCache {
    pub fn new(shape: Shape) -> Self {
        Self { shape, pages: Vec::new(), length: 0 }
    }

    /// Positions that are computed.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Every layer got `count` further positions.
    pub fn commit(&mut self, count: usize) {
        self.length += count;
    }

    /// Forgets every position from `length` on. Memory stays for the next positions.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Makes room for `additional` positions in every layer, or leaves everything as it is.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        let before = self.pages.len();
        let wanted = (self.length + additional).div_ceil(PAGE);
        while self.pages.len() < wanted {
            let Some(page) = Page::new(self.shape) else {
                self.pages.truncate(before);
                let bytes = (wanted - before) * Page::bytes(self.shape);
                return Err(Refusal::OutOfMemory { purpose: "the context (KV cache)", bytes: bytes as u64 });
            };
            self.pages.push(page);
        }
        Ok(())
    }

    /// Writes the key and value of one position, `[kv_heads, head_width]` each. There is room for it.
    pub fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let head_width = self.shape.head_width;
        let stride = self.shape.stride();
        let Some(page) = self.pages.get_mut(position / PAGE) else { return };
        let at = position % BLOCK;
        for (head, (key, value)) in key.chunks_exact(head_width).zip(value.chunks_exact(head_width)).enumerate() {
            let first = 2 * BLOCK * self.shape.block(layer, head, position);
            let (keys, values) = page.numbers[first * stride..(first + 2 * BLOCK) * stride].split_at_mut(BLOCK * stride);
            let (key_scales, value_scales) = page.scales[first..first + 2 * BLOCK].split_at_mut(BLOCK);

            let mut numbers = [0i16; MAX_HEAD_WIDTH];
            key_scales[at] = to_fixed_point(key, LARGEST, &mut numbers);
            let eight = &mut keys[at / 8 * 8 * stride..][..8 * stride];
            for (positions, pair) in eight.as_chunks_mut::<16>().0.iter_mut().zip(numbers.as_chunks::<2>().0) {
                positions[at % 8 * 2..][..2].copy_from_slice(pair);
            }
            value_scales[at] = to_fixed_point(value, LARGEST, &mut numbers);
            for (pairs, eight) in values.as_chunks_mut::<{ 8 * BLOCK }>().0.iter_mut().zip(numbers.as_chunks::<8>().0) {
                for (column, number) in eight.iter().enumerate() {
                    pairs[at / 2 * 16 + column * 2 + at % 2] = *number;
                }
            }
        }
    }

    /// One head's keys and values from `position` on, a multiple of `BLOCK`.
    pub fn block(&self, layer: usize, head: usize, position: usize) -> Block<'_> {
        let stride = self.shape.stride();
        let page = &self.pages[position / PAGE];
        let first = 2 * BLOCK * self.shape.block(layer, head, position);
        let (keys, values) = page.numbers[first * stride..(first + 2 * BLOCK) * stride].split_at(BLOCK * stride);
        let (key_scales, value_scales) = page.scales[first..first + 2 * BLOCK].split_at(BLOCK);
        Block { keys, values, key_scales: key_scales.as_chunks().0, value_scales: value_scales.as_chunks().0 }
    }

    /// Holds the first `length` positions of `other` instead of what it held.
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

/// Writes a head's numbers as integers up to `±largest` to `out`, filled up with zeros to a multiple of 8, and gives their scale.
/// NaN makes the scale NaN.
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

    #[test]
    fn fixed_point_keeps_13_bits() {
        let values: Vec<f32> = (0..20).map(|i| (i as f32 * 1.3).sin() * 3.0).collect();
        let mut out = [7i16; MAX_HEAD_WIDTH];
        let scale = to_fixed_point(&values, LARGEST, &mut out);
        for (value, number) in values.iter().zip(out) {
            assert!((value - f32::from(number) * scale).abs() <= 3.0 / f32::from(8191i16) * 0.51);
        }
        assert_eq!(out[20..24], [0; 4]);
        assert_eq!(to_fixed_point(&[0.0; 8], LARGEST, &mut out), 0.0);
        assert!(to_fixed_point(&[1.0, f32::NAN], LARGEST, &mut out).is_nan());
        to_fixed_point(&[1e-42, -1e-42], LARGEST, &mut out);
        assert!(out.iter().all(|number| number.abs() <= LARGEST));
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
        let block = cache.block(1, 1, PAGE);
        let (key, value) = (row(PAGE + 5 + 1)[12..].to_vec(), row(3 * (PAGE + 5))[12..].to_vec());
        for (column, (key, value)) in key.iter().zip(value).enumerate() {
            let ours = f32::from(block.keys[column / 2 * 16 + 5 * 2 + column % 2]) * block.key_scales[1][1];
            assert!((ours - key).abs() < 2e-4, "key {ours} instead of {key}");
            let ours = f32::from(block.values[column / 8 * 8 * BLOCK + 2 * 16 + column % 8 * 2 + 1]) * block.value_scales[1][1];
            assert!((ours - value).abs() < 2e-4, "value {ours} instead of {value}");
        }
    }
}
