//! What a model computes: its sizes, and what its family has beyond the sizes. The backends know steps and roles, but no family.

use super::architectures;
use super::{Hyperparameters, Role, RopeFrequencies, RopeScaling, Slot, Step};
use crate::error::{AiError, Result};
use crate::gguf::Header;

/// Which dimensions of a head RoPE rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Neighbours: `(2i, 2i + 1)`.
    Neighbours,
    /// Halves: `(i, i + rope_width / 2)`, as in GPT-NeoX. The rows of query and key are permuted when they are loaded, so that backends
    /// rotate neighbours only.
    Halves,
}

/// Frequencies of RoPE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rope {
    /// Rotates by the frequencies of a base.
    Base { base: f64, scaling: RopeScaling },
    /// Rotates nothing.
    Nothing,
}

/// A transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerKind {
    /// The index of its frequencies in [`Architecture::ropes`].
    pub rope: usize,
}

/// What a model computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    pub sizes: Hyperparameters,
    pub pairing: Pairing,
    pub ropes: Vec<Rope>,
    /// One per layer.
    pub layers: Vec<LayerKind>,
    /// Query, key and value have biases.
    pub biases: bool,
    /// Each head of query and key is normalised before RoPE.
    pub head_norms: bool,
    /// Multiplies the tokens' embeddings.
    pub embedding_scale: f32,
    /// Attention scores are divided by this number.
    pub score_divisor: f32,
    /// Multiplies the logits, and is part of the output norm when it is loaded.
    pub logit_scale: f32,
}

impl Architecture {
    /// Reads and checks the metadata. `name` is the file's name, for messages.
    ///
    /// # Errors
    ///
    /// 5004 if the architecture is not supported, or if a value is missing, out of range or inconsistent.
    pub fn from_header(header: &Header, name: &str) -> Result<Self> {
        let kind = header.text("general.architecture").unwrap_or("unknown");
        let Some(family) = architectures::family(kind) else {
            return Err(AiError::invalid_data(format!(
                "{name} has the architecture '{kind}', which is not supported. Use a GGUF of one of these: {}.",
                architectures::names().collect::<Vec<_>>().join(", ")
            )));
        };
        let metadata = Metadata { header, prefix: kind, name };
        if metadata.integer("expert_count").unwrap_or(0) > 0 {
            return Err(AiError::invalid_data(format!(
                "{name} is a mixture of experts, which is not supported. Use a dense {kind} model."
            )));
        }
        let mut architecture = Self::new(Hyperparameters::from_metadata(&metadata)?);
        architecture.ropes = vec![Rope::Base {
            base: metadata.number("rope.freq_base").unwrap_or(10_000.0),
            scaling: RopeScaling::from_metadata(&metadata)?,
        }];
        family(&metadata, &mut architecture)?;
        if architecture.ropes.iter().any(|rope| matches!(rope, Rope::Base { base, .. } if base.is_nan() || *base <= 0.0)) {
            return Err(metadata.unusable("the base of its RoPE is not positive"));
        }
        Ok(architecture)
    }

    /// The plain architecture of these sizes: that of Llama.
    pub fn new(sizes: Hyperparameters) -> Self {
        Self {
            pairing: Pairing::Neighbours,
            ropes: vec![Rope::Base { base: 10_000.0, scaling: RopeScaling::None }],
            layers: vec![LayerKind::default(); sizes.layers],
            biases: false,
            head_norms: false,
            embedding_scale: 1.0,
            score_divisor: (sizes.head_width as f32).sqrt(),
            logit_scale: 1.0,
            sizes,
        }
    }

    /// The steps from the embeddings to the residual stream after the last layer.
    pub fn steps(&self) -> Vec<Step> {
        (0..self.layers.len()).flat_map(|layer| self.layer_steps(layer)).collect()
    }

    fn layer_steps(&self, l: usize) -> Vec<Step> {
        let mut steps = vec![
            Step::Norm { norm: Role::AttentionNorm(l), from: Slot::Stream, to: Slot::Normed },
            Step::Products {
                from: Slot::Normed,
                products: vec![(Role::Query(l), Slot::Query), (Role::Key(l), Slot::Key), (Role::Value(l), Slot::Value)],
            },
        ];
        if self.biases {
            let biases = [(Role::QueryBias(l), Slot::Query), (Role::KeyBias(l), Slot::Key), (Role::ValueBias(l), Slot::Value)];
            steps.extend(biases.map(|(bias, to)| Step::Bias { bias, to }));
        }
        if self.head_norms {
            steps.extend([(Role::QueryNorm(l), Slot::Query), (Role::KeyNorm(l), Slot::Key)].map(|(norm, of)| Step::HeadNorm { norm, of }));
        }
        steps.extend([
            Step::Rotate { layer: l },
            Step::Attend { layer: l },
            Step::Products { from: Slot::Attended, products: vec![(Role::AttentionOutput(l), Slot::Delta)] },
            Step::Add,
            Step::Norm { norm: Role::FfnNorm(l), from: Slot::Stream, to: Slot::Normed },
            Step::Products { from: Slot::Normed, products: vec![(Role::Gate(l), Slot::Gate), (Role::Up(l), Slot::Up)] },
            Step::Activate,
            Step::Products { from: Slot::Gate, products: vec![(Role::Down(l), Slot::Delta)] },
            Step::Add,
        ]);
        steps
    }

