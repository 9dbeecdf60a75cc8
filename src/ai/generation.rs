//! One answer in progress: what its tokens mean.

use super::{Model, Nonce};
use crate::engine::{Engine, Event, FinishReason, GenerationParams, SequenceId};
use crate::error::Result;
use crate::grammar::{Constraint, fits};
use crate::output::{AnswerText, Part, Piece, Tags, TokenLogprob, Usage, json_mode_not_met};
use crate::sampling::Logprobs;
use crate::tools::{CallReader, Found, MARKERS, MAX_CALLS, Tool, ToolCall};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

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
    /// The answer begins with a thought: its grammar begins after it.
    pub thinks_first: bool,
}

/// What a generation starts with.
pub struct Plan {
    pub prompt: Vec<u32>,
    pub params: GenerationParams,
    pub text: AnswerText,
    /// The marks of thoughts, if the model is known to think.
    pub tags: Option<Tags>,
    pub expectation: Expectation,
    pub nonce: Nonce,
    /// Its number among the answers to the same request.
    pub choice: usize,
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
    /// The marks of thoughts, if the model is known to think.
    tags: Option<Tags>,
    /// The grammar of what follows the thought.
    after_thought: Option<Constraint>,
    /// Log probabilities of the next token, and of the tokens since the last part.
    next_logprobs: Option<Logprobs>,
    logprobs: Vec<TokenLogprob>,
    /// A constraint for the sequence, to be set as soon as the engine is free.
    pending_constraint: Option<Constraint>,
    /// Parts that are final and not returned yet.
    ready: VecDeque<Part>,
    usage: Usage,
    finish_reason: Option<FinishReason>,
    nonce: Nonce,
    choice: usize,
}

impl Generation {
    /// Submits the prompt to the model's engine.
    ///
    /// # Errors
    ///
    /// 3040 if the engine has too many sequences, 5006 if the prompt has no tokens.
    pub(super) fn start(model: Rc<Model>, engine: &mut Engine, plan: Plan) -> Result<Self> {
        let Plan { prompt, params, text, tags, expectation, nonce, choice } = plan;
        let usage = Usage { prompt_tokens: prompt.len(), ..Usage::default() };
        let Expectation { constraint, calls, call_constraint, checked_tools, must_complete, thinks_first } = expectation;
        let (constraint, after_thought) = if thinks_first { (None, constraint) } else { (constraint, None) };
        let sequence = engine.submit(prompt, params, constraint)?;
        Ok(Self {
            model,
            sequence,
            text,
            calls,
            call_constraint,
            checked_tools,
            called: 0,
            must_complete,
            tags,
            after_thought,
            next_logprobs: None,
            logprobs: Vec::new(),
            pending_constraint: None,
            ready: VecDeque::new(),
            usage,
            finish_reason: None,
            nonce,
            choice,
        })
    }

