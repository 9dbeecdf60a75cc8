//! The crate's error type.

use std::fmt;

/// Why a model cannot be loaded, or a text not be embedded. The texts are for a person who reads them in a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The file cannot be used, or is not what was expected.
    InvalidData(String),
    /// An allocation of this many bytes failed.
    OutOfMemory(usize),
}

/// The `Result` of the crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::InvalidData(text.into())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // Only the message: candle adds where the error was made.
        let text = error.to_string();
        Self::InvalidData(text.lines().next().unwrap_or_default().to_owned())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidData(text) => f.write_str(text),
            Self::OutOfMemory(bytes) => {
                write!(
                    f,
                    "Out of memory: the embedding model needs {:.1} MB more than is available. Use a smaller model.",
                    *bytes as f64 / 1e6
                )
            }
        }
    }
}

impl std::error::Error for Error {}
