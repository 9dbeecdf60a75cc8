//! Attention over a layer's KV cache, with grouped-query heads (GQA, Ainslie et al. 2023), in one pass over keys and values (online
//! softmax, Milakov & Gimelshein 2018).
//!
//! Keys, values and softmax weights are multiplied as integers, so sums are exact. Each query position is computed separately. Its result
//! depends neither on how many positions are computed together nor on the build: a reused prefix produces the same text as a
//! recomputed one.

use crate::kv_cache::{BLOCK, Block, KvCache, MAX_HEAD_WIDTH, Shape, to_fixed_point};
use crate::lanes::{self, Exp2, F32x4};
use crate::threads;
use crate::tiles::{Factors, Tile, Tile12, Tile16, largest_factor, no_factors, set_factors};
use std::ops::Range;

/// What a layer's attention has beyond its shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scoring {
    /// Products of query and key are divided by this number.
    pub divisor: f32,
    /// A score `x` becomes `softcap · tanh(x / softcap)`.
    pub softcap: Option<f32>,
    pub mask: Mask,
}

/// Which positions a position sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Those up to and including itself; with a window only so many, itself included: the latest ones.
    Causal { window: Option<usize> },
    /// Earlier and later ones; with a window only those at most half of it away.
    Symmetric { window: Option<usize> },
}

impl Mask {
    /// The positions that `position` sees among the first `length`.
    fn seen(self, position: usize, length: usize) -> Range<usize> {
        match self {
            Self::Causal { window } => window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1,
            Self::Symmetric { window: None } => 0..length,
            Self::Symmetric { window: Some(window) } => {
                let half = window / 2;
                position.saturating_sub(half)..length.min(position.saturating_add(half + 1))
            }
        }
    }
}

/// Attention on all threads, from the query positions `from` to the positions of the cache that the mask lets them see. `query` and `out` are
/// `[positions, heads, head_width]`. `heads` is a multiple of the cache's `kv_heads`. The keys and values of the query positions must be
/// written before; with a symmetric mask, the last query position is the last one of its text.
pub fn attend(cache: &KvCache, layer: usize, heads: usize, from: Range<usize>, scoring: &Scoring, query: &[f32], out: &mut [f32]) {
    let Shape { kv_heads, head_width, .. } = cache.shape();
    // One part per position and KV head: the query heads that share a KV head are adjacent.
    let part = heads / kv_heads * head_width;
    threads::for_parts(out, part, |index, out| {
        let query = &query[index * part..(index + 1) * part];
        let seen = scoring.mask.seen(from.start + index / kv_heads, from.end);
        attend_from(cache, layer, index % kv_heads, seen, scoring, query, out);
    });
}

/// Attends from one position to the positions `seen` of the cache, with the query heads that share `kv_head`. `query` and `out` are
/// `[query heads per KV head, head_width]`.
fn attend_from(cache: &KvCache, layer: usize, kv_head: usize, seen: Range<usize>, scoring: &Scoring, query: &[f32], out: &mut [f32]) {
    let Shape { head_width, .. } = cache.shape();
    // As many heads at once as have their sums in registers.
    let at_once = 4 * head_width;
    for (query, out) in query.chunks(at_once).zip(out.chunks_mut(at_once)) {
        // Called through a pointer, so that each case stays a separate function: engines compile small ones sooner and better.
        let run: Run = match query.len() / head_width {
            1 => Heads::<1>::attend,
            2 => Heads::<2>::attend,
            3 => Heads::<3>::attend,
            _ => Heads::<4>::attend,
        };
        run(cache, layer, kv_head, seen.clone(), scoring, query, out);
    }
}

type Run = fn(&KvCache, usize, usize, Range<usize>, &Scoring, &[f32], &mut [f32]);

/// The most tiles of eight columns that a head spans.
const MAX_COLUMN_TILES: usize = MAX_HEAD_WIDTH / 8;
/// Tiles of eight positions per block.
const POSITION_TILES: usize = BLOCK / 8;

