//! What a model computes: its sizes, and what its family has beyond the sizes. The backends know steps and roles, but no family.

use super::{Hyperparameters, Role, RoleInLayer, Rope, RopeFrequencies, Slot, Step};
use crate::error::{AiError, Result};
use crate::gguf::Header;
use candle_core::quantized::gguf_file::Value;
use kernels::attention::{Mask, Scoring};
use kernels::ops::Activation;

/// Which dimensions of a head RoPE rotates together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Neighbours: `(2i, 2i + 1)`.
    Neighbours,
    /// Halves: `(i, i + rope_width / 2)`, as in GPT-NeoX. The rows of query and key are permuted when they are loaded, so that backends
    /// rotate neighbours only.
    Halves,
}

/// A transformer layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerKind {
    /// The index of its frequencies in [`Architecture::ropes`].
    pub rope: usize,
    /// The latest positions that a position sees, itself included; `None`: all. If attention is symmetric, half of them before and half behind.
    pub window: Option<usize>,
}

/// RMS norms of query and key, before RoPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorms {
    None,
    /// Of each head.
    OfHeads,
    /// Of all heads together.
    Whole,
}

/// Where the RMS norms of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNorms {
    /// Before attention and before the feed-forward network.
    pub before: bool,
    /// Behind them, before the residual connection.
    pub after: bool,
}

/// Queries are multiplied by `1 + scale · ln(1 + ⌊position / length⌋)` after RoPE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature {
    pub length: usize,
    pub scale: f32,
}

impl Temperature {
    pub fn at(&self, position: usize) -> f32 {
        (1.0 + f64::from(self.scale) * ((position / self.length) as f64).ln_1p()) as f32
    }
}

/// How the vectors of a text's tokens become the one of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPooling {
    Mean,
    /// That of the first token.
    First,
    /// That of the last token.
    Last,
}

/// What makes an architecture one of an embedding model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextEmbedding {
    pub pooling: TextPooling,
    /// The widths of the outputs of the matrices that the pooled vector is multiplied by, one after the other.
    pub dense: Vec<usize>,
}

/// Families whose `ffn_up` has the rows of the gate, and then those of up.
pub const GATE_IN_UP: [(&str, &[RoleInLayer]); 1] = [("ffn_up.weight", &[Role::Gate, Role::Up])];

/// What a model computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// `general.architecture`.
    pub family: &'static str,
    pub sizes: Hyperparameters,
    pub pairing: Pairing,
    /// The pairing in the checkpoint that the file was converted from, and that others train: the converter permutes the rows of some families.
    pub checkpoint_pairing: Pairing,
    pub ropes: Vec<Rope>,
    /// One per layer.
    pub layers: Vec<LayerKind>,
    /// A position sees later ones too.
    pub symmetric: bool,
    /// `None`: the model generates text.
    pub embedding: Option<TextEmbedding>,
    /// Query, key and value have biases.
    pub biases: bool,
    pub query_key_norms: QueryKeyNorms,
    pub layer_norms: LayerNorms,
    pub activation: Activation,
    /// Multiplies the tokens' embeddings.
    pub embedding_scale: f32,
    /// Attention scores are divided by this number.
    pub score_divisor: f32,
    /// An attention score `x` becomes `cap · tanh(x / cap)`.
    pub score_softcap: Option<f32>,
    pub temperature: Option<Temperature>,
    /// Multiplies the logits, and is part of the output norm when it is loaded.
    pub logit_scale: f32,
    /// A logit `x` becomes `cap · tanh(x / cap)`.
    pub logit_softcap: Option<f32>,
    /// Tensors that have other roles in this family than their name says elsewhere.
    pub own_names: &'static [(&'static str, &'static [RoleInLayer])],
    /// The name of the tensor with the divisors of RoPE's frequencies.
    pub rope_divisors: &'static str,
}

impl Architecture {
    /// The plain architecture of these sizes: that of Llama.
    pub fn new(sizes: Hyperparameters) -> Self {
        Self {
            family: "llama",
            pairing: Pairing::Neighbours,
            checkpoint_pairing: Pairing::Halves,
            ropes: vec![Rope::default()],
            layers: vec![LayerKind::default(); sizes.layers],
            symmetric: false,
            embedding: None,
            biases: false,
            query_key_norms: QueryKeyNorms::None,
            layer_norms: LayerNorms { before: true, after: false },
            activation: Activation::Silu,
            embedding_scale: 1.0,
            score_divisor: (sizes.head_width as f32).sqrt(),
            score_softcap: None,
            temperature: None,
            logit_scale: 1.0,
            logit_softcap: None,
            own_names: &[],
            rope_divisors: "rope_freqs.weight",
            sizes,
        }
    }

    /// The steps from the embeddings to the residual stream after the last layer.
    pub fn steps(&self) -> Vec<Step> {
        (0..self.layers.len()).flat_map(|layer| self.layer_steps(layer)).collect()
    }

