//! The crate's error type.

/// Why an operation failed. Unless its documentation says otherwise, it has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Allocating `bytes` bytes for `purpose` failed.
    OutOfMemory { purpose: &'static str, bytes: u64 },
    /// The data cannot be used; the text says why and what to do.
    InvalidData(&'static str),
}

pub type Result<T> = std::result::Result<T, Error>;
