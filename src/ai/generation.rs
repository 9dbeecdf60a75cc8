//! One answer in progress.

use super::{ComputedBy, Model, Nonce};
use crate::engine::{Event, FinishReason, GenerationParams, SequenceId};
use crate::error::Result;
use crate::grammar::{Constraint, fits};
use crate::host::yield_now;
use crate::output::{AnswerText, Part, Usage, json_mode_not_met};
use crate::tools::{CallReader, Found, MARKERS, Tool, ToolCall};
use std::collections::VecDeque;
use std::rc::Rc;

/// What a request requires of its answer.
#[derive(Default)]
pub struct Expectation {
    /// The grammar of the whole answer.
    pub constraint: Option<Constraint>,
    /// Finds calls in the text.
    pub calls: Option<CallReader>,
    /// The grammar of the rest of the answer once a call has begun; set if the model chooses whether to call.
    pub call_constraint: Option<Constraint>,
    /// The tools of calls that the model chooses to make: a call that does not fit their parameters is text.
    pub checked_tools: Vec<Tool>,
    /// An answer that does not complete its grammar is 5024.
    pub must_complete: bool,
}

/// An answer that is computed part by part, on demand. Dropping it stops the computation.
pub struct Generation {
    model: Rc<Model>,
    sequence: SequenceId,
    text: AnswerText,
    calls: Option<CallReader>,
    call_constraint: Option<Constraint>,
    checked_tools: Vec<Tool>,
    /// Number of calls so far.
    called: usize,
    must_complete: bool,
    /// A constraint for the sequence, to be set as soon as the engine is free.
    pending_constraint: Option<Constraint>,
    /// Parts that are final and not returned yet.
    ready: VecDeque<Part>,
    usage: Usage,
    finish_reason: Option<FinishReason>,
    nonce: Nonce,
}

impl Generation {
    /// Submits the prompt to the model's engine.
    ///
    /// # Errors
    ///
    /// 3040 if the engine has too many sequences, 5006 if the prompt has no tokens.
    pub(super) async fn start(
        model: Rc<Model>,
        prompt: Vec<u32>,
        params: GenerationParams,
        text: AnswerText,
        expectation: Expectation,
        nonce: Nonce,
    ) -> Result<Self> {
        let usage = Usage { prompt_tokens: prompt.len(), ..Usage::default() };
        let Expectation { constraint, calls, call_constraint, checked_tools, must_complete } = expectation;
        let sequence = model.engine().await.submit(prompt, params, constraint)?;
        Ok(Self {
            model,
            sequence,
            text,
            calls,
            call_constraint,
            checked_tools,
            called: 0,
            must_complete,
            pending_constraint: None,
            ready: VecDeque::new(),
            usage,
            finish_reason: None,
            nonce,
        })
    }

    /// The next part of the answer; `None` when it is complete.
    ///
    /// # Errors
    ///
    /// The error that ended the sequence, and 5024 if the answer had to complete its grammar and did not.
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
                        self.push_text(&piece);
                    }
                    if self.text.stopped() {
                        self.abandon();
                        self.finish(FinishReason::Stop)?;
                    }
                }
                Event::Finished(reason) => {
                    if let Some(piece) = self.text.finish() {
                        self.push_text(&piece);
                    }
                    self.finish(if self.text.stopped() { FinishReason::Stop } else { reason })?;
                }
                Event::Failed(error) => return Err(error),
            }
        }
    }

    /// The bytes that a token adds to the text. If the answer may contain calls, control tokens that mark calls count as text.
    fn bytes_of(&self, token: u32) -> Vec<u8> {
        let tokenizer = &self.model.tokenizer;
        let marker = self.calls.as_ref().and_then(|_| tokenizer.control_name(token));
        match marker.filter(|name| MARKERS.contains(&name.as_str()) || name == "</tool_call>") {
            Some(name) => name.into_bytes(),
            None => tokenizer.token_bytes(token),
        }
    }

    fn push_text(&mut self, piece: &str) {
        let Some(calls) = &mut self.calls else { return self.ready.push_back(Part::Text(piece.to_owned())) };
        let found = calls.push(piece);
        self.push_found(found);
    }

    fn push_found(&mut self, found: Vec<Found>) {
        for found in found {
            match found {
                Found::Text(text) => self.ready.push_back(Part::Text(text)),
                Found::Call(call, text) => self.push_call(call, text),
                Found::CallStart(text) => {
                    let so_far = [text.as_bytes(), &self.text.pending()].concat();
                    let constraint = self.call_constraint.as_ref();
                    self.pending_constraint = constraint.and_then(|constraint| self.model.constraint_after(constraint, &so_far));
                    let Some(calls) = &mut self.calls else { return };
                    let found = if self.pending_constraint.is_some() { calls.accept() } else { calls.decline() };
                    return self.push_found(found);
                }
            }
        }
    }

    /// `text` is what the call was read from.
    fn push_call(&mut self, mut call: ToolCall, text: String) {
        let tool = self.checked_tools.iter().find(|tool| tool.name == call.name);
        if tool.is_none_or(|tool| fits(&tool.parameters, &call.arguments)) {
            call.id = self.nonce.call_id(self.called);
            self.called += 1;
            self.ready.push_back(Part::Call(call));
        } else if !text.is_empty() {
            self.ready.push_back(Part::Text(text));
        }
    }

    fn finish(&mut self, reason: FinishReason) -> Result<()> {
        let called = self.called > 0;
        let found = self.calls.as_mut().map(|calls| calls.finish(called)).unwrap_or_default();
        self.push_found(found);
        let called = self.called > 0;
        if self.must_complete && !called && (reason == FinishReason::Length || self.text.stopped()) {
            return Err(json_mode_not_met());
        }
        self.finish_reason = Some(if called { FinishReason::ToolCalls } else { reason });
        Ok(())
    }

    /// Waits for the sequence's next event and advances the engine meanwhile.
    #[expect(clippy::await_holding_refcell_ref, reason = "others find the engine borrowed while a step is computed, and wait for its end")]
    async fn next_event(&mut self) -> Event {
        loop {
            // The engine is borrowed only while another request's step is computed; then this request waits for the end of that step.
            let Ok(mut engine) = self.model.engine.try_borrow_mut() else {
                self.model.step_end().await;
                continue;
            };
            for sequence in self.model.abandoned.borrow_mut().drain(..) {
                engine.cancel(sequence);
            }
            if let Some(constraint) = self.pending_constraint.take() {
                engine.constrain(self.sequence, constraint);
            }
            self.usage.cached_tokens = self.usage.cached_tokens.max(engine.cached_tokens(self.sequence));
            match engine.poll(self.sequence) {
                Some(event) => return event,
                None => self.model.advance(engine).await,
            }
            // After every step, other requests, timers and cancellation get a turn.
            yield_now().await;
        }
    }

    /// Cancels the sequence: at once, or if a step is being computed, after it.
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

    /// Which backend computes the answer.
    pub fn computed_by(&self) -> ComputedBy {
        self.model.computed_by()
    }

    /// Name of the model file that answers.
    pub fn served_by(&self) -> &str {
        &self.model.name
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.abandon();
    }
}
