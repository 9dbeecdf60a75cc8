//! Loads an adapter: checks its tensors against the model, then reads them in the order of the file.

use super::listing::{Half, Listing, Order, Side, Tensor, read_bytes};
use super::{Adapter, AdapterFiles, AdapterId, LowRank, MAX_RANK, gguf, peft, unsupported};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::Reader;
use crate::model::{Architecture, Role, shape_of};
use kernels::packed::Packed;
use kernels::packing::Packing;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Loads an adapter of the model `model` with this architecture. `room` is asked for the bytes that the adapter takes before they are read; what it
/// returns is returned with the adapter. `on_progress` is called while the files are read.
///
/// # Errors
///
/// 5005 if the adapter is damaged, not supported or does not fit the model: the text says how. Those of `room`; 3040 if memory runs out; the errors of
/// [`Reader::next`].
pub async fn load<T>(
    id: AdapterId,
    name: &str,
    files: &AdapterFiles,
    model: &str,
    architecture: &Architecture,
    room: impl FnOnce(u64) -> Result<T>,
    on_progress: Rc<dyn Fn()>,
) -> Result<(Adapter, T)> {
    let reader = |source: &Rc<_>| {
        let on_progress = Rc::clone(&on_progress);
        Reader::new(Rc::clone(source), Box::new(move |_| on_progress()))
    };
    let loaded = async {
        let (listing, mut reader) = match files {
            AdapterFiles::Gguf(source) => {
                let mut reader = reader(source);
                (gguf::list(&mut reader, architecture).await?, reader)
            }
            AdapterFiles::Peft { config, weights } => {
                let (mut config, mut weights) = (reader(config), reader(weights));
                let listing = peft::list(&mut config, &mut weights).await?;
                config.verify().await?;
                (listing, weights)
            }
        };
        let order = listing.order;
        let pairs = pairs(listing, architecture)?;
        let taken = room(pairs.iter().map(Pair::bytes).sum())?;
        let matrices = read(pairs, order, architecture, &mut reader).await?;
        reader.verify().await?;
        Ok((Adapter::new(id, name.to_owned(), matrices), taken))
    };
    loaded.await.map_err(|error: AiError| match error.code {
        ErrorCode::LoraUnsupported | ErrorCode::InvalidData => {
            let reason = error.text.replace("cannot be used as a model", "cannot be used as an adapter");
            unsupported(format!("LoRA adapter '{name}' does not fit {model}: {reason}"))
        }
        _ => error,
    })
}

/// Both tensors beside a matrix of the model, checked.
struct Pair {
    roles: Vec<Role>,
    a: Tensor,
    b: Tensor,
    scale: f32,
}

impl Pair {
    /// What it takes in memory: about as much as in the file.
    fn bytes(&self) -> u64 {
        self.a.length.saturating_add(self.b.length)
    }
}

/// The pairs of an adapter.
///
/// # Errors
///
/// 5005 if they do not fit the model.
fn pairs(listing: Listing, architecture: &Architecture) -> Result<Vec<Pair>> {
    let Listing { halves, scale, .. } = listing;
    let matrices: HashSet<Role> = architecture.matrices().collect();
    if halves.len() > 2 * matrices.len() {
        return Err(unsupported(format!("it has {} tensors, but the model has {} matrices.", halves.len(), matrices.len())));
    }
    let mut found: Vec<(String, Vec<Role>, [Option<Tensor>; 2])> = Vec::new();
    for Half { matrix, roles, side, tensor } in halves {
        if roles.is_empty() || !roles.iter().all(|role| matrices.contains(role)) {
            let layers = architecture.sizes.layers;
            let beyond = roles.iter().filter_map(|role| role.layer()).find(|layer| *layer >= layers);
            return Err(unsupported(match beyond {
                Some(layer) => format!("its tensor '{}' is for layer {layer}, counted from 0; the model has {layers}.", tensor.name),
                None => {
                    format!("its tensor '{}' is for a matrix that the model does not have, or that cannot be adapted here.", tensor.name)
                }
            }));
        }
        let index = found.iter().position(|(other, ..)| *other == matrix).unwrap_or(found.len());
        if index == found.len() {
            found.push((matrix, roles, [None, None]));
        }
        let Some((.., halves)) = found.get_mut(index) else { continue };
        if let Some(other) = halves[side as usize].replace(tensor) {
            return Err(unsupported(format!("its tensor '{}' is for a matrix that another one is for, too.", other.name)));
        }
    }
    if found.is_empty() {
        return Err(unsupported("it has no tensors."));
    }
    let mut adapted = HashSet::new();
    let mut pairs = Vec::new();
    for (matrix, roles, halves) in found {
        let (a, b) = match halves {
            [Some(a), Some(b)] => (a, b),
            [one, other] => {
                let only = one.or(other).map(|tensor| tensor.name).unwrap_or_default();
                return Err(unsupported(format!("its tensor '{only}' has no counterpart: a low-rank matrix has an A and a B.")));
            }
        };
        if !roles.iter().all(|role| adapted.insert(*role)) {
            return Err(unsupported(format!("'{matrix}' is adapted twice, alone and with others.")));
        }
        let rank = checked_rank(&roles, &a, &b, architecture)?;
        let scale = scale(&matrix, rank)?;
        if !scale.is_finite() {
            return Err(unsupported(format!("the factor of '{matrix}' (alpha / rank) is not finite.")));
        }
        pairs.push(Pair { roles, a, b, scale });
    }
    Ok(pairs)
}

