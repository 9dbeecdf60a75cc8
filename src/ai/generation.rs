//! One answer while it grows.

use super::Model;
use crate::engine::{Event, FinishReason, GenerationParams, SequenceId};
use crate::error::Result;
use crate::host::yield_now;
use crate::output::{AnswerText, Usage};
use std::rc::Rc;

/// An answer that is computed piece by piece, each when it is asked for. Dropping it ends the computation.
pub struct Generation {
    model: Rc<Model>,
    sequence: SequenceId,
    text: AnswerText,
    usage: Usage,
    finish_reason: Option<FinishReason>,
}

impl Generation {
    pub(super) fn start(model: Rc<Model>, prompt: Vec<u32>, params: GenerationParams, text: AnswerText, usage: Usage) -> Result<Self> {
        let sequence = model.engine.borrow_mut().submit(prompt, params)?;
        Ok(Self { model, sequence, text, usage, finish_reason: None })
    }

    /// The next piece of the answer, at least one character; `None` when it is complete.
    pub async fn next_piece(&mut self) -> Result<Option<String>> {
        while self.finish_reason.is_none() {
            match self.next_event().await {
                Event::Token(token) => {
                    self.usage.completion_tokens += 1;
                    let piece = self.text.push(&self.model.tokenizer.token_bytes(token));
                    if self.text.stopped() {
                        self.end(FinishReason::Stop);
                    }
                    if piece.is_some() {
                        return Ok(piece);
                    }
                }
                Event::Finished(reason) => {
                    self.finish_reason = Some(reason);
                    let piece = self.text.finish();
                    if self.text.stopped() {
                        self.finish_reason = Some(FinishReason::Stop);
                    }
                    return Ok(piece);
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits for the sequence's next event, advancing the engine meanwhile.
    async fn next_event(&mut self) -> Event {
        loop {
            // Borrowed only while another request's step is being computed: then its outcome is waited for.
            if let Ok(mut engine) = self.model.engine.try_borrow_mut() {
                for sequence in self.model.abandoned.borrow_mut().drain(..) {
                    engine.cancel(sequence);
                }
                self.usage.cached_tokens = self.usage.cached_tokens.max(engine.cached_tokens(self.sequence));
                match engine.poll(self.sequence) {
                    Some(event) => return event,
                    None => engine.step().await,
                }
            }
            // Other requests, timers and cancellation get their turn after every step.
            yield_now().await;
        }
    }

    fn end(&mut self, reason: FinishReason) {
        self.finish_reason = Some(reason);
        self.abandon();
    }

    fn abandon(&self) {
        match self.model.engine.try_borrow_mut() {
            Ok(mut engine) => engine.cancel(self.sequence),
            Err(_) => self.model.abandoned.borrow_mut().push(self.sequence),
        }
    }

    /// Token counts so far.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Why the answer ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// The file that answers.
    pub fn served_by(&self) -> &str {
        &self.model.name
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.abandon();
    }
}
