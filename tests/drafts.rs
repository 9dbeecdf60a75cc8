//! Drafts change no token of an answer, only the number of steps.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{TINY_VOCABULARY, TinyModel, load};
use std::collections::HashMap;
use std::future::ready;
use std::rc::Rc;
use workers_ai_local::backend::cpu::CpuBackend;
use workers_ai_local::backend::{Answer as Answered, Backend, CacheId, Work};
use workers_ai_local::engine::{Engine, Event, FinishReason, GenerationParams, Limits, SequenceId};
use workers_ai_local::error::Result;
use workers_ai_local::gguf::LocalFuture;
use workers_ai_local::model::Hyperparameters;
use workers_ai_local::sampling::SamplingParams;

/// Length of the passage that prompts have, and that [`Copier`] repeats.
const PASSAGE: usize = 40;

/// A passage twice, and its beginning once more.
fn prompt(seed: u32) -> Vec<u32> {
    let passage: Vec<u32> = (0..PASSAGE as u32).map(|index| (index * index * 7 + index * seed + 3) % TINY_VOCABULARY as u32).collect();
    [&passage[..], &passage, &passage[..9]].concat()
}

/// A model that mostly repeats what it read [`PASSAGE`] tokens before. Its caches are the tokens themselves.
struct Copier {
    /// Only for its sizes.
    sizes: CpuBackend,
    caches: HashMap<CacheId, Vec<u32>>,
}

impl Copier {
    fn new() -> Self {
        Self { sizes: load(TinyModel::default().gguf()).0, caches: HashMap::new() }
    }

    fn logits(tokens: &[u32]) -> Vec<f32> {
        let hash = |number: usize| (number as u32).wrapping_mul(2_654_435_761) >> 16;
        let noise = tokens.iter().rev().take(3).fold(tokens.len(), |sum, token| sum * 31 + *token as usize);
        let mut logits: Vec<f32> = (0..TINY_VOCABULARY).map(|token| (hash(noise + token * 7919) % 1000) as f32 * 0.002).collect();
        let copied = tokens.len().checked_sub(PASSAGE).map(|position| tokens[position] as usize);
        // Now and then it says something else.
        if let Some(copied) = copied.filter(|_| !hash(noise).is_multiple_of(29)) {
            logits[copied] += 6.0;
        }
        logits
    }
}

impl Backend for Copier {
    fn name(&self) -> &'static str {
        "copier"
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        self.sizes.hyperparameters()
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        let id = CacheId(self.caches.len() as u64);
        self.caches.insert(id, Vec::new());
        Ok(id)
    }

    fn release_cache(&mut self, _: CacheId) {}

    fn truncate_cache(&mut self, cache: CacheId, length: usize) -> usize {
        let tokens = self.caches.get_mut(&cache).expect("a cache");
        tokens.truncate(length);
        tokens.len()
    }

    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<usize>> {
        let tokens = self.caches[&from][..length].to_vec();
        self.caches.insert(to, tokens);
        Box::pin(ready(Ok(length)))
    }

    fn verifies(&self) -> bool {
        true
    }

    fn reserve(&mut self, _: CacheId, _: usize) -> LocalFuture<'_, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answered>>> {
        let mut answers = Vec::new();
        for work in batch {
            let tokens = self.caches.get_mut(&work.cache).expect("a cache");
            for (index, token) in work.tokens().iter().enumerate() {
                tokens.push(*token);
                if index + work.wanted.answers() >= work.tokens().len() {
                    answers.push(Answered::Logits(Self::logits(tokens)));
                }
            }
        }
        Box::pin(ready(Ok(answers)))
    }
}

fn backends() -> [fn() -> Box<dyn Backend>; 2] {
    [|| Box::new(Copier::new()), || Box::new(load(TinyModel::default().gguf()).0)]
}

#[derive(Default)]
struct Answer {
    tokens: Vec<u32>,
    /// Once it has ended.
    reason: Option<FinishReason>,
    steps: usize,
}

/// The answers of a new engine; see [`answers_of`].
fn answers(backend: fn() -> Box<dyn Backend>, requests: &[(Vec<u32>, GenerationParams)]) -> Vec<Answer> {
    answers_of(&mut Engine::new(backend(), Limits::default()), requests)
}

