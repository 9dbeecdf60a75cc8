//! Loading of weights: from the model's files, tensor by tensor, into the [`WeightSink`] of a backend.

use super::Architecture;
use super::architecture::QueryKeyNorms;
use crate::error::{AiError, Result};
use crate::gguf::{LocalFuture, Parts, TensorEntry};
use kernels::Format;
use std::collections::HashSet;
use std::future::ready;

/// The role of a tensor in the model. Matrices are `[outputs, inputs]`, norms `[width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `[vocabulary, width]`
    TokenEmbedding,
    OutputNorm,
    /// `[vocabulary, width]`; absent if the embedding is also the output matrix (tied).
    Output,
    /// `[rope_width / 2]`: divisors of the RoPE frequencies (Llama 3 scaling).
    RopeDivisors,
    AttentionNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    QueryBias(usize),
    KeyBias(usize),
    ValueBias(usize),
    /// `[head_width]`, of every head; or `[heads * head_width]`.
    QueryNorm(usize),
    KeyNorm(usize),
    AttentionOutput(usize),
    AttentionPostNorm(usize),
    FfnNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
    FfnPostNorm(usize),
    /// `[outputs, inputs]`, of an embedding model: behind the pooling.
    Dense(usize),
}

/// The names of tensors that a file has once. The divisors of RoPE are called differently from family to family.
const NAMES: [(&str, Role); 5] = [
    ("token_embd.weight", Role::TokenEmbedding),
    ("output_norm.weight", Role::OutputNorm),
    ("output.weight", Role::Output),
    ("dense_2.weight", Role::Dense(0)),
    ("dense_3.weight", Role::Dense(1)),
];

/// The role of a tensor in the layer with a number.
pub type RoleInLayer = fn(usize) -> Role;

/// The names of the tensors of a layer, behind `blk.` and the layer's number. The rows of a tensor with several roles are those of the
/// first role, then those of the next one.
const LAYER_NAMES: [(&str, &[RoleInLayer]); 18] = [
    ("attn_norm.weight", &[Role::AttentionNorm]),
    ("attn_q.weight", &[Role::Query]),
    ("attn_k.weight", &[Role::Key]),
    ("attn_v.weight", &[Role::Value]),
    ("attn_qkv.weight", &[Role::Query, Role::Key, Role::Value]),
    ("attn_q.bias", &[Role::QueryBias]),
    ("attn_k.bias", &[Role::KeyBias]),
    ("attn_v.bias", &[Role::ValueBias]),
    ("attn_qkv.bias", &[Role::QueryBias, Role::KeyBias, Role::ValueBias]),
    ("attn_q_norm.weight", &[Role::QueryNorm]),
    ("attn_k_norm.weight", &[Role::KeyNorm]),
    ("attn_output.weight", &[Role::AttentionOutput]),
    ("post_attention_norm.weight", &[Role::AttentionPostNorm]),
    ("ffn_norm.weight", &[Role::FfnNorm]),
    ("ffn_gate.weight", &[Role::Gate]),
    ("ffn_up.weight", &[Role::Up]),
    ("ffn_down.weight", &[Role::Down]),
    ("post_ffw_norm.weight", &[Role::FfnPostNorm]),
];

impl Role {
    /// The roles of the tensor with this name, in the order of its rows; none for tensors that the computation does not use.
    pub fn of_tensor(name: &str, architecture: &Architecture) -> Vec<Self> {
        if name == architecture.rope_divisors {
            return vec![Self::RopeDivisors];
        }
        if let Some((_, role)) = NAMES.iter().find(|(known, _)| *known == name) {
            return vec![*role];
        }
        let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else { return Vec::new() };
        let Some((_, roles)) = architecture.own_names.iter().chain(&LAYER_NAMES).find(|(known, _)| *known == part) else {
            return Vec::new();
        };
        layer.parse().map_or(Vec::new(), |layer| roles.iter().map(|of_layer| of_layer(layer)).collect())
    }

