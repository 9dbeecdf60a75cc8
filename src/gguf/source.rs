//! Sources of model files: one trait for HTTP, R2, Blobs, files and memory.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// A boxed future that stays on one thread, as all futures at the JavaScript boundary do.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// The file does not exist (HTTP 404, no such object or file). Retrying does not help.
    NotFound(String),
    /// The read is refused or impossible. Retrying does not help.
    Refused(String),
    /// The connection failed or was lost. Retrying may help.
    Interrupted(String),
    /// The server is overloaded or asks for fewer requests. Retrying helps after `wait_ms` milliseconds.
    Busy { message: String, wait_ms: u32 },
    /// The file is no longer the one whose beginning has been read. Reading it from the beginning helps.
    Changed(String),
}

/// A model file that can be read from any offset.
pub trait Source {
    /// A name for messages: a URL, a path, the key of an object.
    fn name(&self) -> String;
    /// Equal for sources of the same bytes only. By default the name.
    fn identity(&self) -> String {
        self.name()
    }
    /// The SHA-256 that the file must have, as 64 hexadecimal digits, if it is known and not yet verified. Asked when reading has begun.
    fn sha256(&self) -> Option<String> {
        None
    }
    /// The other files of the model, if this may be one of several. They are read only if the file says that it is one part of many.
    fn others(&self) -> Others {
        Others::default()
    }
    /// Starts reading at `offset` (bytes from the start of the file).
    ///
    /// # Errors
    ///
    /// A [`SourceError`], which says whether retrying may help.
    fn open(&self, offset: u64) -> LocalFuture<'_, Result<OpenedSource, SourceError>>;
}

/// The files beside one file of a split model, in any order.
#[derive(Default)]
pub struct Others {
    pub sources: Vec<Rc<dyn Source>>,
    /// Whether the configuration lists them. Otherwise they follow from the file's name, and need not exist if the model is not split.
    pub listed: bool,
}

/// A read in progress.
pub struct OpenedSource {
    /// Length of the whole file in bytes, if it is known.
    pub size: Option<u64>,
    pub stream: Box<dyn ByteStream>,
}

/// The bytes of a read in progress, in chunks of at most a few MiB.
pub trait ByteStream {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    ///
    /// A [`SourceError`], which says whether retrying may help.
    fn next(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, SourceError>>;
}

/// A file in memory. Used natively, by tests and tools.
#[derive(Clone)]
pub struct BytesSource {
    pub name: String,
    pub bytes: Rc<Vec<u8>>,
    /// Length of the returned chunks in bytes.
    pub chunk: usize,
}

impl BytesSource {
    /// A source of `bytes` that returns chunks of 1 MiB.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes: Rc::new(bytes), chunk: 1 << 20 }
    }
}

impl Source for BytesSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(&self, offset: u64) -> LocalFuture<'_, Result<OpenedSource, SourceError>> {
        let stream = BytesStream { source: self.clone(), position: usize::try_from(offset).unwrap_or(usize::MAX) };
        let opened = OpenedSource { size: Some(self.bytes.len() as u64), stream: Box::new(stream) };
        Box::pin(std::future::ready(Ok(opened)))
    }
}

struct BytesStream {
    source: BytesSource,
    position: usize,
}

impl ByteStream for BytesStream {
    fn next(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, SourceError>> {
        let bytes = &self.source.bytes;
        let start = self.position.min(bytes.len());
        let end = start.saturating_add(self.source.chunk.max(1)).min(bytes.len());
        self.position = end;
        let chunk = (start < end).then(|| bytes[start..end].to_vec());
        Box::pin(std::future::ready(Ok(chunk)))
    }
}
