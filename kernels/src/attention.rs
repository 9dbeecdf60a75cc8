//! Attention of one query position over a layer's cache, with grouped query heads (GQA, Ainslie et al. 2023), in one pass
//! over keys and values (online softmax, Milakov & Gimelshein 2018).
//!
//! Keys, values and softmax weights are multiplied as integers, whose sums are exact. The result for a position depends
//! neither on how many positions are computed together nor on the build: a prefix that is reused gives the same text as one
//! that is computed anew.

use crate::kv_cache::{BLOCK, Block, KvCache, LARGEST, MAX_HEAD_WIDTH, Shape, to_fixed_point};
use crate::lanes::{self, I32x4};
use crate::threads;

/// Attends with `heads` query heads from the positions `start..`, from each to the cache up to it, by all threads that there are.
/// `query` and `out` are `[positions, heads, head_width]`.
pub fn attend(cache: &KvCache, layer: usize, heads: usize, start: usize, query: &[f32], out: &mut [f32]) {
    let Shape { kv_heads, head_width, .. } = cache.shape();
    // One part per position and KV head: the query heads that share it stand side by side.
    let part = heads / kv_heads * head_width;
    threads::for_parts(out, part, |index, out| {
        let query = &query[index * part..(index + 1) * part];
        attend_from(cache, layer, index % kv_heads, start + index / kv_heads + 1, query, out);
    });
}

/// Attends from one position to the first `length` positions of the cache with the query heads that share `kv_head`. `query`
/// and `out` are `[heads of the group, head_width]`.
fn attend_from(cache: &KvCache, layer: usize, kv_head: usize, length: usize, query: &[f32], out: &mut [f32]) {
    let Shape { head_width, .. } = cache.shape();
    // Usual widths have code of their own, for up to four heads; of others each head reads keys and values for itself.
    let at_once = if matches!(head_width, 64 | 128) { 4 * head_width } else { head_width };
    for (query, out) in query.chunks(at_once).zip(out.chunks_mut(at_once)) {
        // Called through a pointer, so that each case is a function of its own: engines compile small ones sooner and better.
        let run: Run = match (query.len() / head_width, head_width) {
            (1, 64) => Heads::<1, 64>::attend,
            (2, 64) => Heads::<2, 64>::attend,
            (3, 64) => Heads::<3, 64>::attend,
            (4, 64) => Heads::<4, 64>::attend,
            (1, 128) => Heads::<1, 128>::attend,
            (2, 128) => Heads::<2, 128>::attend,
            (3, 128) => Heads::<3, 128>::attend,
            (4, 128) => Heads::<4, 128>::attend,
            _ => Heads::<1, 0>::attend,
        };
        run(cache, layer, kv_head, length, query, out);
    }
}

type Run = fn(&KvCache, usize, usize, usize, &[f32], &mut [f32]);

/// `H` query heads over the same keys and values, whose rows are `STRIDE` numbers long (0: any length).
struct Heads<const H: usize, const STRIDE: usize> {
    /// Numbers of a head in memory.
    stride: usize,
    query: [[i16; MAX_HEAD_WIDTH]; H],
    /// What a product of query and key is multiplied with, beside the key's own scale.
    factor: [f32; H],
    largest: [f32; H],
    sum: [f32; H],
    total: [[f32; MAX_HEAD_WIDTH]; H],
}

impl<const H: usize, const STRIDE: usize> Heads<H, STRIDE> {
    fn attend(cache: &KvCache, layer: usize, kv_head: usize, length: usize, query: &[f32], out: &mut [f32]) {
        let (width, stride) = (cache.shape().head_width, cache.shape().stride());
        // So that a sum over the head's width fits into 32 bits.
        let resolution = (i32::MAX / (i32::from(LARGEST) * stride.max(8) as i32)).min(i32::from(i16::MAX)) as i16;
        let mut heads = Self {
            stride,
            query: [[0; MAX_HEAD_WIDTH]; H],
            factor: [0.0; H],
            largest: [f32::NEG_INFINITY; H],
            sum: [0.0; H],
            total: [[0.0; MAX_HEAD_WIDTH]; H],
        };
        for (head, query) in query.chunks_exact(width).enumerate().take(H) {
            heads.factor[head] = to_fixed_point(query, resolution, &mut heads.query[head]) / (width as f32).sqrt();
        }
        for start in (0..length).step_by(BLOCK) {
            heads.take_in(&cache.block(layer, kv_head, start), BLOCK.min(length - start));
        }
        for (head, out) in out.chunks_exact_mut(width).enumerate().take(H) {
            for (out, total) in out.iter_mut().zip(&heads.total[head]) {
                *out = total / heads.sum[head];
            }
        }
    }