    /// The usual name of a tensor that has this role alone.
    pub fn name(self) -> String {
        let in_layer = |(name, roles): &(&str, &[RoleInLayer])| {
            let (layer, [of_layer]) = (self.layer()?, roles) else { return None };
            (of_layer(layer) == self).then(|| format!("blk.{layer}.{name}"))
        };
        let once = NAMES.iter().find(|(_, role)| *role == self).map(|(name, _)| (*name).to_owned());
        once.or_else(|| LAYER_NAMES.iter().find_map(in_layer)).unwrap_or_else(|| format!("{self:?}"))
    }

    /// The number of its layer; `None` for tensors that a file has once.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::TokenEmbedding | Self::OutputNorm | Self::Output | Self::RopeDivisors | Self::Dense(_) => None,
            Self::AttentionNorm(layer) | Self::AttentionPostNorm(layer) | Self::FfnNorm(layer) | Self::FfnPostNorm(layer) => Some(layer),
            Self::Query(layer) | Self::QueryBias(layer) | Self::QueryNorm(layer) => Some(layer),
            Self::Key(layer) | Self::KeyBias(layer) | Self::KeyNorm(layer) => Some(layer),
            Self::Value(layer) | Self::ValueBias(layer) | Self::AttentionOutput(layer) => Some(layer),
            Self::Gate(layer) | Self::Up(layer) | Self::Down(layer) => Some(layer),
        }
    }

    /// The shape that a tensor of this role must have.
    pub fn shape(self, architecture: &Architecture) -> Vec<usize> {
        let p = &architecture.sizes;
        match self {
            Self::TokenEmbedding | Self::Output => vec![p.vocabulary, p.width],
            Self::OutputNorm | Self::AttentionNorm(_) | Self::AttentionPostNorm(_) => vec![p.width],
            Self::FfnNorm(_) | Self::FfnPostNorm(_) => vec![p.width],
            Self::RopeDivisors => vec![p.rope_width / 2],
            Self::Query(_) => vec![p.query_width(), p.width],
            Self::Key(_) | Self::Value(_) => vec![p.kv_width(), p.width],
            Self::QueryBias(_) => vec![p.query_width()],
            Self::KeyBias(_) | Self::ValueBias(_) => vec![p.kv_width()],
            Self::QueryNorm(_) if architecture.query_key_norms == QueryKeyNorms::Whole => vec![p.query_width()],
            Self::KeyNorm(_) if architecture.query_key_norms == QueryKeyNorms::Whole => vec![p.kv_width()],
            Self::QueryNorm(_) | Self::KeyNorm(_) => vec![p.head_width],
            Self::AttentionOutput(_) => vec![p.width, p.query_width()],
            Self::Gate(_) | Self::Up(_) => vec![p.ffn_width, p.width],
            Self::Down(_) => vec![p.width, p.ffn_width],
            Self::Dense(index) => {
                let dense = architecture.dense();
                let inputs = index.checked_sub(1).and_then(|before| dense.get(before)).copied().unwrap_or(p.width);
                vec![dense.get(index).copied().unwrap_or_default(), inputs]
            }
        }
    }
}

/// The description of a tensor: a matrix `[rows, columns]`, or a vector as one row.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    pub role: Role,
    /// Its name in the file.
    pub name: &'a str,
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    pub is_matrix: bool,
}

impl<'a> Tensor<'a> {
    /// The part of a tensor of the file that has this role.
    pub fn new(role: Role, entry: &'a TensorEntry, architecture: &Architecture) -> Self {
        let format = entry.format;
        let shape = role.shape(architecture);
        let (rows, columns, is_matrix) = match shape[..] {
            [rows, columns] => (rows, columns, true),
            _ => (1, shape.iter().product(), false),
        };
        Self { role, name: &entry.name, format, rows, columns, is_matrix }
    }

    /// Its length in the file, in bytes.
    fn bytes(&self) -> u64 {
        self.format.tensor_bytes(self.rows, self.columns)
    }
}

