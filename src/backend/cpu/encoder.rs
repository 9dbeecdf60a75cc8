//! The vectors of texts: what an embedding model computes. No token is sampled and no prefix is kept, so an encoding has caches and scratch
//! buffers of its own, which end with it.

use super::model::CpuModel;
use super::pass::{Pass, Scratch};
use crate::backend::caches::Caches;
use crate::backend::{CacheId, Input, ROWS, Wanted, Work};
use crate::error::{AiError, Result};
use crate::model::Role;
use crate::model::architecture::TextPooling;
use kernels::kv_cache::KvCache;
use kernels::operand::Operand;
use kernels::ops;
use kernels::products::Product;
use std::ops::Range;

/// Rows of a batch. If attention is symmetric, a longer text is a batch of its own.
const BATCH: usize = 4 * ROWS;

/// Texts whose vectors are being computed, step by step: between two steps other requests have their turn. Short texts are computed together.
pub struct Encoding {
    pooling: TextPooling,
    texts: Vec<Text>,
    /// In this order, of which the first ones are done.
    batches: Vec<Vec<Chunk>>,
    batch: usize,
    /// The next step of the batch.
    step: usize,
    caches: Caches<KvCache>,
    scratch: Scratch,
    /// The number of rows of each chunk of the batch.
    rows: Vec<usize>,
}

struct Text {
    tokens: Vec<u32>,
    /// `None` before its first chunk and after its last one.
    cache: Option<CacheId>,
    /// What pooling has collected so far.
    pooled: Vec<f32>,
}

/// Tokens of a text that are computed together.
struct Chunk {
    text: usize,
    tokens: Range<usize>,
}

impl Encoding {
    /// Begins to compute the vectors of texts, each of which has at least one token.
    ///
    /// # Errors
    ///
    /// 5004 if the model is not one of embeddings, or if a token is not in its vocabulary.
    pub fn new(model: &CpuModel, texts: Vec<Vec<u32>>) -> Result<Self> {
        let architecture = &model.architecture;
        let Some(embedding) = &architecture.embedding else {
            return Err(AiError::invalid_data("The model has no kind of pooling, so it generates text and computes no embeddings."));
        };
        let vocabulary = architecture.sizes.vocabulary;
        if let Some(token) = texts.iter().flatten().find(|token| **token as usize >= vocabulary) {
            return Err(AiError::invalid_data(format!("Token {token} is not in the vocabulary.")));
        }
        let batches = batches(&texts, architecture.symmetric);
        let width = architecture.sizes.width;
        let texts = texts.into_iter().map(|tokens| Text { tokens, cache: None, pooled: vec![0.0; width] }).collect();
        let pooling = embedding.pooling;
        let (caches, scratch) = (Caches::default(), Scratch::default());
        Ok(Self { pooling, texts, batches, batch: 0, step: 0, caches, scratch, rows: Vec::new() })
    }

    /// Computes about as much as a step of an engine does. Returns whether everything is done.
    ///
    /// # Errors
    ///
    /// 3040 if memory runs out.
    pub fn advance(&mut self, model: &CpuModel) -> Result<bool> {
        // Rows times steps of the pass.
        let mut work = ROWS * model.steps.len();
        while work > 0 && self.batch < self.batches.len() {
            let done = self.compute(model, work)?;
            work = work.saturating_sub(done);
        }
        Ok(self.batch == self.batches.len())
    }

    /// Computes steps of the current batch, rows times steps `limit` or a step more. Returns how many.
    fn compute(&mut self, model: &CpuModel, limit: usize) -> Result<usize> {
        let Self { pooling, texts, batches, batch, step, caches, scratch, rows } = self;
        let chunks = &batches[*batch];
        for chunk in chunks {
            let text = &mut texts[chunk.text];
            text.cache.get_or_insert_with(|| caches.add(model.new_cache()));
        }
        let works: Vec<Work<'_>> = chunks.iter().filter_map(|chunk| chunk.work(&texts[chunk.text])).collect();
        let wanted: Vec<usize> = chunks.iter().map(|chunk| chunk.wanted(&texts[chunk.text], *pooling)).collect();
        let mut pass = Pass { model, caches, scratch, batch: &works, wanted: &wanted, rows };
        let per_step = works.iter().map(|work| work.tokens().len()).sum::<usize>().max(1);
        if *step == 0 {
            pass.begin()?;
        }
        let mut done = 0;
        while done < limit
            && let Some(next) = model.steps.get(*step)
        {
            pass.compute(next)?;
            *step += 1;
            done += per_step;
            if pass.ends_for_unwanted(next) && pass.keep_wanted() == 0 {
                *step = model.steps.len();
            }
        }
        if *step < model.steps.len() {
            return Ok(done);
        }
        pass.commit();
        let width = model.architecture.sizes.width;
        let normed = std::mem::take(&mut pass.normed()?.values);
        let mut vectors = normed.chunks_exact(width);
        for (chunk, wanted) in chunks.iter().zip(wanted) {
            let text = &mut texts[chunk.text];
            for (index, vector) in vectors.by_ref().take(wanted).enumerate() {
                match pooling {
                    TextPooling::Mean => ops::add(&mut text.pooled, vector),
                    TextPooling::First if index > 0 => {}
                    TextPooling::First | TextPooling::Last => text.pooled.copy_from_slice(vector),
                }
            }
            if chunk.tokens.end == text.tokens.len()
                && let Some(cache) = text.cache.take()
            {
                caches.remove(cache);
            }
        }
        *batch += 1;
        *step = 0;
        Ok(done)
    }

