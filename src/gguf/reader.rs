//! Reads a source front to back, and resumes where a connection was lost.

use super::source::{ByteStream, Source, SourceError};
use crate::error::{AiError, ErrorCode, Result};
use crate::host::pause;
use sha2::{Digest, Sha256};
use std::rc::Rc;

/// Milliseconds before each further attempt of a read that got no byte; after the last one the read fails.
const WAITS_MS: [u32; 3] = [500, 2_000, 5_000];
/// The longest wait that a server may ask for, in milliseconds.
const MAX_WAIT_MS: u32 = 60_000;

/// Bytes read so far, and the length of the file if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub loaded: u64,
    pub total: Option<u64>,
}

/// A forward reader over a [`Source`].
pub struct Reader {
    source: Rc<dyn Source>,
    stream: Option<Box<dyn ByteStream>>,
    size: Option<u64>,
    /// Offset in the file of the first byte that has not been returned.
    position: u64,
    chunk: Vec<u8>,
    /// How many bytes of `chunk` have been returned.
    consumed: usize,
    /// The SHA-256 of everything read so far, and the one that the whole file must have.
    hash: Option<(Sha256, String)>,
    on_progress: Box<dyn Fn(Progress)>,
}

impl Reader {
    /// A reader at the start of the source. `on_progress` is called after each chunk.
    pub fn new(source: Rc<dyn Source>, on_progress: Box<dyn Fn(Progress)>) -> Self {
        Self { source, stream: None, size: None, position: 0, chunk: Vec::new(), consumed: 0, hash: None, on_progress }
    }

    /// The source's name, for messages.
    pub fn name(&self) -> String {
        self.source.name()
    }

    /// Length of the file in bytes; `None` before the first chunk has come, or if the source does not report it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How much of the file has been read from the source.
    pub fn progress(&self) -> Progress {
        let unread = self.chunk.len() - self.consumed;
        Progress { loaded: self.position + unread as u64, total: self.size }
    }

    /// The next 1 to `limit` bytes; empty at the end of the file.
    ///
    /// # Errors
    ///
    /// 3042 if the source does not exist, 3003 if it refuses the read, 3008 if the connection is lost and three further attempts bring no new
    /// byte, or if the file has changed since its beginning was read.
    pub async fn next(&mut self, limit: usize) -> Result<&[u8]> {
        if self.consumed == self.chunk.len() {
            self.chunk = self.fetch_chunk().await?;
            self.consumed = 0;
            if let Some((hash, _)) = &mut self.hash {
                hash.update(&self.chunk);
            }
            (self.on_progress)(self.progress());
        }
        let start = self.consumed;
        let end = start.saturating_add(limit).min(self.chunk.len());
        self.consumed = end;
        self.position += (end - start) as u64;
        Ok(&self.chunk[start..end])
    }

    /// The next 1 to `limit` bytes of a part of the file that ends at offset `end`.
    ///
    /// # Errors
    ///
    /// 5004 if the file ends before the part does; otherwise like [`Reader::next`].
    pub async fn next_of(&mut self, end: u64, limit: usize) -> Result<&[u8]> {
        let length = self.next(limit).await?.len();
        if length == 0 { Err(self.truncated(end)) } else { Ok(&self.chunk[self.consumed - length..self.consumed]) }
    }

    /// Goes back to the start of the file. `bytes` is everything that has been returned so far, from offset 0 on.
    pub(super) fn rewind(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(&self.chunk[self.consumed..]);
        self.chunk = bytes;
        self.consumed = 0;
        self.position = 0;
    }

    /// Skips bytes up to `position`.
    ///
    /// # Errors
    ///
    /// 5004 if `position` is before the current one (tensors overlap) or beyond the end of the file; otherwise like [`Reader::next`].
    pub async fn skip_to(&mut self, position: u64) -> Result<()> {
        if position < self.position {
            return Err(AiError::invalid_data(format!("{} has tensors that overlap.", self.name())));
        }
        while self.position < position {
            let limit = usize::try_from(position - self.position).unwrap_or(usize::MAX);
            self.next_of(position, limit).await?;
        }
        Ok(())
    }

