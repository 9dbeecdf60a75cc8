//! Adapters in GGUF, as llama.cpp's `convert_lora_to_gguf.py` writes them: `general.type` is "adapter", and the tensors `NAME.lora_a` and
//! `NAME.lora_b` belong to the model's tensor `NAME`.

use super::listing::{Half, Listing, Order, Side, Tensor};
use super::unsupported;
use crate::error::Result;
use crate::gguf::{Header, Reader};
use crate::model::{Architecture, Role};

/// What the file that the reader is at the start of has.
///
/// # Errors
///
/// 5004 if the header is damaged, 5005 if it is not that of a LoRA adapter for this architecture; the errors of `reader`.
pub async fn list(reader: &mut Reader, architecture: &Architecture) -> Result<Listing> {
    let header = Header::read(reader).await?;
    let name = reader.name();
    let kind = header.text("general.type").unwrap_or("model");
    if kind != "adapter" {
        return Err(unsupported(format!("{name} is a GGUF file of a {kind}, not of an adapter (general.type).")));
    }
    let form = header.text("adapter.type").unwrap_or("lora");
    if form != "lora" {
        return Err(unsupported(format!("{name} is an adapter of the type '{form}'; only 'lora' is supported.")));
    }
    if header.get("adapter.alora.invocation_tokens").is_some() {
        return Err(unsupported(format!("{name} is to be activated by some tokens (aLoRA), which is not supported.")));
    }
    if let Some(family) = header.text("general.architecture")
        && family != architecture.family
    {
        return Err(unsupported(format!(
            "it is an adapter of models of the architecture '{family}', this is a '{}'.",
            architecture.family
        )));
    }
    // As llama.cpp: without alpha, the product is not scaled.
    let alpha = header.number("adapter.lora.alpha").filter(|alpha| *alpha != 0.0);
    let mut halves = Vec::new();
    for entry in header.into_tensors() {
        let (matrix, side) = match (entry.name.strip_suffix(".lora_a"), entry.name.strip_suffix(".lora_b")) {
            (Some(matrix), _) => (matrix, Side::A),
            (_, Some(matrix)) => (matrix, Side::B),
            _ => return Err(unsupported(format!("its tensor '{}' is no part of a low-rank matrix.", entry.name))),
        };
        let matrix = matrix.to_owned();
        let roles = Role::of_tensor(&matrix, architecture);
        let tensor = Tensor { name: entry.name, format: entry.format, shape: entry.shape, offset: entry.offset, length: entry.length };
        halves.push(Half { matrix, roles, side, tensor });
    }
    let scale = move |_: &str, rank: usize| Ok(alpha.map_or(1.0, |alpha| (alpha / rank as f64) as f32));
    Ok(Listing { halves, order: Order::Gguf, scale: Box::new(scale) })
}
