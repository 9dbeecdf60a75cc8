//! A loaded model: texts → tokens → batches → pooled vectors.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tokenizer;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;
use std::collections::HashMap;
use std::ops::Range;
use tokenizers::Tokenizer;

/// Tokens that are computed together, padding included: enough for every weight that is read to be used often. A longer text is computed alone.
const BATCH_TOKENS: usize = 512;

/// The tensor with a row for each position.
const POSITIONS: &str = "embeddings.position_embeddings.weight";

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// That of the first token.
    Cls,
}

/// The vectors of texts, of unit length.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[texts, width]`
    pub vectors: Vec<f32>,
    pub width: usize,
    /// Tokens of all texts.
    pub tokens: usize,
}

/// Texts that are being embedded.
pub struct Job {
    texts: Vec<Vec<u32>>,
    /// Numbers of the texts, the shortest first.
    order: Vec<usize>,
    /// Ranges of `order` that are computed together, in reverse.
    batches: Vec<Range<usize>>,
    pooling: Pooling,
    done: Embeddings,
}

impl Job {
    /// The vectors, once [`Embedder::step`] has returned `true`.
    pub fn finish(self) -> Embeddings {
        self.done
    }
}

/// A model in memory.
pub struct Embedder {
    model: BertModel,
    tokenizer: Tokenizer,
    width: usize,
}

impl Embedder {
    /// # Errors
    ///
    /// A tensor is missing or has another shape than the configuration says, or the tokenizer has more tokens than the model.
    pub fn new(config: &Config, mut tokenizer: Tokenizer, mut tensors: HashMap<String, Tensor>) -> Result<Self> {
        let tokens = tokenizer.get_vocab_size(true);
        if tokens > config.vocabulary {
            return Err(Error::invalid(format!(
                "the tokenizer has {tokens} tokens, but the model only {}: they do not belong together",
                config.vocabulary
            )));
        }
        tokenizer::limit(&mut tokenizer, config.positions)?;
        if config.first_position > 0
            && let Some(positions) = tensors.get_mut(POSITIONS)
        {
            *positions = positions.narrow(0, config.first_position, config.positions)?;
        }
        let variables = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let model = BertModel::load(variables, &config.to_candle())?;
        Ok(Self { model, tokenizer, width: config.width })
    }

    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tokenises texts, which [`Self::step`] then computes. A text with more tokens than the model has positions is cut.
    ///
    /// # Errors
    ///
    /// Of the tokenizer, or there is not enough memory for the vectors.
    pub fn start<Text: AsRef<str>>(&self, texts: &[Text], pooling: Pooling) -> Result<Job> {
        let texts: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer::encode(&self.tokenizer, text.as_ref())).collect::<Result<_>>()?;
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|text| texts[*text].len());
        let mut batches: Vec<Range<usize>> = Vec::new();
        for (index, text) in order.iter().enumerate() {
            let tokens = texts[*text].len();
            match batches.last_mut() {
                // All of a batch become as long as its last text.
                Some(batch) if (batch.len() + 1) * tokens <= BATCH_TOKENS => batch.end = index + 1,
                _ => batches.push(index..index + 1),
            }
        }
        batches.reverse();
        let mut vectors = Vec::new();
        let length = texts.len() * self.width;
        vectors.try_reserve_exact(length).map_err(|_| Error::OutOfMemory(4 * length))?;
        vectors.resize(length, 0.0);
        let done = Embeddings { vectors, width: self.width, tokens: texts.iter().map(Vec::len).sum() };
        Ok(Job { texts, order, batches, pooling, done })
    }

    /// Computes the next batch. Returns whether that was the last one.
    ///
    /// # Errors
    ///
    /// Of candle, if the model is not what its configuration says.
    pub fn step(&self, job: &mut Job) -> Result<bool> {
        let Some(batch) = job.batches.pop() else { return Ok(true) };
        let numbers = &job.order[batch];
        let rows = || numbers.iter().map(|number| &job.texts[*number]);
        let (count, longest) = (numbers.len(), rows().map(Vec::len).max().unwrap_or(0));
        if longest == 0 {
            return Err(Error::invalid("the tokenizer makes no tokens of a text"));
        }
        // What stands at the end of a shorter text does not matter: the mask hides it.
        let padded = |row: &Vec<u32>| row.iter().copied().chain(std::iter::repeat(0)).take(longest).collect::<Vec<u32>>();
        let ids = Tensor::from_vec(rows().flat_map(padded).collect(), (count, longest), &Device::Cpu)?;
        let types = ids.zeros_like()?;
        let mask = match rows().all(|row| row.len() == longest) {
            true => None,
            false => {
                let is_text = |row: &Vec<u32>| (0..longest).map(|at| u32::from(at < row.len())).collect::<Vec<u32>>();
                Some(Tensor::from_vec(rows().flat_map(is_text).collect(), (count, longest), &Device::Cpu)?)
            }
        };
        let hidden = self.model.forward(&ids, &types, mask.as_ref())?.flatten_all()?.to_vec1::<f32>()?;
        for (number, hidden) in numbers.iter().zip(hidden.chunks_exact(longest * self.width)) {
            let taken = match job.pooling {
                Pooling::Mean => job.texts[*number].len(),
                Pooling::Cls => 1,
            };
            let start = number * self.width;
            pool(&hidden[..taken * self.width], &mut job.done.vectors[start..start + self.width]);
        }
        Ok(job.batches.is_empty())
    }

    /// Embeds texts at once.
    ///
    /// # Errors
    ///
    /// Those of [`Self::start`] and [`Self::step`].
    pub fn embed<Text: AsRef<str>>(&self, texts: &[Text], pooling: Pooling) -> Result<Embeddings> {
        let mut job = self.start(texts, pooling)?;
        while !self.step(&mut job)? {}
        Ok(job.finish())
    }
}

/// The mean of rows, scaled to unit length. (Only its direction matters, so it need not be divided by their number.)
fn pool(rows: &[f32], out: &mut [f32]) {
    for row in rows.chunks_exact(out.len()) {
        for (sum, value) in out.iter_mut().zip(row) {
            *sum += value;
        }
    }
    let square: f64 = out.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    if square > 0.0 {
        let scale = (1.0 / square.sqrt()) as f32;
        out.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled_vectors_have_unit_length() {
        let mut out = [0.0; 2];
        pool(&[1.0, 2.0, 5.0, 6.0], &mut out);
        assert!((out[0] - 0.6).abs() < 1e-6 && (out[1] - 0.8).abs() < 1e-6, "{out:?}");
        let mut zero = [0.0; 2];
        pool(&[0.0, 0.0], &mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
