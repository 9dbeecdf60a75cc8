//! Candle's unmodified quantised Llama with greedy sampling, for the benchmark. Its input and output are token ids.

use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use std::io::Cursor;
use wasm_bindgen::prelude::*;

/// A loaded model with its KV cache.
#[wasm_bindgen]
pub struct Model {
    weights: ModelWeights,
    /// Number of tokens in the KV cache.
    position: usize,
    /// The token that follows them.
    next: u32,
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from the bytes of a whole GGUF file.
    ///
    /// # Errors
    ///
    /// If the file is damaged or candle does not support the model.
    pub fn load(bytes: Vec<u8>) -> Result<Model, JsError> {
        let mut reader = Cursor::new(bytes);
        let content = gguf_file::Content::read(&mut reader)?;
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        Ok(Model { weights, position: 0, next: 0 })
    }

    /// Computes a prompt from position 0 and returns the first token of the answer.
    ///
    /// # Errors
    ///
    /// If candle's forward pass fails.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<u32, JsError> {
        // At position 0 the stock model starts a new KV cache.
        self.position = 0;
        self.forward(tokens)?;
        Ok(self.next)
    }

    /// Computes and returns the next `count` tokens.
    ///
    /// # Errors
    ///
    /// If candle's forward pass fails.
    pub fn decode(&mut self, count: usize) -> Result<Vec<u32>, JsError> {
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            self.forward(&[self.next])?;
            tokens.push(self.next);
        }
        Ok(tokens)
    }

    fn forward(&mut self, tokens: &[u32]) -> candle_core::Result<()> {
        let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        let logits = self.weights.forward(&input, self.position)?.squeeze(0)?;
        self.position += tokens.len();
        self.next = logits.argmax(0)?.to_scalar()?;
        Ok(())
    }
}
