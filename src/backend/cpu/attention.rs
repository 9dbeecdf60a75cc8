//! Attention of one query position over a layer's cache, with grouped query heads (GQA, Ainslie et al. 2023).

use super::kv_cache::LayerCache;
use super::ops::{add_scaled, dot};
use crate::model::Hyperparameters;

/// Attends from one position to the first `length` positions of `cache`. `query` and `out` are
/// `[heads, head_width]`; `scores` is scratch. The result for a position does not depend on how many positions are
/// computed together: a prefix that is reused gives the same text as one that is computed anew.
pub fn attend(parameters: &Hyperparameters, cache: &LayerCache, length: usize, query: &[f32], scores: &mut Vec<f32>, out: &mut [f32]) {
    let (head_width, kv_width) = (parameters.head_width, parameters.kv_width());
    let group = parameters.heads / parameters.kv_heads;
    let scale = 1.0 / (head_width as f32).sqrt();
    for (head, (query, out)) in query.chunks_exact(head_width).zip(out.chunks_exact_mut(head_width)).enumerate() {
        let columns = head / group * head_width..(head / group + 1) * head_width;
        scores.clear();
        let mut largest = f32::NEG_INFINITY;
        for key in cache.keys.chunks_exact(kv_width).take(length) {
            let score = dot(query, &key[columns.clone()]) * scale;
            largest = largest.max(score);
            scores.push(score);
        }
        out.fill(0.0);
        let mut sum = 0.0;
        for (score, value) in scores.iter().zip(cache.values.chunks_exact(kv_width)) {
            let weight = (score - largest).exp();
            sum += weight;
            add_scaled(out, weight, &value[columns.clone()]);
        }
        for value in out {
            *value /= sum;
        }
    }
}