    fn layer_steps(&self, l: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let before = |steps: &mut Vec<Step>, norm| {
            if !self.layer_norms.before {
                return Slot::Stream;
            }
            steps.push(Step::Norm { norm, from: Slot::Stream, to: Slot::Normed });
            Slot::Normed
        };
        let after = |steps: &mut Vec<Step>, norm| {
            let mut from = Slot::Delta;
            if self.layer_norms.after {
                steps.push(Step::Norm { norm, from, to: Slot::Normed });
                from = Slot::Normed;
            }
            steps.push(Step::Add { from });
        };

        let from = before(&mut steps, Role::AttentionNorm(l));
        let products = vec![(Role::Query(l), Slot::Query), (Role::Key(l), Slot::Key), (Role::Value(l), Slot::Value)];
        steps.push(Step::Products { from, products });
        if self.biases {
            let biases = [(Role::QueryBias(l), Slot::Query), (Role::KeyBias(l), Slot::Key), (Role::ValueBias(l), Slot::Value)];
            steps.extend(biases.map(|(bias, to)| Step::Bias { bias, to }));
        }
        if self.query_key_norms != QueryKeyNorms::None {
            steps.extend([(Role::QueryNorm(l), Slot::Query), (Role::KeyNorm(l), Slot::Key)].map(|(norm, of)| Step::PartNorm { norm, of }));
        }
        steps.extend([
            Step::Rotate { layer: l },
            Step::Attend { layer: l },
            Step::Products { from: Slot::Attended, products: vec![(Role::AttentionOutput(l), Slot::Delta)] },
        ]);
        after(&mut steps, Role::AttentionPostNorm(l));

        let from = before(&mut steps, Role::FfnNorm(l));
        steps.extend([
            Step::Products { from, products: vec![(Role::Gate(l), Slot::Gate), (Role::Up(l), Slot::Up)] },
            Step::Activate,
            Step::Products { from: Slot::Gate, products: vec![(Role::Down(l), Slot::Delta)] },
        ]);
        after(&mut steps, Role::FfnPostNorm(l));
        steps
    }

    /// Every role that a file must have a tensor for; a separate output matrix and RoPE divisors are optional.
    pub fn required(&self) -> Vec<Role> {
        let mut roles = vec![Role::TokenEmbedding, Role::OutputNorm];
        roles.extend((0..self.dense().len()).map(Role::Dense));
        for step in self.steps() {
            match step {
                Step::Norm { norm, .. } | Step::PartNorm { norm, .. } => roles.push(norm),
                Step::Products { products, .. } => roles.extend(products.iter().map(|(matrix, _)| *matrix)),
                Step::Bias { bias, .. } => roles.push(bias),
                Step::Rotate { .. } | Step::Attend { .. } | Step::Activate | Step::Add { .. } => {}
            }
        }
        roles
    }

    /// Every matrix whose products are computed, the output's included.
    pub fn matrices(&self) -> impl Iterator<Item = Role> {
        let products = self.steps().into_iter().flat_map(|step| match step {
            Step::Products { products, .. } => products,
            _ => Vec::new(),
        });
        products.map(|(matrix, _)| matrix).chain([Role::Output])
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

    /// The angles of each kind of rotation. `divisors`: the contents of the tensor `rope_divisors`, one per pair, if the file has it.
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<RopeFrequencies> {
        self.ropes.iter().map(|rope| RopeFrequencies::new(rope, self.sizes.rope_width, divisors)).collect()
    }

    /// Every width of the layers' windows, once.
    pub fn windows(&self) -> Vec<Option<usize>> {
        let mut windows = Vec::new();
        for layer in &self.layers {
            if !windows.contains(&layer.window) {
                windows.push(layer.window);
            }
        }
        windows
    }

    /// How a layer scores positions.
    pub fn scoring(&self, layer: usize) -> Scoring {
        let window = self.layers[layer].window;
        let mask = if self.symmetric { Mask::Symmetric { window } } else { Mask::Causal { window } };
        Scoring { divisor: self.score_divisor, softcap: self.score_softcap, mask }
    }

    /// The widths of an embedding model's dense matrices.
    pub fn dense(&self) -> &[usize] {
        self.embedding.as_ref().map_or(&[], |embedding| &embedding.dense)
    }

    /// RoPE rotates halves: [`Pairing::Halves`].
    pub fn halves(&mut self) {
        self.pairing = Pairing::Halves;
    }

    /// Gives every layer a window, but the last of each `period` none. The metadata may say it otherwise: another period (0: every layer has
    /// a window), or for each layer.
    pub fn set_windows(&mut self, metadata: &Metadata<'_>, window: usize, period: usize) {
        let period = metadata.integer("attention.sliding_window_pattern").map_or(period, |period| period as usize);
        let listed = metadata.header.array(&format!("{}.attention.sliding_window_pattern", metadata.prefix));
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let is_windowed = match listed.and_then(|listed| listed.get(index)) {
                Some(Value::Bool(listed)) => *listed,
                _ => period == 0 || index % period < period - 1,
            };
            layer.window = is_windowed.then_some(window);
        }
    }

