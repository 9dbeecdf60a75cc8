//! An answer in the dialect of a client, as one object or as a stream of events.

use super::{ComputedBy, Generation};
use crate::engine::FinishReason;
use crate::error::Result;
use crate::output::{AnswerShape, CompleteAnswer, Dialect, Part};
use serde_json::Value;

/// An answer that is computed while it is read. Dropping it stops the computation.
pub struct Answer {
    generation: Generation,
    dialect: Dialect,
    shape: AnswerShape,
    stream: bool,
    /// Parts written so far.
    parts: usize,
    /// Calls among them.
    calls: usize,
    ended: bool,
}

impl Answer {
    pub(super) fn new(generation: Generation, dialect: Dialect, shape: AnswerShape, stream: bool) -> Self {
        Self { generation, dialect, shape, stream, parts: 0, calls: 0, ended: false }
    }

    /// Whether the request asked for a stream.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// Name of the model file that answers.
    pub fn served_by(&self) -> &str {
        self.generation.served_by()
    }

    /// Which backend computes the answer.
    pub fn computed_by(&self) -> ComputedBy {
        self.generation.computed_by()
    }

    /// The complete answer as one object.
    ///
    /// # Errors
    ///
    /// The error that ended the generation, and 5024 if JSON mode did not produce an object that fits.
    pub async fn object(mut self) -> Result<Value> {
        let (mut text, mut calls) = (String::new(), Vec::new());
        while let Some(part) = self.generation.next_part().await? {
            match part {
                Part::Text(piece) => text.push_str(&piece),
                Part::Call(call) => calls.push(call),
            }
        }
        let whole = CompleteAnswer { text, calls, usage: *self.generation.usage(), finish_reason: self.finish_reason() };
        self.dialect.object(&whole, self.shape)
    }

    /// The text of the next server-sent events; `None` after the last.
    ///
    /// # Errors
    ///
    /// Like [`Answer::object`].
    pub async fn next_chunk(&mut self) -> Result<Option<String>> {
        if self.ended {
            return Ok(None);
        }
        match self.generation.next_part().await? {
            Some(part) => {
                let events = self.dialect.part(&part, self.parts, self.calls);
                self.parts += 1;
                self.calls += usize::from(matches!(part, Part::Call(_)));
                Ok(Some(events))
            }
            None => {
                self.ended = true;
                Ok(Some(self.dialect.end(self.generation.usage(), self.finish_reason(), self.parts)))
            }
        }
    }

    fn finish_reason(&self) -> FinishReason {
        self.generation.finish_reason().unwrap_or(FinishReason::Stop)
    }
}