    /// The next part of the answer, if it is there already: `None` inside when the answer is complete. Otherwise the engine computes the next token
    /// in its next step.
    ///
    /// # Errors
    ///
    /// The error that ended the sequence, and 5024 if the answer had to complete its grammar and did not.
    pub fn poll_part(&mut self, engine: &mut Engine) -> Result<Poll<Option<Part>>> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Ok(Poll::Ready(Some(part)));
            }
            if self.finish_reason.is_some() {
                return Ok(Poll::Ready(None));
            }
            if let Some(constraint) = self.pending_constraint.take() {
                engine.constrain(self.sequence, constraint);
            }
            self.usage.cached_tokens = self.usage.cached_tokens.max(engine.cached_tokens(self.sequence));
            match engine.poll(self.sequence) {
                None => return Ok(Poll::Pending),
                Some(Event::Logprobs(logprobs)) => self.next_logprobs = Some(logprobs),
                Some(Event::Token(token)) => {
                    self.push_token(token);
                    if self.text.stopped() {
                        engine.cancel(self.sequence);
                        self.finish(FinishReason::Stop)?;
                    }
                }
                Some(Event::Finished(reason)) => {
                    let rest = self.text.finish();
                    self.push_pieces(rest);
                    self.finish(if self.text.stopped() { FinishReason::Stop } else { reason })?;
                }
                Some(Event::Failed(error)) => return Err(error),
            }
        }
    }

    fn push_token(&mut self, token: u32) {
        self.usage.completion_tokens += 1;
        let thinks = self.text.is_thinking();
        let bytes = self.bytes_of(token);
        let pieces = self.text.push(&bytes);
        let still_thinks = self.text.is_thinking();
        if thinks || still_thinks {
            self.usage.reasoning_tokens += 1;
            self.next_logprobs = None;
        }
        if let Some(logprobs) = self.next_logprobs.take() {
            let tokenizer = &self.model.tokenizer;
            let top = logprobs.top.iter().map(|(token, logprob)| (tokenizer.token_bytes(*token), *logprob)).collect();
            self.logprobs.push(TokenLogprob { bytes, logprob: logprobs.logprob, top });
        }
        match self.after_thought.take() {
            Some(constraint) if thinks && !still_thinks => self.constrain_after_thought(constraint, pieces),
            constraint => {
                self.after_thought = constraint;
                self.push_pieces(pieces);
            }
        }
    }

    /// The thought has ended with a token that may have brought `pieces` of the answer too. What the grammar does not allow of them is dropped.
    fn constrain_after_thought(&mut self, constraint: Constraint, pieces: Vec<Piece>) {
        let text = pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.as_bytes() } else { &[] });
        let so_far = [text.collect::<Vec<_>>().concat(), self.text.pending()].concat();
        let begun = (!so_far.trim_ascii().is_empty()).then(|| self.model.constraint_after(&constraint, &so_far)).flatten();
        if begun.is_none() {
            self.text.clear();
        }
        let keeps_text = begun.is_some();
        self.push_pieces(pieces.into_iter().filter(|piece| keeps_text || matches!(piece, Piece::Thought(_))).collect());
        self.pending_constraint = Some(begun.unwrap_or(constraint));
    }

    /// The bytes that a token adds to the text. Control tokens that mark thoughts count as text, and if the answer may contain calls, those that
    /// mark calls.
    fn bytes_of(&self, token: u32) -> Vec<u8> {
        let tokenizer = &self.model.tokenizer;
        let marks_call = |name: &str| self.calls.is_some() && (MARKERS.contains(&name) || name == "</tool_call>");
        let marks_thought = |name: &str| self.tags.is_some_and(|tags| tags.is(name));
        let name = (self.calls.is_some() || self.tags.is_some()).then(|| tokenizer.control_name(token)).flatten();
        match name.filter(|name| marks_call(name) || marks_thought(name)) {
            Some(name) => name.into_bytes(),
            None => tokenizer.token_bytes(token),
        }
    }

    fn push_pieces(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Thought(thought) => self.ready.push_back(Part::Thought(thought)),
                Piece::Text(text) => self.push_text(&text),
            }
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
            call.id = self.nonce.call_id(self.choice * MAX_CALLS + self.called);
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
        if self.must_complete && !called && (self.after_thought.is_some() || reason == FinishReason::Length || self.text.stopped()) {
            return Err(json_mode_not_met());
        }
        self.finish_reason = Some(if called { FinishReason::ToolCalls } else { reason });
        Ok(())
    }

    /// Cancels the sequence: at once, or if a step is being computed, after it.
    fn abandon(&self) {
        match self.model.engine.try_borrow_mut() {
            Ok(mut engine) => engine.cancel(self.sequence),
            Err(_) => self.model.abandoned.borrow_mut().push(self.sequence),
        }
    }

    /// Takes the log probabilities of the tokens since the last call.
    pub fn take_logprobs(&mut self) -> Vec<TokenLogprob> {
        std::mem::take(&mut self.logprobs)
    }

    /// Token counts so far.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Why the answer ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.abandon();
    }
}