/// The rank of a pair whose shapes and types fit the model's matrix.
///
/// # Errors
///
/// 5005 if they do not.
fn checked_rank(roles: &[Role], a: &Tensor, b: &Tensor, architecture: &Architecture) -> Result<usize> {
    let wrong = |tensor: &Tensor, text: &str| unsupported(format!("its tensor '{}' is {:?}, {text}.", tensor.name, tensor.shape));
    for tensor in [a, b] {
        if tensor.format.is_quantised() {
            let text = format!("its tensor '{}' is of type {}, but must be F32, F16 or BF16.", tensor.name, tensor.format.name());
            return Err(unsupported(text));
        }
    }
    let [outputs, inputs] = shape_of(roles, architecture)[..] else {
        return Err(wrong(a, "but the model has a vector there"));
    };
    let &[rank, columns] = &a.shape[..] else { return Err(wrong(a, "but must have two dimensions")) };
    if rank == 0 || rank > MAX_RANK {
        return Err(wrong(a, &format!("of rank {rank}; ranks from 1 to {MAX_RANK} are supported")));
    }
    if columns != inputs {
        return Err(wrong(a, &format!("but must be [{rank}, {inputs}], as the model's matrix has {inputs} columns")));
    }
    if b.shape != [outputs, rank] {
        return Err(wrong(b, &format!("but must be [{outputs}, {rank}], as the model's matrix has {outputs} rows and A the rank {rank}")));
    }
    Ok(rank)
}

/// Reads the tensors of all pairs, in the order of the file.
async fn read(pairs: Vec<Pair>, order: Order, architecture: &Architecture, reader: &mut Reader) -> Result<HashMap<Role, LowRank>> {
    let mut unread: Vec<(usize, Side, &Tensor)> = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        unread.extend([(index, Side::A, &pair.a), (index, Side::B, &pair.b)]);
    }
    let mut read: Vec<(Option<Rc<Packed>>, Vec<Packed>)> = pairs.iter().map(|_| (None, Vec::new())).collect();
    while let Some(next) = (0..unread.len()).min_by_key(|next| unread[*next].2.offset) {
        let (index, side, tensor) = unread.swap_remove(next);
        let bytes = read_bytes(reader, tensor.offset, tensor.length).await?;
        let (Some(pair), Some(place)) = (pairs.get(index), read.get_mut(index)) else { continue };
        match side {
            Side::A => place.0 = Some(Rc::new(packed(tensor, &mut bytes.chunks_exact(row_bytes(tensor)))?)),
            Side::B => place.1 = parts(tensor, &bytes, &pair.roles, order, architecture)?,
        }
    }
    let mut matrices = HashMap::new();
    for (pair, (a, parts)) in pairs.iter().zip(read) {
        let Some(a) = a else { continue };
        for (role, b) in pair.roles.iter().zip(parts) {
            matrices.insert(*role, LowRank { a: Rc::clone(&a), b, scale: pair.scale });
        }
    }
    Ok(matrices)
}

/// The rows of B for each role, in the order in which the model's matrix has them in memory.
fn parts(tensor: &Tensor, bytes: &[u8], roles: &[Role], order: Order, architecture: &Architecture) -> Result<Vec<Packed>> {
    let rows: Vec<&[u8]> = bytes.chunks_exact(row_bytes(tensor)).collect();
    let mut rest = &rows[..];
    let mut parts = Vec::new();
    for role in roles {
        let count = role.shape(architecture).first().copied().unwrap_or_default().min(rest.len());
        let (own, behind) = rest.split_at(count);
        rest = behind;
        let head = architecture.sizes.head_width.max(1);
        let place = |row: usize| match order {
            Order::Gguf if architecture.is_permuted(*role) => row / head * head + architecture.place_in_file(row % head),
            Order::Peft => row / head * head + architecture.place_in_checkpoint(*role, row % head),
            Order::Gguf => row,
        };
        let mut ordered = (0..count).map(|row| own.get(place(row)).copied().unwrap_or_default());
        let part = Tensor { name: tensor.name.clone(), shape: vec![count, tensor.shape.get(1).copied().unwrap_or_default()], ..*tensor };
        parts.push(packed(&part, &mut ordered)?);
    }
    Ok(parts)
}

fn row_bytes(tensor: &Tensor) -> usize {
    (tensor.shape.get(1).copied().unwrap_or_default() * tensor.format.file_bytes()).max(1)
}

/// A matrix from its rows.
fn packed(tensor: &Tensor, rows: &mut dyn Iterator<Item = &[u8]>) -> Result<Packed> {
    let [count, columns] = tensor.shape[..] else { return Err(unsupported(format!("its tensor '{}' is no matrix.", tensor.name))) };
    let mut packing = Packing::new(tensor.format, count, columns)?;
    for row in rows {
        packing.write(row)?;
    }
    Ok(packing.finish()?)
}
