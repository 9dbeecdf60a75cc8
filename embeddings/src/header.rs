//! What the header of a model file says.

use crate::config::Config;
use candle_core::quantized::GgmlDType;
use tokenizers::Tokenizer;

/// The type of a tensor's numbers in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    F32,
    F16,
    Bf16,
    /// Of a GGUF, possibly quantised.
    Ggml(GgmlDType),
}

/// A tensor's place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As candle's BERT calls it.
    pub name: String,
    pub numbers: Numbers,
    pub dims: Vec<usize>,
    /// Bytes from the start of the file.
    pub start: u64,
    pub bytes: usize,
}

/// What the header of a file says.
#[derive(Debug)]
pub struct Header {
    /// The tensors that the model needs, by their start.
    pub places: Vec<Place>,
    /// A GGUF has the first and may have both; safetensors come with two more files.
    pub config: Option<Config>,
    pub tokenizer: Option<Tokenizer>,
    /// Where the tensors begin.
    pub end: u64,
}
