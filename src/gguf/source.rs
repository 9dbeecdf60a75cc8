//! Where the bytes of a model file come from: HTTP, R2, a Blob, a file, memory. One trait for all of them.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// A future of one thread, as everything at the JavaScript edge is.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Why bytes did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// Nothing is there (HTTP 404, no such object or file). Trying again is of no use.
    NotFound(String),
    /// It is refused or impossible. Trying again is of no use.
    Refused(String),
    /// The connection broke or was never made. Trying again may help.
    Interrupted(String),
}

/// A model file that can be read from any offset.
pub trait Source {
    /// A name for messages: a URL, a path, an object's key.
    fn name(&self) -> String;
    /// Starts reading at `offset` (bytes from the start of the file).
    fn open(&self, offset: u64) -> LocalFuture<'_, Result<Opened, SourceError>>;
}

/// A running read.
pub struct Opened {
    /// Length of the whole file in bytes, where it is known.
    pub size: Option<u64>,
    pub stream: Box<dyn ByteStream>,
}

/// The bytes of a running read, in chunks of at most a few MiB.
pub trait ByteStream {
    /// The next chunk; `None` at the end.
    fn next(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, SourceError>>;
}

/// A file that is already in memory. Used natively, by tests and tools.
#[derive(Clone)]
pub struct BytesSource {
    pub name: String,
    pub bytes: Rc<Vec<u8>>,
    /// Length of the chunks that are handed out.
    pub chunk: usize,
}

impl BytesSource {
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes: Rc::new(bytes), chunk: 1 << 20 }
    }
}

impl Source for BytesSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn open(&self, offset: u64) -> LocalFuture<'_, Result<Opened, SourceError>> {
        let stream = BytesStream { source: self.clone(), position: usize::try_from(offset).unwrap_or(usize::MAX) };
        let opened = Opened { size: Some(self.bytes.len() as u64), stream: Box::new(stream) };
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