    /// Takes in the first `count` positions of a block. What lies behind them is zero or old, and counts for nothing.
    #[inline(always)]
    fn take_in(&mut self, block: &Block<'_>, count: usize) {
        let stride = if STRIDE > 0 { STRIDE } else { self.stride };
        let (keys, values) = (&block.keys[..BLOCK * stride], &block.values[..BLOCK * stride]);
        let (key_scales, value_scales) = (&block.key_scales[..BLOCK / 4], &block.value_scales[..BLOCK / 4]);

        let mut scores = [[lanes::splat(f32::NEG_INFINITY); BLOCK / 4]; H];
        for eight in 0..count.div_ceil(8) {
            let mut products = [[lanes::splat_int(0); 2]; H];
            for column in (0..stride).step_by(2) {
                // SAFETY: `keys` has `BLOCK / 8` times `stride` columns of eight positions; `column + 2 <= stride`.
                let rows = unsafe {
                    let at = keys.as_ptr().add(8 * (eight * stride + column));
                    [lanes::load_i16(at), lanes::load_i16(at.add(8))]
                };
                for (products, query) in products.iter_mut().zip(&self.query) {
                    // SAFETY: `stride` is at most `MAX_HEAD_WIDTH` (checked when a model is loaded, and by the slices above).
                    let query = unsafe { lanes::load_i16_pair(query.as_ptr().add(column)) };
                    *products = [lanes::dot_pairs(products[0], rows[0], query), lanes::dot_pairs(products[1], rows[1], query)];
                }
            }
            for half in 0..2 {
                let scale = lanes::from_slice(&key_scales[2 * eight + half]);
                for head in 0..H {
                    let factor = lanes::mul(lanes::splat(self.factor[head]), scale);
                    scores[head][2 * eight + half] = lanes::mul(lanes::to_float(products[head][half]), factor);
                }
            }
        }
        let only_first = |fours: &mut [lanes::F32x4], other: f32| {
            for (index, four) in fours.iter_mut().enumerate() {
                *four = lanes::first_lanes(count.saturating_sub(index * 4), *four, lanes::splat(other));
            }
        };
        if count < BLOCK {
            scores.iter_mut().for_each(|scores| only_first(scores, f32::NEG_INFINITY));
        }

        // Heads in turns, so that one's computation need not wait for another's.
        let mut largest = self.largest.map(lanes::splat);
        for index in 0..BLOCK / 4 {
            for head in 0..H {
                largest[head] = lanes::max(scores[head][index], largest[head]);
            }
        }
        let largest = largest.map(lanes::horizontal_max);
        let mut softmax = [[lanes::splat(0.0); BLOCK / 4]; H];
        for index in 0..BLOCK / 4 {
            for head in 0..H {
                softmax[head][index] = lanes::exp(lanes::sub(scores[head][index], lanes::splat(largest[head])));
            }
        }
        let mut weights = [[[0i16; 8]; BLOCK / 8]; H];
        let mut factors = [0f32; H];
        for head in 0..H {
            let softmax = &mut softmax[head];
            if count < BLOCK {
                only_first(softmax, 0.0);
            }
            if largest[head] > self.largest[head] {
                let correction = lanes::to_array(lanes::exp(lanes::splat(self.largest[head] - largest[head])))[0];
                self.largest[head] = largest[head];
                self.sum[head] *= correction;
                self.total[head][..stride].iter_mut().for_each(|total| *total *= correction);
            }
            self.sum[head] += lanes::horizontal_sum(softmax.iter().fold(lanes::splat(0.0), |sum, four| lanes::add(sum, *four)));
            let mut weighted = [[lanes::splat(0.0); 2]; BLOCK / 8];
            for (index, four) in softmax.iter().enumerate() {
                weighted[index / 2][index % 2] = lanes::mul(*four, lanes::from_slice(&value_scales[index]));
            }
            if count < BLOCK {
                only_first(weighted.as_flattened_mut(), 0.0);
            }
            factors[head] = lanes::to_fixed_point(&weighted, LARGEST, &mut weights[head]);
        }

        let pairs = count.div_ceil(2);
        for column in (0..stride).step_by(8) {
            let mut sums: [[I32x4; 2]; H] = [[lanes::splat_int(0); 2]; H];
            for pair in 0..pairs {
                // SAFETY: for every eight columns `values` has `BLOCK / 2` pairs of positions; `column + 8 <= stride`.
                let rows = unsafe {
                    let at = values.as_ptr().add(BLOCK * column + 16 * pair);
                    [lanes::load_i16(at), lanes::load_i16(at.add(8))]
                };
                for (sums, weights) in sums.iter_mut().zip(&weights) {
                    // SAFETY: two of `BLOCK` weights.
                    let weights = unsafe { lanes::load_i16_pair(weights.as_flattened().as_ptr().add(2 * pair)) };
                    *sums = [lanes::dot_pairs(sums[0], rows[0], weights), lanes::dot_pairs(sums[1], rows[1], weights)];
                }
            }
            for ((total, sums), factor) in self.total.iter_mut().zip(sums).zip(factors) {
                let (total, _) = total.as_chunks_mut::<4>();
                for (total, sum) in total[column / 4..].iter_mut().zip(sums) {
                    let added = lanes::add(lanes::from_slice(total), lanes::mul(lanes::to_float(sum), lanes::splat(factor)));
                    lanes::to_slice(added, total);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{RngCore, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// Random shapes and lengths against the definition in f64.
    #[test]
    fn attention_agrees_with_its_definition() {
        let mut rng = Pcg64Mcg::seed_from_u64(5);
        for _ in 0..40 {
            let mut below = |limit: usize| rng.next_u32() as usize % limit;
            let width = [64, 128, 4 * (1 + below(33))][below(3)];
            let (kv_heads, group, length, queries) = (1 + below(3), 1 + below(9), 1 + below(200), 1 + below(3));
            let mut random = |count: usize, scale: f32| -> Vec<f32> {
                (0..count).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * scale).collect()
            };
            let shape = Shape { layers: 2, kv_heads, head_width: width };
            let mut cache = KvCache::new(shape);
            cache.reserve(length + 3).expect("memory");
            let (keys, values) = (random((length + 3) * kv_heads * width, 6.0), random((length + 3) * kv_heads * width, 2.0));
            for position in 0..length + 3 {
                let row = position * kv_heads * width..(position + 1) * kv_heads * width;
                cache.write(1, position, &keys[row.clone()], &values[row]);
            }
            let heads = kv_heads * group;
            let query = random(queries * heads * width, 4.0);
            let start = length.saturating_sub(queries);
            let mut out = vec![0.0; query.len()];
            attend(&cache, 1, heads, start, &query, &mut out);

            for (index, (query, out)) in query.chunks_exact(width).zip(out.chunks_exact(width)).enumerate() {
                let (length, kv_head) = (start + index / heads + 1, index % heads / group);
                let row = |numbers: &[f32], position: usize| -> Vec<f64> {
                    numbers[(position * kv_heads + kv_head) * width..][..width].iter().map(|number| f64::from(*number)).collect()
                };
                let scores: Vec<f64> = (0..length)
                    .map(|position| {
                        let product: f64 = row(&keys, position).iter().zip(query).map(|(key, query)| key * f64::from(*query)).sum();
                        product / (width as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                let mut exact = vec![0f64; width];
                for (position, score) in scores.iter().enumerate() {
                    for (exact, value) in exact.iter_mut().zip(row(&values, position)) {
                        *exact += (score - largest).exp() / sum * value;
                    }
                }
                for (out, exact) in out.iter().zip(exact) {
                    assert!((f64::from(*out) - exact).abs() < 4e-3, "{group} heads of {width} over {length}: {out} instead of {exact}");
                }
            }
        }
    }
}