/// Receives the weights of a model. For each tensor: `begin` and `room`, then `write` until all its bytes have come, then `finish`.
pub trait WeightSink {
    /// Allocates memory for a tensor, whose shape has already been checked.
    ///
    /// # Errors
    ///
    /// 3040 if there is not enough memory.
    fn begin(&mut self, tensor: &Tensor<'_>) -> Result<()>;
    /// Waits until it is known whether the allocation of `begin` succeeded, on backends where `begin` cannot know that.
    ///
    /// # Errors
    ///
    /// 3040 if there is not enough memory.
    fn room(&mut self) -> LocalFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }
    /// Receives the next bytes of the tensor, in the file's layout. The caller never passes more than the tensor has.
    ///
    /// # Errors
    ///
    /// 5004 if the data is damaged, or the backend's error.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Completes the tensor: all its bytes have been written.
    ///
    /// # Errors
    ///
    /// 5004 if the data is damaged, or the backend's error.
    fn finish(&mut self) -> Result<()>;
}

/// Maximum bytes per `write`: small enough not to block an event loop, large enough for the overhead not to matter.
const PIECE: usize = 1 << 20;

/// Streams every tensor that the computation uses into `sink`, in the order of the files.
///
/// # Errors
///
/// 5004 if the file lacks a tensor, has one of the wrong shape or one that is not supported, or ends too early; the errors of
/// `reader` and `sink`.
pub async fn load_weights(
    tensors: &[TensorEntry],
    architecture: &Architecture,
    reader: &mut Parts,
    sink: &mut dyn WeightSink,
) -> Result<()> {
    let mut wanted: Vec<(Vec<Role>, &TensorEntry)> = Vec::new();
    let mut present: HashSet<Role> = HashSet::new();
    let required = architecture.required();
    let is_used = |role: &Role| required.contains(role) || matches!(role, Role::Output | Role::RopeDivisors);
    for entry in tensors {
        let roles = Role::of_tensor(&entry.name, architecture);
        if roles.is_empty() || !roles.iter().all(is_used) {
            // Ignoring a part of a layer would produce wrong text, not an error. (Old files contain RoPE tables.)
            if entry.name.starts_with("blk.") && !entry.name.ends_with(".attn_rot_embd") {
                return Err(AiError::invalid_data(format!(
                    "{} cannot be used as a model: it has the tensor '{}', which this version does not compute.",
                    reader.name_of(entry.part),
                    entry.name
                )));
            }
            continue;
        }
        let shape = shape_of(&roles, architecture);
        let row_fits = shape.last().is_some_and(|columns| columns.is_multiple_of(entry.format.columns()));
        if entry.shape != shape || !row_fits {
            return Err(AiError::invalid_data(format!(
                "{} cannot be used as a model: tensor '{}' is {:?} of type {}, but must be {shape:?}.",
                reader.name_of(entry.part),
                entry.name,
                entry.shape,
                entry.format.name()
            )));
        }
        if roles.iter().all(|role| !present.contains(role)) {
            present.extend(&roles);
            wanted.push((roles, entry));
        }
    }
    if let Some(missing) = required.iter().find(|role| !present.contains(role)) {
        return Err(AiError::invalid_data(format!("{} cannot be used as a model: it has no tensor '{}'.", reader.name(), missing.name())));
    }
    // If a file's length is known, a file that is too short is rejected before anything is loaded.
    let beyond = wanted.iter().filter(|(_, entry)| reader.size(entry.part).is_some_and(|size| entry.offset + entry.length > size));
    if let Some((_, last)) = beyond.max_by_key(|(_, entry)| entry.offset + entry.length) {
        return Err(AiError::invalid_data(format!(
            "{} is cut off: it has {} bytes, its tensors need {}. Get the file again.",
            reader.name_of(last.part),
            reader.size(last.part).unwrap_or_default(),
            last.offset + last.length
        )));
    }
    for (roles, entry) in wanted {
        reader.skip_to(entry).await?;
        let parts: Vec<Tensor<'_>> = roles.into_iter().map(|role| Tensor::new(role, entry, architecture)).collect();
        let length: u64 = parts.iter().map(Tensor::bytes).sum();
        if entry.length != length {
            return Err(AiError::invalid_data(format!("Tensor '{}' has {} bytes instead of {length}.", entry.name, entry.length)));
        }
        let end = entry.offset + entry.length;
        for tensor in parts {
            sink.begin(&tensor)?;
            sink.room().await?;
            if architecture.is_permuted(tensor.role) || architecture.vector_scale(tensor.role) != 1.0 {
                write_changed(architecture, &tensor, end, reader, sink).await?;
            } else {
                let mut missing = tensor.bytes();
                while missing > 0 {
                    let piece = reader.next_of(end, usize::try_from(missing).unwrap_or(PIECE).min(PIECE)).await?;
                    sink.write(piece)?;
                    missing -= piece.len() as u64;
                }
            }
            sink.finish()?;
        }
    }
    Ok(())
}

