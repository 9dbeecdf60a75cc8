//! An answer in the dialect of a client, as one object or as a stream of events.

use super::substitute::{Forwarded, Recorder};
use super::{ComputedBy, Embedded, Generation, Prepared};
use crate::engine::FinishReason;
use crate::error::Result;
use crate::output::{AnswerShape, CompleteAnswer, Dialect, Part, Usage};
use serde_json::Value;

/// Where an answer comes from.
#[expect(clippy::large_enum_variant, reason = "nearly all answers are computed, and each is moved a few times")]
pub enum Content {
    Computed(Generation),
    Prepared(Prepared),
    Forwarded(Forwarded),
    Embedded(Embedded),
}

impl From<Generation> for Content {
    fn from(generation: Generation) -> Self {
        Self::Computed(generation)
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
    /// Parts written so far.
    parts: usize,
    /// Calls among them.
    calls: usize,
    ended: bool,
}

impl Answer {
    pub(super) fn new(content: impl Into<Content>, dialect: Dialect, shape: AnswerShape, recorder: Option<Recorder>) -> Self {
        Self { content: content.into(), dialect, shape, recorder, parts: 0, calls: 0, ended: false }
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
            Content::Computed(generation) => generation.served_by(),
            Content::Prepared(_) => "script",
            Content::Forwarded(_) => "service",
            Content::Embedded(embedded) => &embedded.served_by,
        }
    }

    /// Which backend computes the answer; `None` if no model does.
    pub fn computed_by(&self) -> Option<ComputedBy> {
        match &self.content {
            Content::Computed(generation) => Some(generation.computed_by()),
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
        let (mut text, mut calls) = (String::new(), Vec::new());
        while let Some(part) = self.next_part().await? {
            match part {
                Part::Text(piece) => text.push_str(&piece),
                Part::Call(call) => calls.push(call),
            }
        }
        let (usage, finish_reason) = self.outcome();
        self.dialect.object(&CompleteAnswer { text, calls, usage, finish_reason }, self.shape)
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
        if self.ended {
            return Ok(None);
        }
        let events = match self.next_part().await? {
            Some(part) => {
                let events = self.dialect.part(&part, self.parts, self.calls);
                self.parts += 1;
                self.calls += usize::from(matches!(part, Part::Call(_)));
                events
            }
            None => {
                self.ended = true;
                let (usage, finish_reason) = self.outcome();
                self.dialect.end(&usage, finish_reason, self.parts)
            }
        };
        Ok(Some(events.into_bytes()))
    }

    async fn next_part(&mut self) -> Result<Option<Part>> {
        let next = match &mut self.content {
            Content::Computed(generation) => generation.next_part().await,
            Content::Prepared(prepared) => prepared.next_part().await,
            Content::Forwarded(_) | Content::Embedded(_) => Ok(None),
        };
        match (&next, &mut self.recorder) {
            (Ok(Some(part)), Some(recorder)) => recorder.part(part),
            (Ok(None), Some(_)) => {
                let (usage, finish_reason) = self.outcome();
                if let Some(recorder) = self.recorder.take() {
                    recorder.finished(&usage, finish_reason);
                }
            }
            (Err(error), Some(_)) => {
                if let Some(recorder) = self.recorder.take() {
                    recorder.failed(error);
                }
            }
            (_, None) => {}
        }
        next
    }

    /// Token counts, and why the answer ended.
    fn outcome(&self) -> (Usage, FinishReason) {
        let (usage, finish_reason) = match &self.content {
            Content::Computed(generation) => (*generation.usage(), generation.finish_reason()),
            Content::Prepared(prepared) => (*prepared.usage(), prepared.finish_reason()),
            Content::Forwarded(_) | Content::Embedded(_) => (Usage::default(), None),
        };
        (usage, finish_reason.unwrap_or(FinishReason::Stop))
    }
}
