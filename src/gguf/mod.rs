//! GGUF: header and metadata, and the sources that a file's bytes are read from.
//!
//! A file is read once, front to back, through an async ranged [`Source`]: first the header, then tensor by tensor.
//! It is never completely in memory. A model may be split into several files ([`Parts`]). Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod header;
mod parts;
mod reader;
mod source;

pub(crate) use header::integer;
pub use header::{Header, TensorEntry};
pub use parts::Parts;
pub use reader::{Progress, Reader};
pub use source::{ByteStream, BytesSource, LocalFuture, OpenedSource, Others, Source, SourceError};
