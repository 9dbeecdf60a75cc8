//! What the arithmetic cannot do.

/// Why something was not done. Nothing was changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are no `bytes` of memory for `purpose`.
    OutOfMemory { purpose: &'static str, bytes: u64 },
    /// The data cannot be used; the text says why and what to do.
    InvalidData(&'static str),
}

pub type Result<T> = std::result::Result<T, Refusal>;
