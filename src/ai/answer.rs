//! An answer in the dialect of a client, as one object or as a stream of events.

use super::substitute::{Forwarded, Recorder};
use super::{Choices, ComputedBy, Embedded, Prepared};
use crate::error::Result;
use crate::output::{AnswerShape, CompleteAnswer, Dialect, Progress, Usage};
use serde_json::Value;

/// Where an answer comes from.
pub enum Content {
    Computed(Choices),
    Prepared(Prepared),
    Forwarded(Forwarded),
    Embedded(Embedded),
}

impl From<Choices> for Content {
    fn from(choices: Choices) -> Self {
        Self::Computed(choices)
    }
}

impl From<Prepared> for Content {
    fn from(prepared: Prepared) -> Self {
        Self::Prepared(prepared)
    }
}

impl From<Embedded> for Content {
    fn from(embedded: Embedded) -> Self {
        Self::Embedded(embedded)
    }
}

impl From<Forwarded> for Content {
    fn from(forwarded: Forwarded) -> Self {
        Self::Forwarded(forwarded)
    }
}

/// An answer that is computed while it is read. Dropping it stops the computation.
pub struct Answer {
    content: Content,
    dialect: Dialect,
    shape: AnswerShape,
    recorder: Option<Recorder>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(content: impl Into<Content>, dialect: Dialect, shape: AnswerShape, recorder: Option<Recorder>) -> Self {
        Self { content: content.into(), dialect, shape, recorder, ended: false }
    }

    /// Whether the answer is a stream.
    pub fn is_stream(&self) -> bool {
        match &self.content {
            Content::Forwarded(forwarded) => matches!(forwarded, Forwarded::Stream(_)),
            Content::Embedded(_) => false,
            Content::Computed(_) | Content::Prepared(_) => self.shape.stream,
        }
    }

    /// Name of the model file that answers; "script" or "service" if none does.
    pub fn served_by(&self) -> &str {
        match &self.content {
            Content::Computed(choices) => choices.served_by(),
            Content::Prepared(_) => "script",
            Content::Forwarded(_) => "service",
            Content::Embedded(embedded) => &embedded.served_by,
        }
    }

    /// Which backend computes the answer; `None` if no model does.
    pub fn computed_by(&self) -> Option<ComputedBy> {
        match &self.content {
            Content::Computed(choices) => Some(choices.computed_by()),
            Content::Prepared(_) | Content::Forwarded(_) | Content::Embedded(_) => None,
        }
    }

    /// The complete answer as one object.
    ///
    /// # Errors
    ///
    /// The error that ended the generation, and 5024 if JSON mode did not produce an object that fits.
    pub async fn object(mut self) -> Result<Value> {
        if let Content::Forwarded(Forwarded::Object(object)) | Content::Embedded(Embedded { object, .. }) = &mut self.content {
            return Ok(object.take());
        }
        let mut whole = CompleteAnswer::default();
        while let Some(progress) = self.next_progress().await? {
            whole.add(progress);
        }
        whole.usage = self.usage();
        self.dialect.object(&whole, self.shape)
    }

    /// The bytes of the next server-sent events; `None` after the last.
    ///
    /// # Errors
    ///
    /// Like [`Answer::object`].
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        if let Content::Forwarded(forwarded) = &mut self.content {
            return forwarded.next().await;
        }
        while !self.ended {
            let events = match self.next_progress().await? {
                Some(progress) => self.dialect.events(&progress, self.shape),
                None => {
                    self.ended = true;
                    let usage = self.usage();
                    self.dialect.end(&usage)
                }
            };
            if !events.is_empty() {
                return Ok(Some(events.into_bytes()));
            }
        }
        Ok(None)
    }

    async fn next_progress(&mut self) -> Result<Option<Progress>> {
        let next = match &mut self.content {
            Content::Computed(choices) => choices.next().await,
            Content::Prepared(prepared) => prepared.next().await,
            Content::Forwarded(_) | Content::Embedded(_) => Ok(None),
        };
        match (&next, &mut self.recorder) {
            (_, None) => {}
            (Ok(Some(progress)), Some(recorder)) => recorder.progress(progress),
            (Ok(None), Some(_)) => {
                let usage = self.usage();
                if let Some(recorder) = self.recorder.take() {
                    recorder.finished(&usage);
                }
            }
            (Err(error), Some(_)) => {
                if let Some(recorder) = self.recorder.take() {
                    recorder.failed(error);
                }
            }
        }
        next
    }

    /// Token counts so far.
    fn usage(&self) -> Usage {
        match &self.content {
            Content::Computed(choices) => choices.usage(),
            Content::Prepared(prepared) => prepared.usage(),
            Content::Forwarded(_) | Content::Embedded(_) => Usage::default(),
        }
    }
}
