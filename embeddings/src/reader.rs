//! Reads a model file while its bytes arrive: the header first, then tensor by tensor, so that the whole file is never in memory.

use crate::config::Config;
use crate::embedder::Embedder;
use crate::error::{Error, Result};
use crate::header::{Header, Numbers, Place};
use crate::{gguf, safetensors, tokenizer};
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use std::collections::HashMap;

/// A header larger than this is not one of an embedding model.
const MAX_HEADER: usize = 64 << 20;

enum State {
    /// Collects the header. `tried`: how many of its bytes were parsed in vain.
    Header { bytes: Vec<u8>, tried: usize },
    /// Collects the bytes of the place `next`.
    Tensors { header: Box<Header>, next: usize, bytes: Vec<u8> },
}

/// A model file of which some bytes have been read.
pub struct Reader {
    state: State,
    /// The number of bytes that were read.
    position: u64,
    tensors: HashMap<String, Tensor>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    pub fn new() -> Self {
        Self { state: State::Header { bytes: Vec::new(), tried: 0 }, position: 0, tensors: HashMap::new() }
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    ///
    /// The file is not a model that can be used; there is not enough memory for it.
    pub fn push(&mut self, piece: &[u8]) -> Result<()> {
        if let State::Header { bytes, tried } = &mut self.state {
            reserve(bytes, piece.len())?;
            bytes.extend_from_slice(piece);
            let Some(header) = parse(bytes, tried)? else { return Ok(()) };
            let rest = usize::try_from(header.end).ok().and_then(|end| bytes.get(end..)).unwrap_or_default().to_vec();
            self.position = header.end;
            self.state = State::Tensors { header: Box::new(header), next: 0, bytes: Vec::new() };
            return self.take(&rest);
        }
        self.take(piece)
    }

    /// Distributes bytes behind the header to the tensors.
    fn take(&mut self, mut piece: &[u8]) -> Result<()> {
        let State::Tensors { header, next, bytes } = &mut self.state else { return Ok(()) };
        while !piece.is_empty() {
            let Some(place) = header.places.get(*next) else { break };
            // Between the tensors are others that the model does not need, or padding.
            let gap = place.start.saturating_sub(self.position);
            let skipped = piece.len().min(usize::try_from(gap).unwrap_or(usize::MAX));
            let (_, rest) = piece.split_at(skipped);
            let (own, rest) = rest.split_at(rest.len().min(place.bytes - bytes.len()));
            self.position += (skipped + own.len()) as u64;
            piece = rest;
            if own.is_empty() && place.bytes > 0 {
                continue;
            }
            if bytes.is_empty() {
                reserve(bytes, place.bytes)?;
            }
            bytes.extend_from_slice(own);
            if bytes.len() == place.bytes {
                self.tensors.insert(place.name.clone(), tensor_of(place, bytes)?);
                *next += 1;
                bytes.clear();
            }
        }
        self.position += piece.len() as u64;
        Ok(())
    }

    /// The model, after all bytes of the file. `config` and `tokenizer` are the contents of `config.json` and `tokenizer.json`, which
    /// safetensors need. A GGUF needs the latter if its own is not WordPiece.
    ///
    /// # Errors
    ///
    /// The file ended too early, or one of the three cannot be used.
    pub fn finish(self, config: Option<&[u8]>, tokenizer: Option<&[u8]>) -> Result<Embedder> {
        let State::Tensors { header, next, .. } = self.state else {
            return Err(Error::invalid("the file ends within its header, or is neither safetensors nor GGUF"));
        };
        if let Some(missing) = header.places.get(next) {
            return Err(Error::invalid(format!("the file ends before the tensor {}", missing.name)));
        }
        let Header { config: own_config, tokenizer: own_tokenizer, .. } = *header;
        let needed = match own_config {
            Some(_) => "the file's tokenizer is not WordPiece, so tokenizer.json is needed too: give { weights, tokenizer }",
            None => "weights as safetensors need config.json and tokenizer.json too: give { weights, config, tokenizer }",
        };
        let config = match own_config {
            Some(config) => config,
            None => Config::from_json(config.ok_or_else(|| Error::invalid(needed))?)?,
        };
        let tokenizer = match (tokenizer, own_tokenizer) {
            (Some(tokenizer), _) => tokenizer::from_json(tokenizer)?,
            (None, Some(tokenizer)) => tokenizer,
            (None, None) => return Err(Error::invalid(needed)),
        };
        Embedder::new(&config, tokenizer, self.tensors)
    }
}

/// Parses the header if all of it is there. A GGUF does not say how long its header is, so it is parsed again when there is twice as much of it.
fn parse(bytes: &[u8], tried: &mut usize) -> Result<Option<Header>> {
    if bytes.len() < 8 {
        return Ok(None);
    }
    if !bytes.starts_with(b"GGUF") {
        let header = safetensors::header(bytes)?;
        if header.is_none() && bytes.len() > MAX_HEADER {
            return Err(Error::invalid("the header of the safetensors file is too long"));
        }
        return Ok(header);
    }
    if bytes.len() < tried.saturating_mul(2) {
        return Ok(None);
    }
    *tried = bytes.len();
    match gguf::header(bytes) {
        Err(error) if bytes.len() > MAX_HEADER => Err(error),
        // Of what candle finds wrong, nobody can say whether the rest would make it right.
        Err(Error::InvalidData(text)) if text.starts_with(gguf::NOT_PARSED) => Ok(None),
        header => header.map(Some),
    }
}

/// The bytes of a whole tensor as numbers of single precision.
fn tensor_of(place: &Place, bytes: &[u8]) -> Result<Tensor> {
    let mut numbers: Vec<f32> = Vec::new();
    let count = place.dims.iter().product::<usize>();
    if matches!(place.numbers, Numbers::F16 | Numbers::Bf16) {
        numbers.try_reserve_exact(count).map_err(|_| Error::OutOfMemory(4 * count))?;
    }
    match place.numbers {
        // Both the file and the machine have the least significant byte first.
        Numbers::F32 if cfg!(target_endian = "little") => numbers = bytemuck::allocation::pod_collect_to_vec(bytes),
        Numbers::F32 => numbers.extend(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four))),
        Numbers::F16 => numbers.extend(bytes.as_chunks::<2>().0.iter().map(|two| f16::from_le_bytes(*two).to_f32())),
        Numbers::Bf16 => numbers.extend(bytes.as_chunks::<2>().0.iter().map(|two| bf16::from_le_bytes(*two).to_f32())),
        Numbers::Ggml(numbers) => {
            let quantised = qtensor_from_ggml(numbers, bytes, place.dims.clone(), &Device::Cpu)?;
            return Ok(quantised.dequantize(&Device::Cpu)?);
        }
    }
    Ok(Tensor::from_vec(numbers, place.dims.clone(), &Device::Cpu)?)
}

fn reserve(bytes: &mut Vec<u8>, more: usize) -> Result<()> {
    bytes.try_reserve(more).map_err(|_| Error::OutOfMemory(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_errors() {
        let refused = |bytes: &[u8]| {
            let mut reader = Reader::new();
            reader.push(bytes).and_then(|()| reader.finish(None, None).map(drop)).expect_err("no model").to_string()
        };
        assert!(refused(b"").contains("ends within its header"));
        assert!(refused(b"<!doctype html><html>").contains("header"), "a page");
        assert!(refused(b"GGUF\x03\0\0\0\xff\xff").contains("ends within its header"));
        assert!(refused(&[8, 0, 0, 0, 0, 0, 0, 0, b'n', b'o', b' ', b'j', b's', b'o', b'n', b'!']).contains("safetensors"));
        let empty = [&2u64.to_le_bytes()[..], b"{}"].concat();
        assert!(refused(&empty).contains("config.json"));
    }
}
