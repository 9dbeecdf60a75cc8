//! One answer while it grows.

use super::{ComputedBy, Model};
use crate::engine::{Event, FinishReason, GenerationParams, SequenceId};
use crate::error::Result;
use crate::grammar::Constraint;
use crate::host::yield_now;
use crate::output::{AnswerText, Part, Usage, json_mode_not_met};
use crate::tools::{CallReader, Found, MARKERS};
use std::collections::VecDeque;
use std::rc::Rc;

/// What an answer has to be, beside text.
#[derive(Default)]
pub struct Expectation {
    /// The grammar of the whole answer.
    pub constraint: Option<Constraint>,
    /// Looks for calls.
    pub calls: Option<CallReader>,
    /// The grammar of the rest of the answer once a call has begun, where calls are the model's choice.
    pub begun: Option<Constraint>,
    /// Anything but a complete answer of the grammar is 5024.
    pub must_complete: bool,
}

/// An answer that is computed piece by piece, each when it is asked for. Dropping it ends the computation.
pub struct Generation {
    model: Rc<Model>,
    sequence: SequenceId,
    text: AnswerText,
    calls: Option<CallReader>,
    begun: Option<Constraint>,
    must_complete: bool,
    /// For the sequence, as soon as the engine is free.
    constrain: Option<Constraint>,
    /// Parts that are certain and not handed out.
    ready: VecDeque<Part>,
    usage: Usage,
    finish_reason: Option<FinishReason>,
}

impl Generation {
    pub(super) async fn start(
        model: Rc<Model>,
        prompt: Vec<u32>,
        params: GenerationParams,
        text: AnswerText,
        expectation: Expectation,
    ) -> Result<Self> {
        let usage = Usage { prompt_tokens: prompt.len(), ..Usage::default() };
        let Expectation { constraint, calls, begun, must_complete } = expectation;
        let sequence = model.engine().await.submit(prompt, params, constraint)?;
        let (constrain, ready, finish_reason) = (None, VecDeque::new(), None);
        Ok(Self { model, sequence, text, calls, begun, must_complete, constrain, ready, usage, finish_reason })
    }

    /// The next part of the answer; `None` when it is complete.
    pub async fn next_part(&mut self) -> Result<Option<Part>> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Ok(Some(part));
            }
            if self.finish_reason.is_some() {
                return Ok(None);
            }
            match self.next_event().await {
                Event::Token(token) => {
                    self.usage.completion_tokens += 1;
                    let bytes = self.bytes_of(token);
                    if let Some(piece) = self.text.push(&bytes) {
                        self.take(&piece);
                    }
                    if self.text.stopped() {
                        self.abandon();
                        self.finish(FinishReason::Stop)?;
                    }
                }
                Event::Finished(reason) => {
                    if let Some(piece) = self.text.finish() {
                        self.take(&piece);
                    }
                    self.finish(if self.text.stopped() { FinishReason::Stop } else { reason })?;
                }
                Event::Failed(error) => return Err(error),
            }
        }
    }

    /// What a token adds to the text. Where calls are looked for, control tokens that mark them count as text.
    fn bytes_of(&self, token: u32) -> Vec<u8> {
        let tokenizer = &self.model.tokenizer;
        let marker = self.calls.as_ref().and_then(|_| tokenizer.control_name(token));
        match marker.filter(|name| MARKERS.contains(&name.as_str()) || name == "</tool_call>") {
            Some(name) => name.into_bytes(),
            None => tokenizer.token_bytes(token),
        }
    }

    fn take(&mut self, piece: &str) {
        let Some(calls) = &mut self.calls else { return self.ready.push_back(Part::Text(piece.to_owned())) };
        let found = calls.push(piece);
        self.sort(found);
    }

    fn sort(&mut self, found: Vec<Found>) {
        for found in found {
            match found {
                Found::Text(text) => self.ready.push_back(Part::Text(text)),
                Found::Call(call) => self.ready.push_back(Part::Call(call)),
                Found::Beginning(text) => {
                    let behind = [text.as_bytes(), &self.text.pending()].concat();
                    // An answer that follows a grammar from its start needs no other.
                    self.constrain = self.begun.take().and_then(|begun| self.model.constraint_behind(begun, &behind));
                    let Some(calls) = &mut self.calls else { return };
                    let found = if self.constrain.is_some() { calls.begin() } else { calls.decline() };
                    return self.sort(found);
                }
            }
        }
    }

    fn finish(&mut self, reason: FinishReason) -> Result<()> {
        let found = self.calls.as_mut().map(CallReader::finish).unwrap_or_default();
        self.sort(found);
        let called = self.calls.as_ref().is_some_and(|calls| calls.calls() > 0);
        if self.must_complete && !called && (reason == FinishReason::Length || self.text.stopped()) {
            return Err(json_mode_not_met());
        }
        self.finish_reason = Some(if called { FinishReason::ToolCalls } else { reason });
        Ok(())
    }

    /// Waits for the sequence's next event, advancing the engine meanwhile.
    async fn next_event(&mut self) -> Event {
        loop {
            // Borrowed only while another request's step is being computed: then its outcome is waited for.
            if let Ok(mut engine) = self.model.engine.try_borrow_mut() {
                for sequence in self.model.abandoned.borrow_mut().drain(..) {
                    engine.cancel(sequence);
                }
                if let Some(constraint) = self.constrain.take() {
                    engine.constrain(self.sequence, constraint);
                }
                self.usage.cached_tokens = self.usage.cached_tokens.max(engine.cached_tokens(self.sequence));
                match engine.poll(self.sequence) {
                    Some(event) => return event,
                    None => self.model.advance(&mut engine).await,
                }
            }
            // Other requests, timers and cancellation get their turn after every step.
            yield_now().await;
        }
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

    /// What computes it.
    pub fn computed_by(&self) -> ComputedBy {
        self.model.computed_by()
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
