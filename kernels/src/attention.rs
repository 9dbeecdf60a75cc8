//! Attention of one query position over a layer's cache, with grouped query heads (GQA, Ainslie et al. 2023), in one pass
//! over keys and values (online softmax, Milakov & Gimelshein 2018).
//!
//! Keys, values and softmax weights are multiplied as integers, whose sums are exact. The result for a position depends
//! neither on how many positions are computed together nor on the build: a prefix that is reused gives the same text as one
//! that is computed anew.

use crate::groups::{Factors, Group, Narrow, Wide, largest_factor, no_factors, set_factors};
use crate::kv_cache::{BLOCK, Block, KvCache, MAX_HEAD_WIDTH, Shape, to_fixed_point};
use crate::lanes::{self, Exp2, F32x4};
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
    // As many heads at once as have their sums in the processor's registers.
    let at_once = 4 * head_width;
    for (query, out) in query.chunks(at_once).zip(out.chunks_mut(at_once)) {
        // Called through a pointer, so that each case is a function of its own: engines compile small ones sooner and better.
        let run: Run = match query.len() / head_width {
            1 => Heads::<1>::attend,
            2 => Heads::<2>::attend,
            3 => Heads::<3>::attend,
            _ => Heads::<4>::attend,
        };
        run(cache, layer, kv_head, length, query, out);
    }
}

type Run = fn(&KvCache, usize, usize, usize, &[f32], &mut [f32]);

/// Groups of eight columns that there is room for.
const OCTETS: usize = MAX_HEAD_WIDTH / 8;
/// Groups of eight positions of a block.
const EIGHTS: usize = BLOCK / 8;

/// `H` query heads over the same keys and values. Scores are logarithms to the base 2.
struct Heads<const H: usize> {
    query: [Factors<H>; OCTETS],
    /// What a product of query and key is multiplied with, beside the key's own scale.
    factor: [F32x4; H],
    /// Largest score up to now, in all lanes.
    largest: [F32x4; H],
    /// Sum of the softmax's numerators, in four parts, and the values weighted with them, both relative to the largest score.
    sum: [F32x4; H],
    total: [[[F32x4; 2]; H]; OCTETS],
    /// What a block needs, kept so that it is not cleared for each: scores, and then the weights of the values.
    scores: [[[F32x4; 2]; EIGHTS]; H],
    weights: [Factors<H>; EIGHTS],
}

impl<const H: usize> Heads<H> {
    fn attend(cache: &KvCache, layer: usize, kv_head: usize, length: usize, query: &[f32], out: &mut [f32]) {
        let shape = cache.shape();
        let (width, octets) = (shape.head_width, shape.octets());
        let zero = lanes::splat(0.0);
        let mut heads = Self {
            query: [no_factors(); OCTETS],
            factor: [zero; H],
            largest: [lanes::splat(f32::NEG_INFINITY); H],
            sum: [zero; H],
            total: [[[zero; 2]; H]; OCTETS],
            scores: [[[zero; 2]; EIGHTS]; H],
            weights: [no_factors(); EIGHTS],
        };
        for (head, query) in query.chunks_exact(width).enumerate().take(H) {
            let mut numbers = [0; MAX_HEAD_WIDTH];
            let scale = to_fixed_point(query, largest_factor(8 * octets, Wide::LARGEST), &mut numbers);
            heads.factor[head] = lanes::splat(scale / (width as f32).sqrt() * std::f32::consts::LOG2_E);
            for (factors, numbers) in heads.query.iter_mut().zip(numbers.as_chunks().0) {
                set_factors(factors, head, numbers);
            }
        }
        let exp2 = Exp2::new();
        for start in (0..length).step_by(BLOCK) {
            heads.take_in(&cache.block(layer, kv_head, start), octets, BLOCK.min(length - start), &exp2);
        }
        for (head, out) in out.chunks_exact_mut(width).enumerate().take(H) {
            let sum = lanes::splat(lanes::horizontal_sum(heads.sum[head]));
            for (out, total) in out.chunks_mut(8).zip(&heads.total) {
                let eight = total[head].map(|total| lanes::to_array(lanes::div(total, sum)));
                for (out, number) in out.iter_mut().zip(eight.as_flattened()) {
                    *out = *number;
                }
            }
        }
    }

