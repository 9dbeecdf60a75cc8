//! The KV cache of one sequence: appended in place, truncatable, its memory taken page by page as the context grows.
//!
//! Keys and values are integers with one scale per head and position, keys in 16 bits and values in 12: what is rounded away in
//! a key is multiplied into a score and then exponentiated, what is in a value is averaged over all positions. Integers can be
//! multiplied as they are, and a long context has to fetch an eighth less than f16 for every token.
//!
//! The keys and values of one head lie in the order in which attention reads them, without a gap: processors fetch ahead what is
//! read in order, so that a long context costs the time in which it can be computed or fetched, not the sum of both.

use crate::groups::{Group, Narrow, Wide, groups, groups_mut};
use crate::lanes;
use crate::memory::try_grow;
use crate::{Refusal, Result};

/// Positions of a page.
const PAGE: usize = 256;

/// Positions that attention takes in at once.
pub const BLOCK: usize = 64;

/// The largest head that attention has room for on the stack.
pub const MAX_HEAD_WIDTH: usize = 256;

/// What the caches of a model have in common.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_width: usize,
}

impl Shape {
    /// Groups of eight columns, the last one filled up.
    pub fn octets(self) -> usize {
        self.head_width.div_ceil(8)
    }

    /// What the keys of a block take, in 16 bits.
    fn keys(self) -> usize {
        self.octets() * (BLOCK / 8) * (size_of::<Wide>() / size_of::<i16>())
    }

    /// The same for a block's keys and values.
    fn numbers(self) -> usize {
        self.keys() + self.octets() * (BLOCK / 8) * (size_of::<Narrow>() / size_of::<i16>())
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

/// `BLOCK` positions of one head.
pub struct Block<'a> {
    /// `[position / 8, column / 8]`: the sums are the positions', the terms columns.
    pub keys: &'a [Wide],
    /// `[column / 8, position / 8]`: the sums are the columns', the terms positions.
    pub values: &'a [Narrow],
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
        let blocks = Self::blocks(shape);
        Some(Self { numbers: zeros(blocks * shape.numbers())?, scales: zeros(blocks * 2 * BLOCK)? })
    }

    fn blocks(shape: Shape) -> usize {
        shape.layers * shape.kv_heads * (PAGE / BLOCK)
    }

    fn bytes(shape: Shape) -> usize {
        Self::blocks(shape) * (shape.numbers() * size_of::<i16>() + 2 * BLOCK * size_of::<f32>())
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
        let shape = self.shape;
        let Some(page) = self.pages.get_mut(position / PAGE) else { return };
        let at = position % BLOCK;
        for (head, (key, value)) in key.chunks_exact(shape.head_width).zip(value.chunks_exact(shape.head_width)).enumerate() {
            let block = shape.block(layer, head, position);
            let (keys, values) = page.numbers[block * shape.numbers()..][..shape.numbers()].split_at_mut(shape.keys());
            let (keys, values): (&mut [Wide], &mut [Narrow]) = (groups_mut(keys), groups_mut(values));
            let (key_scales, value_scales) = page.scales[2 * block * BLOCK..][..2 * BLOCK].split_at_mut(BLOCK);

            let mut numbers = [0i16; MAX_HEAD_WIDTH];
            key_scales[at] = to_fixed_point(key, Wide::LARGEST, &mut numbers);
            let of_eight_positions = &mut keys[at / 8 * shape.octets()..][..shape.octets()];
            for (group, columns) in of_eight_positions.iter_mut().zip(numbers.as_chunks::<8>().0) {
                for (column, number) in columns.iter().enumerate() {
                    group.set(at % 8, column, *number);
                }
            }
            value_scales[at] = to_fixed_point(value, Narrow::LARGEST, &mut numbers);
            for (of_eight_columns, columns) in values.chunks_exact_mut(BLOCK / 8).zip(numbers.as_chunks::<8>().0) {
                for (column, number) in columns.iter().enumerate() {
                    of_eight_columns[at / 8].set(column, at % 8, *number);
                }
            }
        }
    }

    /// One head's keys and values from `position` on, a multiple of `BLOCK`.
    pub fn block(&self, layer: usize, head: usize, position: usize) -> Block<'_> {
        let page = &self.pages[position / PAGE];
        let block = self.shape.block(layer, head, position);
        let (keys, values) = page.numbers[block * self.shape.numbers()..][..self.shape.numbers()].split_at(self.shape.keys());
        let (key_scales, value_scales) = page.scales[2 * block * BLOCK..][..2 * BLOCK].split_at(BLOCK);
        Block { keys: groups(keys), values: groups(values), key_scales: key_scales.as_chunks().0, value_scales: value_scales.as_chunks().0 }
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
    use crate::groups::{no_factors, set_factors};

    #[test]
    fn fixed_point_is_within_half_a_step() {
        let values: Vec<f32> = (0..20).map(|i| (i as f32 * 1.3).sin() * 3.0).collect();
        let mut out = [7i16; MAX_HEAD_WIDTH];
        let scale = to_fixed_point(&values, Wide::LARGEST, &mut out);
        for (value, number) in values.iter().zip(out) {
            assert!((value - f32::from(number) * scale).abs() <= 3.0 / f32::from(Wide::LARGEST) * 0.51);
        }
        assert_eq!(out[20..24], [0; 4]);
        assert_eq!(to_fixed_point(&[0.0; 8], Wide::LARGEST, &mut out), 0.0);
        assert!(to_fixed_point(&[1.0, f32::NAN], Wide::LARGEST, &mut out).is_nan());
        to_fixed_point(&[1e-42, -1e-42], Wide::LARGEST, &mut out);
        assert!(out.iter().all(|number| number.abs() <= Wide::LARGEST));
    }

    /// One of a group's numbers: its product with a single 1.
    fn number<G: Group>(group: &G, sum: usize, term: usize) -> f32 {
        let mut one = [0; 8];
        one[term] = 1;
        let mut factors = no_factors::<1>();
        set_factors(&mut factors, 0, &one);
        lanes::to_array(lanes::to_float(G::dot(&[*group], &[factors])[0][sum / 4]))[sum % 4]
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
        // A number is at most half of a step away from what it stands for.
        let (key_tolerance, value_tolerance) = (0.51 / f32::from(Wide::LARGEST), 0.51 / f32::from(Narrow::LARGEST));
        let block = cache.block(1, 1, PAGE);
        let (key, value) = (row(PAGE + 5 + 1)[12..].to_vec(), row(3 * (PAGE + 5))[12..].to_vec());
        for (column, (key, value)) in key.iter().zip(value).enumerate() {
            let ours = number(&block.keys[column / 8], 5, column % 8) * block.key_scales[1][1];
            assert!((ours - key).abs() < key_tolerance, "key {ours} instead of {key}");
            let ours = number(&block.values[column / 8 * (BLOCK / 8)], column % 8, 5) * block.value_scales[1][1];
            assert!((ours - value).abs() < value_tolerance, "value {ours} instead of {value}");
        }
        // Written again, as after a `truncate`, with what stands behind it still there.
        let before = cache.block(1, 1, PAGE).values[0];
        cache.write(1, PAGE + 2, &row(7), &row(9));
        let after = cache.block(1, 1, PAGE);
        assert!((number(&after.values[0], 3, 2) * after.value_scales[0][2] - row(9)[15]).abs() < value_tolerance);
        for position in [0, 1, 3, 4, 5] {
            assert_eq!(number(&after.values[0], 3, position), number(&before, 3, position));
        }
    }
}
