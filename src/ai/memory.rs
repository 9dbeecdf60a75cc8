//! The memory of this instance: what a model takes of it on the CPU, and what happens with a model that it cannot hold.

use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::TensorEntry;
use crate::model::Architecture;
use kernels::kv_cache;
use std::cell::Cell;
use std::rc::Rc;

/// Tokens of context for which a model should have room beside the others.
const CONTEXT: usize = 4096;

/// Bytes for everything else: the program, its stack, requests, buffers of a step.
const REST: u64 = 48 << 20;

/// Bytes for a token of the vocabulary, in the tokenizer and in the logits.
const PER_TOKEN: u64 = 640;

/// The memory that WebAssembly, or the machine, can give this instance.
pub struct Memory {
    pub bytes: u64,
    /// Whether the package has another instance, with more: then requests for what this one cannot hold end in [`ErrorCode::NeedsMoreMemory`].
    pub elsewhere: bool,
    /// What its user can do to have more, for messages. May be empty.
    pub advice: String,
    taken: Cell<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(u64::MAX, false, String::new())
    }
}

impl Memory {
    pub fn new(bytes: u64, elsewhere: bool, advice: String) -> Self {
        Self { bytes, elsewhere, advice, taken: Cell::default() }
    }

    /// Checks that there is room for a model, and counts what it takes until the result is dropped.
    ///
    /// # Errors
    ///
    /// 3040 if it can never have room here; [`ErrorCode::NeedsMoreMemory`] if another instance should hold it.
    pub fn take(self: &Rc<Self>, name: &str, needs: Needs) -> Result<Taken> {
        if !self.elsewhere && needs.bytes(1) > self.bytes {
            return Err(self.too_large(name, &needs));
        }
        // Elsewhere it is better off than without room for a context; here it is tried as long as the weights of all models fit.
        let positions = if self.elsewhere { CONTEXT } else { 1 };
        let bytes = needs.bytes(positions);
        let all = self.taken.get().saturating_add(bytes);
        if all > self.bytes {
            return Err(if self.elsewhere {
                needs_more(name)
            } else {
                AiError::out_of_memory(&format!("loading {name}"), all - self.bytes)
            });
        }
        self.taken.set(all);
        Ok(Taken { memory: Rc::clone(self), needs, bytes })
    }

    fn too_large(&self, name: &str, needs: &Needs) -> AiError {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        AiError::new(
            ErrorCode::OutOfCapacity,
            format!(
                "Out of memory: {name} needs {:.1} GB, and there can be {:.1} GB here. {}{}A smaller type of its weights (Q4_K_M, say) or a smaller model needs less.",
                gigabytes(needs.bytes(1)),
                gigabytes(self.bytes),
                self.advice,
                if self.advice.is_empty() { "" } else { " " },
            ),
        )
    }
}

/// The request is for another instance of the package.
pub fn needs_more(name: &str) -> AiError {
    AiError::new(ErrorCode::NeedsMoreMemory, format!("{name} needs more memory than this instance has."))
}

/// What a model takes on the CPU.
pub struct Needs {
    /// Bytes, whatever the context.
    weights: u64,
    cache: kv_cache::Shape,
    /// The most that the model supports.
    positions: usize,
}

impl Needs {
    pub fn of(tensors: &[TensorEntry], architecture: &Architecture) -> Self {
        let sizes = &architecture.sizes;
        // Packed weights are as long as the file's.
        let weights = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.length));
        let vocabulary = (sizes.vocabulary as u64).saturating_mul(PER_TOKEN);
        let cache = kv_cache::Shape { layers: sizes.layers, kv_heads: sizes.kv_heads, head_width: sizes.head_width };
        Self { weights: weights.saturating_add(vocabulary).saturating_add(REST), cache, positions: sizes.positions }
    }

    /// What a LoRA adapter takes, which has no context of its own.
    pub fn of_adapter(bytes: u64) -> Self {
        Self { weights: bytes, cache: kv_cache::Shape { layers: 0, kv_heads: 0, head_width: 0 }, positions: 0 }
    }

    /// Bytes with a context of so many positions.
    fn bytes(&self, positions: usize) -> u64 {
        self.weights.saturating_add(self.cache.bytes(positions.min(self.positions)))
    }
}

/// What a model has taken. Dropping it gives the memory back.
pub struct Taken {
    memory: Rc<Memory>,
    needs: Needs,
    bytes: u64,
}

impl Taken {
    /// Whether another instance should hold the model, for a context of so many positions.
    pub fn is_too_small_for(&self, positions: usize) -> bool {
        let others = self.memory.taken.get().saturating_sub(self.bytes);
        self.memory.elsewhere && self.needs.bytes(positions).saturating_add(others) > self.memory.bytes
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.memory.taken.set(self.memory.taken.get().saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A model with weights of so many bytes, and a cache of 64 KiB per position, half of it keys.
    fn needs(weights: u64) -> Needs {
        Needs { weights, cache: kv_cache::Shape { layers: 16, kv_heads: 8, head_width: 128 }, positions: 1 << 20 }
    }

    fn refusal(taken: Result<Taken>) -> Option<ErrorCode> {
        taken.err().map(|error| error.code)
    }

    #[test]
    fn models_beyond_the_memory_go_elsewhere_or_are_refused_with_the_numbers() {
        let more = Rc::new(Memory::new(4 * GIB, true, String::new()));
        assert_eq!(refusal(more.take("big.gguf", needs(5 * GIB))), Some(ErrorCode::NeedsMoreMemory));
        let alone = Rc::new(Memory::new(4 * GIB, false, "Use Node 24.".into()));
        let error = alone.take("big.gguf", needs(5 * GIB)).err().map(|error| error.to_string());
        let expected = "3040: Out of memory: big.gguf needs 5.4 GB, and there can be 4.3 GB here. Use Node 24. A smaller type of its weights (Q4_K_M, say) or a smaller model needs less.";
        assert_eq!(error.as_deref(), Some(expected));
    }

    #[test]
    fn a_context_needs_room_too_and_models_share_it() {
        let more = Rc::new(Memory::new(4 * GIB, true, String::new()));
        let first = more.take("first.gguf", needs(2 * GIB)).ok();
        assert!(first.is_some());
        // 1.9 GiB would fit, but not with a context.
        assert_eq!(refusal(more.take("second.gguf", needs(19 * GIB / 10))), Some(ErrorCode::NeedsMoreMemory));
        drop(first);
        let second = more.take("second.gguf", needs(19 * GIB / 10)).ok();
        let too_small = |positions| second.as_ref().is_some_and(|taken| taken.is_too_small_for(positions));
        assert!(!too_small(20_000));
        assert!(too_small(50_000));
    }

    #[test]
    fn without_another_instance_models_are_tried_as_long_as_their_weights_fit() {
        let alone = Rc::new(Memory::new(4 * GIB, false, String::new()));
        let first = alone.take("first.gguf", needs(39 * GIB / 10)).ok();
        assert!(first.as_ref().is_some_and(|taken| !taken.is_too_small_for(1 << 20)));
        assert_eq!(refusal(alone.take("second.gguf", needs(GIB))), Some(ErrorCode::OutOfCapacity));
        drop(first);
        assert!(alone.take("second.gguf", needs(GIB)).is_ok());
    }
}