    /// Every role that a file must have a tensor for; a separate output matrix and RoPE divisors are optional.
    pub fn required(&self) -> Vec<Role> {
        let mut roles = vec![Role::TokenEmbedding, Role::OutputNorm];
        for step in self.steps() {
            match step {
                Step::Norm { norm, .. } | Step::HeadNorm { norm, .. } => roles.push(norm),
                Step::Products { products, .. } => roles.extend(products.iter().map(|(matrix, _)| *matrix)),
                Step::Bias { bias, .. } => roles.push(bias),
                Step::Rotate { .. } | Step::Attend { .. } | Step::Activate | Step::Add => {}
            }
        }
        roles
    }

    /// The width of a buffer of activations.
    pub fn width(&self, slot: Slot) -> usize {
        match slot {
            Slot::Stream | Slot::Normed | Slot::Delta => self.sizes.width,
            Slot::Query | Slot::Attended => self.sizes.query_width(),
            Slot::Key | Slot::Value => self.sizes.kv_width(),
            Slot::Gate | Slot::Up => self.sizes.ffn_width,
        }
    }

    /// The angles of each kind of rotation. `divisors`: the contents of `rope_freqs.weight`, one per pair, if the file has that tensor.
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<RopeFrequencies> {
        self.ropes.iter().map(|rope| RopeFrequencies::new(rope, self.sizes.rope_width, divisors)).collect()
    }

    /// Whether the rows of this tensor are permuted when they are loaded: queries, keys and what belongs to them, if RoPE pairs halves.
    pub fn is_permuted(&self, role: Role) -> bool {
        let of_heads =
            matches!(role, Role::Query(_) | Role::Key(_) | Role::QueryBias(_) | Role::KeyBias(_) | Role::QueryNorm(_) | Role::KeyNorm(_));
        self.pairing == Pairing::Halves && of_heads
    }

    /// The place in the file of row `row` of a head: halves become neighbours.
    pub fn place_in_file(&self, row: usize) -> usize {
        let turned = self.sizes.rope_width;
        if row < turned { row / 2 + row % 2 * (turned / 2) } else { row }
    }

    /// What the numbers of a vector are multiplied by when they are loaded.
    pub fn vector_scale(&self, role: Role) -> f32 {
        if role == Role::OutputNorm { self.logit_scale } else { 1.0 }
    }
}

/// The metadata of a model of one architecture.
pub struct Metadata<'a> {
    pub header: &'a Header,
    /// The architecture's name, with which its keys begin.
    pub prefix: &'a str,
    /// The file's name, for messages.
    pub name: &'a str,
}

/// No model has larger sizes; a file that claims a larger one is damaged.
pub const MAX_DIMENSION: u64 = 1 << 24;

impl Metadata<'_> {
    pub fn integer(&self, key: &str) -> Option<u64> {
        self.header.integer(&format!("{}.{key}", self.prefix))
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.header.number(&format!("{}.{key}", self.prefix))
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.header.text(&format!("{}.{key}", self.prefix))
    }

    /// A size, which must be there.
    ///
    /// # Errors
    ///
    /// 5004 if it is missing or out of range.
    pub fn size(&self, key: &str) -> Result<usize> {
        let size = self.integer(key).filter(|value| (1..=MAX_DIMENSION).contains(value));
        size.map(|value| value as usize).ok_or_else(|| self.unusable(&format!("'{}.{key}' is missing or out of range", self.prefix)))
    }

    /// A size, or `otherwise` if it is missing.
    ///
    /// # Errors
    ///
    /// 5004 if it is out of range.
    pub fn size_or(&self, key: &str, otherwise: usize) -> Result<usize> {
        if self.integer(key).is_some() { self.size(key) } else { Ok(otherwise) }
    }

    /// A positive number, or 1 if it is missing.
    ///
    /// # Errors
    ///
    /// 5004 if it is not positive and finite.
    pub fn scale(&self, key: &str) -> Result<f32> {
        let scale = self.number(key).unwrap_or(1.0);
        if scale > 0.0 && scale.is_finite() {
            return Ok(scale as f32);
        }
        Err(self.unusable(&format!("'{}.{key}' is not a positive number", self.prefix)))
    }

    /// 5004: the file cannot be used.
    pub fn unusable(&self, reason: &str) -> AiError {
        AiError::invalid_data(format!("{} cannot be used as a model: {reason}.", self.name))
    }
}
