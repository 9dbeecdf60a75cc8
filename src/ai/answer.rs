//! An answer in a client's dialect, whole or chunk by chunk.

use super::{ComputedBy, Generation};
use crate::engine::FinishReason;
use crate::error::Result;
use crate::output::{Dialect, Part, Shape, Whole};
use serde_json::Value;

/// An answer that is computed as it is asked for. Dropping it ends the computation.
pub struct Answer {
    generation: Generation,
    dialect: Dialect,
    shape: Shape,
    stream: bool,
    parts: usize,
    calls: usize,
    ended: bool,
}

impl Answer {
    pub(super) fn new(generation: Generation, dialect: Dialect, shape: Shape, stream: bool) -> Self {
        Self { generation, dialect, shape, stream, parts: 0, calls: 0, ended: false }
    }

    /// Whether a stream was asked for.
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// The file that answers.
    pub fn served_by(&self) -> &str {
        self.generation.served_by()
    }

    /// What computes it.
    pub fn computed_by(&self) -> ComputedBy {
        self.generation.computed_by()
    }

    /// The whole answer as one object.
    pub async fn object(mut self) -> Result<Value> {
        let (mut text, mut calls) = (String::new(), Vec::new());
        while let Some(part) = self.generation.next_part().await? {
            match part {
                Part::Text(piece) => text.push_str(&piece),
                Part::Call(call) => calls.push(call),
            }
        }
        let whole = Whole { text, calls, usage: *self.generation.usage(), finish_reason: self.finish_reason() };
        self.dialect.object(&whole, self.shape)
    }

    /// The next server-sent events; `None` behind the last.
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