/// The shape of a tensor with several roles: their rows, one after the other.
pub(crate) fn shape_of(roles: &[Role], architecture: &Architecture) -> Vec<usize> {
    let mut shapes = roles.iter().map(|role| role.shape(architecture));
    let mut whole = shapes.next().unwrap_or_default();
    for shape in shapes {
        if let (Some(rows), Some(further)) = (whole.first_mut(), shape.first()) {
            *rows += further;
        }
    }
    whole
}

/// Like the inner loop of [`load_weights`], head by head, for tensors of heads whose rows are permuted and for vectors that are scaled.
/// `end`: offset of the tensor's end in the file.
async fn write_changed(
    architecture: &Architecture,
    tensor: &Tensor<'_>,
    end: u64,
    reader: &mut Parts,
    sink: &mut dyn WeightSink,
) -> Result<()> {
    let scale = architecture.vector_scale(tensor.role);
    // A vector's numbers are its rows.
    let rows = if tensor.is_matrix { tensor.rows } else { tensor.columns };
    let head = if architecture.is_permuted(tensor.role) { architecture.sizes.head_width } else { rows };
    if scale != 1.0 && tensor.format != Format::F32 {
        return Err(AiError::invalid_data(format!("Tensor '{}' is of type {}, but must be F32.", tensor.name, tensor.format.name())));
    }
    // Vectors of blocks cannot be permuted; no file has them.
    let length = usize::try_from(tensor.bytes()).unwrap_or(usize::MAX);
    if rows == 0 || !length.is_multiple_of(rows) || !rows.is_multiple_of(head) {
        return Err(AiError::invalid_data(format!(
            "Tensor '{}' of type {} has no rows of whole bytes.",
            tensor.name,
            tensor.format.name()
        )));
    }
    let row_bytes = length / rows;
    let (mut of_head, mut changed) = (Vec::new(), Vec::new());
    for _ in 0..rows / head {
        of_head.clear();
        while of_head.len() < head * row_bytes {
            let limit = (head * row_bytes - of_head.len()).min(PIECE);
            of_head.extend_from_slice(reader.next_of(end, limit).await?);
        }
        changed.clear();
        for row in 0..head {
            let from = if architecture.is_permuted(tensor.role) { architecture.place_in_file(row) } else { row };
            let bytes = &of_head[from * row_bytes..(from + 1) * row_bytes];
            match bytes.as_chunks::<4>().0 {
                [number] if scale != 1.0 => changed.extend((f32::from_le_bytes(*number) * scale).to_le_bytes()),
                _ => changed.extend_from_slice(bytes),
            }
        }
        for piece in changed.chunks(PIECE) {
            sink.write(piece)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Hyperparameters;

    #[test]
    fn every_role_is_found_by_its_name() {
        let sizes = Hyperparameters {
            layers: 1,
            width: 8,
            heads: 2,
            kv_heads: 1,
            head_width: 4,
            rope_width: 4,
            ffn_width: 8,
            vocabulary: 4,
            positions: 8,
            rms_epsilon: 1e-5,
        };
        let architecture = Architecture::new(sizes);
        let of_layer = LAYER_NAMES.iter().flat_map(|(_, roles)| *roles).map(|of_layer| of_layer(11));
        for role in NAMES.iter().map(|(_, role)| *role).chain(of_layer) {
            assert_eq!(Role::of_tensor(&role.name(), &architecture), [role]);
        }
        assert_eq!(Role::Query(11).name(), "blk.11.attn_q.weight");
        assert_eq!(Role::of_tensor("blk.0.attn_q.unknown", &architecture), []);
        assert_eq!(Role::of_tensor("blk.3.attn_qkv.weight", &architecture), [Role::Query(3), Role::Key(3), Role::Value(3)]);
        assert_eq!(shape_of(&[Role::Query(3), Role::Key(3), Role::Value(3)], &architecture), [16, 8]);
    }
}