    /// Reads the rest of the file and compares its SHA-256 with the one that the source names, if it names one.
    ///
    /// # Errors
    ///
    /// 5004 if they differ; otherwise like [`Reader::next`].
    pub async fn verify(&mut self) -> Result<()> {
        if self.hash.is_none() {
            return Ok(());
        }
        while !self.next(usize::MAX).await?.is_empty() {}
        let Some((hash, expected)) = self.hash.take() else { return Ok(()) };
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found.eq_ignore_ascii_case(&expected) {
            return Ok(());
        }
        Err(AiError::invalid_data(format!(
            "{} is not the expected file: its SHA-256 is {found} instead of {expected}. It was damaged on its way, or replaced. Get the file again.",
            self.name()
        )))
    }

    /// The error (5004) for a file that ends before `wanted` bytes.
    pub fn truncated(&self, wanted: u64) -> AiError {
        AiError::invalid_data(format!(
            "{} is cut off: it ends after {} bytes, at least {wanted} belong to it. Get the file again.",
            self.name(),
            self.position
        ))
    }

    async fn fetch_chunk(&mut self) -> Result<Vec<u8>> {
        let mut waits = WAITS_MS.into_iter();
        loop {
            match self.try_fetch().await {
                Ok(Some(chunk)) if chunk.is_empty() => continue,
                Ok(Some(chunk)) => return Ok(chunk),
                Ok(None) => match self.size {
                    // A connection may close without an error before the end of the file.
                    Some(size) if self.position < size => {
                        self.stream = None;
                        let Some(wait) = waits.next() else { return Err(self.interrupted("the connection was closed")) };
                        pause(wait).await;
                    }
                    _ => return Ok(Vec::new()),
                },
                Err(SourceError::NotFound(text)) => {
                    return Err(AiError::new(
                        ErrorCode::NotFound,
                        format!("The model file {} was not found: {text}. Check the address in the configuration.", self.name()),
                    ));
                }
                Err(SourceError::Refused(text)) => {
                    return Err(AiError::new(ErrorCode::BadInput, format!("The model file {} cannot be read: {text}.", self.name())));
                }
                Err(SourceError::Interrupted(text)) => {
                    self.stream = None;
                    let Some(wait) = waits.next() else { return Err(self.interrupted(&text)) };
                    pause(wait).await;
                }
                Err(SourceError::Busy { message, wait_ms }) => {
                    self.stream = None;
                    let Some(wait) = waits.next() else { return Err(self.interrupted(&message)) };
                    pause(wait.max(wait_ms.min(MAX_WAIT_MS))).await;
                }
                Err(SourceError::Changed(text)) => {
                    return Err(AiError::new(
                        ErrorCode::Aborted,
                        format!("The model file {} changed while it was read: {text}. Try again.", self.name()),
                    ));
                }
            }
        }
    }

    fn interrupted(&self, reason: &str) -> AiError {
        let of = self.size.map(|size| format!(" of {size}")).unwrap_or_default();
        AiError::new(
            ErrorCode::Aborted,
            format!("Reading {} broke off after {}{of} bytes: {reason}. Check the connection and try again.", self.name(), self.position),
        )
    }

    async fn try_fetch(&mut self) -> std::result::Result<Option<Vec<u8>>, SourceError> {
        if self.stream.is_none() {
            let opened = self.source.open(self.position).await?;
            self.size = opened.size.or(self.size);
            if self.position == 0 && self.chunk.is_empty() {
                self.hash = self.source.sha256().map(|expected| (Sha256::new(), expected));
            }
            self.stream = Some(opened.stream);
        }
        match &mut self.stream {
            Some(stream) => stream.next().await,
            None => Ok(None),
        }
    }
}