    /// The vectors, one after the other, each of length 1, and the number of tokens of all texts; after [`Encoding::advance`] is done.
    ///
    /// # Errors
    ///
    /// 5004 if the model lacks a matrix.
    pub fn finish(self, model: &CpuModel) -> Result<(Vec<f32>, usize)> {
        let (mut width, tokens) = (model.architecture.sizes.width, self.texts.iter().map(|text| text.tokens.len()).sum());
        let mut vectors = Operand::default();
        for text in self.texts {
            let scale = if self.pooling == TextPooling::Mean { 1.0 / text.tokens.len().max(1) as f32 } else { 1.0 };
            vectors.values.extend(text.pooled.iter().map(|number| number * scale));
        }
        for (index, outputs) in model.architecture.dense().iter().enumerate() {
            let mut output = vec![0.0; vectors.values.len() / width * outputs];
            vectors.quantise(width);
            vectors.multiply(&mut [Product::new(model.weights.matrix(Role::Dense(index))?, &mut output)]);
            (width, vectors.values) = (*outputs, output);
        }
        for vector in vectors.values.chunks_exact_mut(width) {
            let length = vector.iter().map(|number| f64::from(*number) * f64::from(*number)).sum::<f64>().sqrt();
            if length > 0.0 {
                vector.iter_mut().for_each(|number| *number = (f64::from(*number) / length) as f32);
            }
        }
        Ok((vectors.values, tokens))
    }
}

impl Chunk {
    fn work<'a>(&self, text: &'a Text) -> Option<Work<'a>> {
        let tokens = text.tokens.get(self.tokens.clone())?;
        Some(Work { cache: text.cache?, input: Input::Tokens(tokens), wanted: Wanted::Nothing, adapter: None })
    }

    /// How many of its last rows pooling needs.
    fn wanted(&self, text: &Text, pooling: TextPooling) -> usize {
        match pooling {
            TextPooling::Mean => self.tokens.len(),
            TextPooling::First if self.tokens.start == 0 => self.tokens.len(),
            TextPooling::First => 0,
            TextPooling::Last => usize::from(self.tokens.end == text.tokens.len()),
        }
    }
}

/// What is computed together, in order: short texts, or a part of a long one. The parts of a text follow each other. `whole`: texts have no parts.
fn batches(texts: &[Vec<u32>], whole: bool) -> Vec<Vec<Chunk>> {
    let mut batches: Vec<Vec<Chunk>> = Vec::new();
    let mut room = 0;
    for (text, tokens) in texts.iter().enumerate() {
        let mut start = 0;
        while start < tokens.len() {
            let rest = tokens.len() - start;
            if rest > room {
                batches.push(Vec::new());
                room = BATCH;
            }
            let length = if whole { rest } else { rest.min(room) };
            if let Some(batch) = batches.last_mut() {
                batch.push(Chunk { text, tokens: start..start + length });
            }
            room = room.saturating_sub(length);
            start += length;
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches_of(lengths: &[usize], whole: bool) -> Vec<Vec<(usize, Range<usize>)>> {
        let texts: Vec<Vec<u32>> = lengths.iter().map(|length| vec![0; *length]).collect();
        batches(&texts, whole).into_iter().map(|batch| batch.into_iter().map(|chunk| (chunk.text, chunk.tokens)).collect()).collect()
    }

    #[test]
    fn short_texts_are_computed_together_and_long_ones_in_parts() {
        assert_eq!(batches_of(&[60, 60, 60], false), [vec![(0, 0..60), (1, 0..60)], vec![(2, 0..60)]]);
        assert_eq!(batches_of(&[10, 200, 5], false), [vec![(0, 0..10)], vec![(1, 0..128)], vec![(1, 128..200), (2, 0..5)]]);
        assert_eq!(batches_of(&[], false), Vec::<Vec<(usize, Range<usize>)>>::new());
    }

    #[test]
    fn texts_stay_whole_where_attention_is_symmetric() {
        assert_eq!(batches_of(&[100, 300, 20, 30], true), [vec![(0, 0..100)], vec![(1, 0..300)], vec![(2, 0..20), (3, 0..30)]]);
    }
}