/// Generates the answers to some requests at the same time.
fn answers_of(engine: &mut Engine, requests: &[(Vec<u32>, GenerationParams)]) -> Vec<Answer> {
    let mut answers: Vec<(SequenceId, Answer)> = requests
        .iter()
        .map(|(prompt, params)| (engine.submit(prompt.clone(), params.clone(), None).expect("a place"), Answer::default()))
        .collect();
    loop {
        for (id, answer) in &mut answers {
            while answer.reason.is_none() {
                match engine.poll(*id) {
                    Some(Event::Token(token)) => answer.tokens.push(token),
                    Some(Event::Finished(reason)) => answer.reason = Some(reason),
                    Some(Event::Failed(error)) => panic!("{error}"),
                    None => break,
                }
            }
            answer.steps += usize::from(answer.reason.is_none());
        }
        if answers.iter().all(|(_, answer)| answer.reason.is_some()) {
            return answers.into_iter().map(|(_, answer)| answer).collect();
        }
        pollster::block_on(engine.step());
    }
}

fn request(seed: u32, ahead: bool) -> (Vec<u32>, GenerationParams) {
    let sampling = SamplingParams {
        temperature: [0.0, 0.05, 0.7][seed as usize % 3],
        top_k: [None, Some(3)][seed as usize / 3 % 2],
        top_p: [None, Some(0.9)][seed as usize / 6 % 2],
        repetition_penalty: [None, None, Some(1.05)][seed as usize / 12 % 3],
        presence_penalty: [0.0, 0.2][seed as usize / 36 % 2],
        seed: Some(u64::from(seed)),
        ..SamplingParams::default()
    };
    // In some answers a token that is drafted ends them.
    let end_tokens = if seed.is_multiple_of(5) { Rc::new([seed % TINY_VOCABULARY as u32].into()) } else { Rc::default() };
    (prompt(seed), GenerationParams { max_tokens: 1 + (seed as usize * 13) % 120, sampling, end_tokens, ahead, adapter: None, ticket: 0 })
}

#[test]
fn an_answer_has_the_same_tokens_with_and_without_drafts() {
    for (backend, saves) in backends().into_iter().zip([true, false]) {
        let (mut with, mut without) = (0, 0);
        for seed in (0..144).step_by(if saves { 1 } else { 7 }) {
            let [drafted, plain] = [true, false].map(|ahead| answers(backend, &[request(seed, ahead)]).remove(0));
            assert_eq!((&drafted.tokens, drafted.reason), (&plain.tokens, plain.reason), "seed {seed}");
            assert!(drafted.steps <= plain.steps, "seed {seed}");
            with += drafted.steps;
            without += plain.steps;
        }
        assert!(!saves || with * 3 < without * 2, "{with} steps instead of {without}");
    }
}

#[test]
fn answers_beside_each_other_have_the_same_tokens() {
    for (backend, step) in backends().into_iter().zip([5, 25]) {
        for first in (0..120).step_by(step) {
            let requests: Vec<_> = (first..first + 5).map(|seed| request(seed, true)).collect();
            for (answer, (prompt, params)) in answers(backend, &requests).iter().zip(&requests) {
                let alone = answers(backend, &[(prompt.clone(), GenerationParams { ahead: false, ..params.clone() })]).remove(0);
                assert_eq!((&answer.tokens, answer.reason), (&alone.tokens, alone.reason), "from seed {first}");
            }
        }
    }
}

/// What a rejected draft left in the cache is gone: the next request with the same beginning gets the same answer.
#[test]
fn a_later_request_that_reuses_the_cache_gets_the_same_answer() {
    for backend in backends() {
        let mut engine = Engine::new(backend(), Limits { caches: 1, ..Limits::default() });
        for seed in 0..60 {
            let requests = [request(seed, true)];
            let [first, second] = [(); 2].map(|()| answers_of(&mut engine, &requests).remove(0).tokens);
            assert_eq!(first, second, "seed {seed}");
        }
    }
}