/// The state of `H` query heads over the same keys and values. Scores are in base 2: `log2 e` is part of `factor`.
struct Heads<const H: usize> {
    /// The quantised queries.
    query: [Factors<H>; MAX_COLUMN_TILES],
    /// Multiplies each integer product of query and key, in addition to the key's scale.
    factor: [F32x4; H],
    /// The largest score so far, in all lanes.
    largest: [F32x4; H],
    /// Four partial sums of the softmax numerators, relative to the largest score.
    sum: [F32x4; H],
    /// The sum of the values weighted by these numerators: `[column / 8, head, column / 4 % 2]`.
    total: [[[F32x4; 2]; H]; MAX_COLUMN_TILES],
    /// Scratch of one block, kept here so that it is not cleared for each block: the scores, which then become the weights of the values.
    /// `[head, position / 8, position / 4 % 2]`.
    scores: Scores<H>,
    /// Scratch of one block: the quantised weights of the values.
    weights: [Factors<H>; POSITION_TILES],
}

impl<const H: usize> Heads<H> {
    fn attend(cache: &KvCache, layer: usize, kv_head: usize, seen: Range<usize>, scoring: &Scoring, query: &[f32], out: &mut [f32]) {
        let shape = cache.shape();
        let (width, column_tiles) = (shape.head_width, shape.column_tiles());
        let zero = lanes::splat(0.0);
        let mut heads = Self {
            query: [no_factors(); MAX_COLUMN_TILES],
            factor: [zero; H],
            largest: [lanes::splat(f32::NEG_INFINITY); H],
            sum: [zero; H],
            total: [[[zero; 2]; H]; MAX_COLUMN_TILES],
            scores: [[[zero; 2]; POSITION_TILES]; H],
            weights: [no_factors(); POSITION_TILES],
        };
        for (head, query) in query.chunks_exact(width).enumerate().take(H) {
            let mut numbers = [0; MAX_HEAD_WIDTH];
            let scale = to_fixed_point(query, largest_factor(8 * column_tiles, Tile16::LARGEST), &mut numbers);
            heads.factor[head] = lanes::splat(scale / scoring.divisor * std::f32::consts::LOG2_E);
            for (factors, numbers) in heads.query.iter_mut().zip(numbers.as_chunks().0) {
                set_factors(factors, head, numbers);
            }
        }
        let exp2 = Exp2::new();
        let softcap = scoring.softcap.map(|cap| cap * std::f32::consts::LOG2_E);
        for start in (seen.start / BLOCK * BLOCK..seen.end).step_by(BLOCK) {
            let in_block = seen.start.saturating_sub(start)..BLOCK.min(seen.end - start);
            heads.accumulate(&cache.block(layer, kv_head, start), column_tiles, in_block, softcap, &exp2);
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

    /// Adds the positions `seen` of a block. Earlier ones are outside of the window, later ones zero or outdated; they get no weight.
    #[inline(always)]
    fn accumulate(&mut self, block: &Block<'_>, column_tiles: usize, seen: Range<usize>, softcap: Option<f32>, exp2: &Exp2) {
        let count = seen.end;
        let position_tiles = count.div_ceil(8).min(POSITION_TILES);
        let Self { query, factor, largest, sum, total, scores, weights } = self;
        let (query, weights) = (&query[..column_tiles], &mut weights[..position_tiles]);

        let key_scales = block.key_scales.as_chunks::<2>().0;
        for (tile, (keys, scales)) in block.keys.chunks_exact(column_tiles).zip(key_scales).enumerate().take(position_tiles) {
            let products = Tile16::dot(keys, query);
            for half in 0..2 {
                let scale = lanes::from_slice(&scales[half]);
                for head in 0..H {
                    let product = lanes::mul(lanes::to_float(products[head][half]), scale);
                    scores[head][tile][half] = lanes::mul(product, factor[head]);
                }
            }
        }
        if let Some(cap) = softcap {
            cap_scores(scores, cap);
        }
        if !count.is_multiple_of(8) {
            for scores in scores.iter_mut() {
                only_first(count % 8, &mut scores[position_tiles - 1], f32::NEG_INFINITY);
            }
        }
        if seen.start > 0 {
            without_first(scores, seen.start);
        }

        // Heads in the inner loop: their computations are independent, so none waits for another's result.
        let mut largest_here = [lanes::splat(f32::NEG_INFINITY); H];
        for tile in 0..position_tiles {
            for head in 0..H {
                let [low, high] = scores[head][tile];
                largest_here[head] = lanes::max(high, lanes::max(low, largest_here[head]));
            }
        }
        let largest_here = largest_here.map(lanes::splat_of_largest);
        let mut sum_here = [lanes::splat(0.0); H];
        let value_scales = block.value_scales.as_chunks::<2>().0;
        for (tile, value_scales) in value_scales.iter().enumerate().take(position_tiles) {
            let value_scales = value_scales.each_ref().map(lanes::from_slice);
            for head in 0..H {
                let scores = &mut scores[head][tile];
                let softmax = scores.map(|four| exp2.of(lanes::sub(four, largest_here[head])));
                sum_here[head] = lanes::add(sum_here[head], lanes::add(softmax[0], softmax[1]));
                *scores = [lanes::mul(softmax[0], value_scales[0]), lanes::mul(softmax[1], value_scales[1])];
            }
        }
        // Per head, the factors of the previous total and of this block's products.
        let mut corrections = [[lanes::splat(0.0); 2]; H];
        for head in 0..H {
            if !count.is_multiple_of(8) {
                only_first(count % 8, &mut scores[head][position_tiles - 1], 0.0);
            }
            let mut numbers = [[0i16; 8]; POSITION_TILES];
            let scale = lanes::to_fixed_point(&scores[head][..position_tiles], largest_factor(BLOCK, Tile12::LARGEST), &mut numbers);
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

        for (values, total) in block.values.chunks_exact(POSITION_TILES).zip(total) {
            let products = Tile12::dot(values, weights);
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

/// Sets the lanes of `eight` from `count` on to `other`.
fn only_first(count: usize, eight: &mut [F32x4; 2], other: f32) {
    for (index, four) in eight.iter_mut().enumerate() {
        *four = lanes::first_lanes(count.saturating_sub(index * 4), *four, lanes::splat(other));
    }
}

/// The scores of some heads at the positions of a block.
type Scores<const H: usize> = [[[F32x4; 2]; POSITION_TILES]; H];

/// Caps all scores. Not inlined, like `without_first`: few models need them, and they would make the loop of all others slower.
#[inline(never)]
fn cap_scores<const H: usize>(scores: &mut Scores<H>, cap: f32) {
    for four in scores.as_flattened_mut().as_flattened_mut() {
        *four = lanes::softcap(*four, cap);
    }
}

/// Makes the scores of the first `count` positions minus infinity.
#[inline(never)]
fn without_first<const H: usize>(scores: &mut Scores<H>, count: usize) {
    for scores in scores {
        for (index, four) in scores.as_flattened_mut().iter_mut().enumerate().take(count.div_ceil(4)) {
            *four = lanes::first_lanes(count - index * 4, lanes::splat(f32::NEG_INFINITY), *four);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{RngCore, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// Random shapes and lengths, compared with the definition computed in f64.
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
            let divisor = [(width as f32).sqrt(), 7.0][queries % 2];
            let softcap = [None, Some(3.0)][length % 2];
            let window = [None, Some(1), Some(1 + length / 2), Some(2 * length)][kv_heads * group % 4];
            let mask = [Mask::Causal { window }, Mask::Symmetric { window }][width / 4 % 2];
            let from = start..start + queries;
            attend(&cache, 1, heads, from.clone(), &Scoring { divisor, softcap, mask }, &query, &mut out);

            for (index, (query, out)) in query.chunks_exact(width).zip(out.chunks_exact(width)).enumerate() {
                let (position, kv_head) = (start + index / heads, index % heads / group);
                let sees = |other: usize| match mask {
                    Mask::Causal { window } => other <= position && window.is_none_or(|window| position - other < window),
                    Mask::Symmetric { window } => window.is_none_or(|window| position.abs_diff(other) <= window / 2),
                };
                let seen: Vec<usize> = (0..from.end).filter(|other| sees(*other)).collect();
                let row = |numbers: &[f32], position: usize| -> Vec<f64> {
                    numbers[(position * kv_heads + kv_head) * width..][..width].iter().map(|number| f64::from(*number)).collect()
                };
                let scores: Vec<f64> = seen
                    .iter()
                    .map(|position| {
                        let position = *position;
                        let product: f64 = row(&keys, position).iter().zip(query).map(|(key, query)| key * f64::from(*query)).sum();
                        let score = product / f64::from(divisor);
                        softcap.map(f64::from).map_or(score, |cap| cap * (score / cap).tanh())
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                let mut exact = vec![0f64; width];
                for (position, score) in seen.iter().zip(&scores) {
                    for (exact, value) in exact.iter_mut().zip(row(&values, *position)) {
                        *exact += (score - largest).exp() / sum * value;
                    }
                }
                for (out, exact) in out.iter().zip(exact) {
                    assert!(
                        (f64::from(*out) - exact).abs() < 4e-3,
                        "{group} heads of {width} over {length}: {out} instead of {exact}, {softcap:?}, {mask:?}"
                    );
                }
            }
        }
    }
}
