//! The answers to one request, which are computed together: usually one, more if the request asks for several choices.

use super::generation::{Generation, Plan};
use super::{ComputedBy, Model};
use crate::error::Result;
use crate::host::yield_now;
use crate::output::{Progress, Usage};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

/// Answers that are computed part by part, on demand. Dropping it stops the computation.
pub struct Choices {
    model: Rc<Model>,
    begun: Vec<Generation>,
    /// Whether the end of each of them has been reported.
    ended: Vec<bool>,
    /// The others begin when the first one has computed the prompt, so that they can copy it.
    later: VecDeque<Plan>,
}

impl Choices {
    /// Submits the first of the plans to the model's engine.
    ///
    /// # Errors
    ///
    /// 3040 if the engine has too many sequences, 5006 if the prompt has no tokens.
    pub(super) async fn start(model: Rc<Model>, plans: Vec<Plan>) -> Result<Self> {
        let mut later: VecDeque<Plan> = plans.into();
        let mut begun = Vec::new();
        let mut engine = model.engine().await;
        engine.check_room(later.len().saturating_sub(1))?;
        if let Some(first) = later.pop_front() {
            begun.push(Generation::start(Rc::clone(&model), &mut engine, first)?);
        }
        drop(engine);
        Ok(Self { model, ended: vec![false; begun.len()], begun, later })
    }

    /// What happens next; `None` when all answers are complete. Advances the engine meanwhile.
    ///
    /// # Errors
    ///
    /// The error that ended a sequence, and 5024 if an answer had to complete its grammar and did not.
    #[expect(clippy::await_holding_refcell_ref, reason = "others find the engine borrowed while a step is computed, and wait for its end")]
    pub async fn next(&mut self) -> Result<Option<Progress>> {
        loop {
            // The engine is borrowed only while another request's step is computed; then this request waits for the end of that step.
            let Ok(mut engine) = self.model.engine.try_borrow_mut() else {
                self.model.step_end().await;
                continue;
            };
            for sequence in self.model.abandoned.borrow_mut().drain(..) {
                engine.cancel(sequence);
            }
            if self.begun.first().is_some_and(|first| first.usage().completion_tokens > 0 || first.finish_reason().is_some()) {
                for plan in self.later.drain(..) {
                    self.begun.push(Generation::start(Rc::clone(&self.model), &mut engine, plan)?);
                    self.ended.push(false);
                }
            }
            for (choice, (generation, ended)) in self.begun.iter_mut().zip(&mut self.ended).enumerate() {
                if *ended {
                    continue;
                }
                match generation.poll_part(&mut engine)? {
                    Poll::Pending => {}
                    Poll::Ready(Some(part)) => return Ok(Some(Progress::Part { choice, part, logprobs: generation.take_logprobs() })),
                    Poll::Ready(None) => {
                        *ended = true;
                        let reason = generation.finish_reason().unwrap_or_default();
                        return Ok(Some(Progress::Finished { choice, reason, logprobs: generation.take_logprobs() }));
                    }
                }
            }
            if self.later.is_empty() && self.ended.iter().all(|ended| *ended) {
                return Ok(None);
            }
            self.model.advance(engine).await;
            // After every step, other requests, timers and cancellation get a turn.
            yield_now().await;
        }
    }

    /// Token counts so far: the prompt counts once.
    pub fn usage(&self) -> Usage {
        Usage::of_choices(self.begun.iter().map(|generation| *generation.usage()))
    }

    /// Which backend computes the answers.
    pub fn computed_by(&self) -> ComputedBy {
        self.model.computed_by()
    }

    /// Name of the model file that answers.
    pub fn served_by(&self) -> &str {
        &self.model.name
    }
}