    /// Takes in the first `count` positions of a block. What lies behind them is zero or old, and counts for nothing.
    #[inline(always)]
    fn take_in(&mut self, block: &Block<'_>, octets: usize, count: usize, exp2: &Exp2) {
        let eights = count.div_ceil(8).min(EIGHTS);
        let Self { query, factor, largest, sum, total, scores, weights } = self;
        let (query, weights) = (&query[..octets], &mut weights[..eights]);

        let key_scales = block.key_scales.as_chunks::<2>().0;
        for (eight, (keys, scales)) in block.keys.chunks_exact(octets).zip(key_scales).enumerate().take(eights) {
            let products = Wide::dot(keys, query);
            for half in 0..2 {
                let scale = lanes::from_slice(&scales[half]);
                for head in 0..H {
                    let product = lanes::mul(lanes::to_float(products[head][half]), scale);
                    scores[head][eight][half] = lanes::mul(product, factor[head]);
                }
            }
        }
        if count % 8 > 0 {
            for scores in scores.iter_mut() {
                only_first(count % 8, &mut scores[eights - 1], f32::NEG_INFINITY);
            }
        }

        // Heads in turns, so that one's computation need not wait for another's.
        let mut largest_here = [lanes::splat(f32::NEG_INFINITY); H];
        for eight in 0..eights {
            for head in 0..H {
                let [low, high] = scores[head][eight];
                largest_here[head] = lanes::max(high, lanes::max(low, largest_here[head]));
            }
        }
        let largest_here = largest_here.map(lanes::splat_of_largest);
        let mut sum_here = [lanes::splat(0.0); H];
        let value_scales = block.value_scales.as_chunks::<2>().0;
        for (eight, value_scales) in value_scales.iter().enumerate().take(eights) {
            let value_scales = value_scales.each_ref().map(lanes::from_slice);
            for head in 0..H {
                let scores = &mut scores[head][eight];
                let softmax = scores.map(|four| exp2.of(lanes::sub(four, largest_here[head])));
                sum_here[head] = lanes::add(sum_here[head], lanes::add(softmax[0], softmax[1]));
                *scores = [lanes::mul(softmax[0], value_scales[0]), lanes::mul(softmax[1], value_scales[1])];
            }
        }
        // By how much what was there before counts from now on, and what is added.
        let mut corrections = [[lanes::splat(0.0); 2]; H];
        for head in 0..H {
            if count % 8 > 0 {
                only_first(count % 8, &mut scores[head][eights - 1], 0.0);
            }
            let mut numbers = [[0i16; 8]; EIGHTS];
            let scale = lanes::to_fixed_point(&scores[head][..eights], largest_factor(BLOCK, Narrow::LARGEST), &mut numbers);
            for (weights, numbers) in weights.iter_mut().zip(&numbers) {
                set_factors(weights, head, numbers);
            }
            let now = lanes::max(largest[head], largest_here[head]);
            let before = exp2.of(lanes::sub(largest[head], now));
            let here = exp2.of(lanes::sub(largest_here[head], now));
            largest[head] = now;
            sum[head] = lanes::add(lanes::mul(sum[head], before), lanes::mul(sum_here[head], here));
            corrections[head] = [before, lanes::mul(here, lanes::splat(scale))];
        }

        for (values, total) in block.values.chunks_exact(EIGHTS).zip(total) {
            let products = Narrow::dot(values, weights);
            for head in 0..H {
                let [before, here] = corrections[head];
                for half in 0..2 {
                    let added = lanes::mul(lanes::to_float(products[head][half]), here);
                    total[head][half] = lanes::add(lanes::mul(total[head][half], before), added);
                }
            }
        }
    }
}

/// Eight lanes, of which those from `count` on become `other`.
fn only_first(count: usize, eight: &mut [F32x4; 2], other: f32) {
    for (index, four) in eight.iter_mut().enumerate() {
        *four = lanes::first_lanes(count.saturating_sub(index * 4), *four, lanes::splat(other));
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
