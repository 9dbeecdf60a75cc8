//! The KV cache of one sequence: appended in place, truncatable, its memory taken page by page as the context grows.
//!
//! Keys and values are kept in 16 bits, as integers with one scale per head and position. That is as small as f16, at least
//! as precise for numbers of one head, and integers can be multiplied as they are: attention needs no conversion.

use crate::error::{AiError, Result};
use crate::lanes;
use crate::memory::try_grow;

/// Positions of a page.
pub const PAGE: usize = 256;

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
}

/// Keys and values of every layer.
pub struct KvCache {
    shape: Shape,
    pages: Vec<Page>,
    length: usize,
}

/// `PAGE` positions of every layer.
struct Page {
    /// `[layer, kv_head, position, stride]`
    keys: Vec<i16>,
    /// `[layer, kv_head, position / 2, stride, 2]`: two positions side by side, whose products are summed by one instruction.
    values: Vec<i16>,
    /// `[layer, kv_head, position]`
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
}

/// One head's part of a page.
pub struct HeadPage<'a> {
    pub keys: &'a [i16],
    pub values: &'a [i16],
    pub key_scales: &'a [f32],
    pub value_scales: &'a [f32],
}

impl Page {
    fn new(shape: Shape) -> Option<Self> {
        fn zeros<T: Clone + Default>(count: usize) -> Option<Vec<T>> {
            let mut vector = Vec::new();
            try_grow(&mut vector, count).then(|| vector.resize(count, T::default()))?;
            Some(vector)
        }
        let positions = shape.layers * shape.kv_heads * PAGE;
        Some(Self {
            keys: zeros(positions * shape.stride())?,
            values: zeros(positions * shape.stride())?,
            key_scales: zeros(positions)?,
            value_scales: zeros(positions)?,
        })
    }

    fn bytes(shape: Shape) -> usize {
        shape.layers * shape.kv_heads * PAGE * 2 * (shape.stride() * size_of::<i16>() + size_of::<f32>())
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
                return Err(AiError::out_of_memory("the context (KV cache)", ((wanted - before) * Page::bytes(self.shape)) as u64));
            };
            self.pages.push(page);
        }
        Ok(())
    }

    /// Writes the key and value of one position, `[kv_heads, head_width]` each. There is room for it.
    pub fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let Shape { kv_heads, head_width, .. } = self.shape;
        let stride = self.shape.stride();
        let Some(page) = self.pages.get_mut(position / PAGE) else { return };
        for (head, (key, value)) in key.chunks_exact(head_width).zip(value.chunks_exact(head_width)).enumerate() {
            let first = (layer * kv_heads + head) * PAGE;
            let at = first + position % PAGE;
            let mut numbers = [0i16; MAX_HEAD_WIDTH];
            let key_scale = to_fixed_point(key, LARGEST, &mut numbers);
            page.keys[at * stride..(at + 1) * stride].copy_from_slice(&numbers[..stride]);
            let value_scale = to_fixed_point(value, LARGEST, &mut numbers);
            let pair = first * stride + position % PAGE / 2 * 2 * stride;
            let pairs = page.values[pair..pair + 2 * stride].as_chunks_mut::<2>().0;
            for (pair, number) in pairs.iter_mut().zip(numbers) {
                pair[position % 2] = number;
            }
            page.key_scales[at] = key_scale;
            page.value_scales[at] = value_scale;
        }
    }

    /// One head's part of page `page` of a layer.
    pub fn head_page(&self, layer: usize, head: usize, page: usize) -> HeadPage<'_> {
        let stride = self.shape.stride();
        let first = (layer * self.shape.kv_heads + head) * PAGE;
        let page = &self.pages[page];
        HeadPage {
            keys: &page.keys[first * stride..(first + PAGE) * stride],
            values: &page.values[first * stride..(first + PAGE) * stride],
            key_scales: &page.key_scales[first..first + PAGE],
            value_scales: &page.value_scales[first..first + PAGE],
        }
    }

    /// Holds the first `length` positions of `other` instead of what it held.
    pub fn copy_prefix(&mut self, other: &KvCache, length: usize) -> Result<()> {
        self.truncate(0);
        let length = length.min(other.length);
        self.reserve(length)?;
        for (page, from) in self.pages.iter_mut().zip(&other.pages).take(length.div_ceil(PAGE)) {
            page.keys.copy_from_slice(&from.keys);
            page.values.copy_from_slice(&from.values);
            page.key_scales.copy_from_slice(&from.key_scales);
            page.value_scales.copy_from_slice(&from.value_scales);
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
        for page in 0..2 {
            let (a, b) = (cache.head_page(1, 1, page), copy.head_page(1, 1, page));
            assert!(a.keys == b.keys && a.values == b.values && a.key_scales == b.key_scales && a.value_scales == b.value_scales);
        }
        let head = cache.head_page(1, 1, 1);
        let exact = row(3 * (PAGE + 5))[12..].to_vec();
        for (index, exact) in exact.iter().enumerate() {
            let value = f32::from(head.values[2 * 2 * 16 + index * 2 + 1]) * head.value_scales[5];
            assert!((value - exact).abs() < 2e-4, "{value} instead of {exact}");
        }
    }
}