    /// Gives the layers with a window another RoPE.
    pub fn set_rope_of_windows(&mut self, rope: Rope) {
        self.ropes.push(rope);
        for layer in self.layers.iter_mut().filter(|layer| layer.window.is_some()) {
            layer.rope = self.ropes.len() - 1;
        }
    }

    /// Whether the rows of this tensor are permuted when they are loaded: queries, keys and what belongs to them, if RoPE pairs halves.
    pub fn is_permuted(&self, role: Role) -> bool {
        let of_heads =
            matches!(role, Role::Query(_) | Role::Key(_) | Role::QueryBias(_) | Role::KeyBias(_) | Role::QueryNorm(_) | Role::KeyNorm(_));
        self.pairing == Pairing::Halves && of_heads
    }

    /// The place in the file of row `row` of a head: halves become neighbours.
    pub fn place_in_file(&self, row: usize) -> usize {
        from_halves(row, self.sizes.rope_width)
    }

    /// The place in the checkpoint of row `row` of a head of this matrix.
    pub fn place_in_checkpoint(&self, role: Role, row: usize) -> usize {
        match (role, self.checkpoint_pairing, self.pairing) {
            (Role::Query(_) | Role::Key(_), Pairing::Halves, Pairing::Halves) => self.place_in_file(row),
            // The converter permutes whole heads.
            (Role::Query(_) | Role::Key(_), Pairing::Halves, Pairing::Neighbours) => from_halves(row, self.sizes.head_width),
            _ => row,
        }
    }

    /// What the numbers of a vector are multiplied by when they are loaded.
    pub fn vector_scale(&self, role: Role) -> f32 {
        if role == Role::OutputNorm { self.logit_scale } else { 1.0 }
    }
}

/// The place of a dimension among `width` ones whose halves are paired, from its place where neighbours are.
fn from_halves(row: usize, width: usize) -> usize {
    if row < width { row / 2 + row % 2 * (width / 2) } else { row }
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

    pub fn flag(&self, key: &str) -> Option<bool> {
        self.header.flag(&format!("{}.{key}", self.prefix))
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

    /// A positive number, or `otherwise` if it is missing.
    ///
    /// # Errors
    ///
    /// 5004 if it is not positive and finite.
    pub fn positive_or(&self, key: &str, otherwise: f64) -> Result<f64> {
        let number = self.number(key).unwrap_or(otherwise);
        if number > 0.0 && number.is_finite() {
            return Ok(number);
        }
        Err(self.unusable(&format!("'{}.{key}' is not a positive number", self.prefix)))
    }

    /// A positive factor, or 1 if it is missing.
    ///
    /// # Errors
    ///
    /// 5004 if it is not positive and finite.
    pub fn scale(&self, key: &str) -> Result<f32> {
        Ok(self.positive_or(key, 1.0)? as f32)
    }

    /// Positions that the model was trained for before its RoPE was scaled.
    ///
    /// # Errors
    ///
    /// 5004 if they are out of range.
    pub fn original_positions(&self) -> Result<usize> {
        self.size_or("rope.scaling.original_context_length", self.size("context_length")?)
    }

    /// The width of sliding windows; `None` if the file has none.
    ///
    /// # Errors
    ///
    /// 5004 if it is out of range.
    pub fn window(&self) -> Result<Option<usize>> {
        match self.integer("attention.sliding_window") {
            None | Some(0) => Ok(None),
            Some(_) => self.size("attention.sliding_window").map(Some),
        }
    }

    /// What makes the model one of embeddings: its kind of pooling, and the matrices behind it.
    ///
    /// # Errors
    ///
    /// 5004 if the pooling is of an unknown kind, or if a size is out of range.
    pub fn embedding(&self, width: usize) -> Result<Option<TextEmbedding>> {
        let pooling = match self.integer("pooling_type") {
            None | Some(0) => return Ok(None),
            Some(1) => TextPooling::Mean,
            Some(2) => TextPooling::First,
            Some(3) => TextPooling::Last,
            Some(4) => return Err(self.unusable("it ranks texts (a reranker), which is not supported")),
            Some(other) => return Err(self.unusable(&format!("'{}.pooling_type' is {other}, which is not known", self.prefix))),
        };
        // The names are those of sentence-transformers' modules: 0 is the model, 1 the pooling.
        let mut dense = Vec::new();
        let mut inputs = width;
        for module in [2, 3] {
            if !self.has_tensor(&format!("dense_{module}.weight")) {
                break;
            }
            if self.size(&format!("dense_{module}_feat_in"))? != inputs {
                return Err(self.unusable(&format!("'{}.dense_{module}_feat_in' is not {inputs}", self.prefix)));
            }
            inputs = self.size(&format!("dense_{module}_feat_out"))?;
            dense.push(inputs);
        }
        Ok(Some(TextEmbedding { pooling, dense }))
    }

    /// Whether the file has a tensor of this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.iter().any(|tensor| tensor.name == name)
    }

    /// 5004: the file cannot be used.
    pub fn unusable(&self, reason: &str) -> AiError {
        AiError::invalid_data(format!("{} cannot be used as a model: {reason}.", self.name))
    }
}
