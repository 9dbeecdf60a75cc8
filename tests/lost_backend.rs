//! A backend is lost, runs out of memory or panics in the middle of answers. The engine continues, and no token is lost or repeated.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::adapters::TinyAdapter;
use common::{TINY_VOCABULARY, TinyModel, load};
use std::rc::Rc;
use workers_ai_local::backend::cpu::CpuBackend;
use workers_ai_local::backend::{Answer, Backend, CacheId, Gpu, Work};
use workers_ai_local::engine::{Engine, Event, FinishReason, GenerationParams, Limits, SequenceId};
use workers_ai_local::error::{AiError, Result};
use workers_ai_local::gguf::LocalFuture;
use workers_ai_local::lora::{Adapter, AdapterId};
use workers_ai_local::model::Hyperparameters;
use workers_ai_local::sampling::SamplingParams;

/// The CPU backend, by default disguised as a GPU, that is lost after `batches` batches, that has room for `room` tokens in all, and that
/// panics when it is to compute the token `poison`.
struct Faulty {
    inner: CpuBackend,
    is_gpu: bool,
    batches: usize,
    room: usize,
    poison: Option<u32>,
    lost: bool,
    /// Adapters that were prepared for it.
    prepared: Vec<AdapterId>,
}

impl Faulty {
    fn lost_after(batches: usize) -> Box<Self> {
        Box::new(Self { batches, ..Self::new() })
    }

    fn with_room_for(room: usize) -> Box<Self> {
        Box::new(Self { room, ..Self::new() })
    }

    fn panicking_at(poison: u32, is_gpu: bool) -> Box<Self> {
        Box::new(Self { poison: Some(poison), is_gpu, ..Self::new() })
    }

    fn new() -> Self {
        Self { inner: cpu(), is_gpu: true, batches: usize::MAX, room: usize::MAX, poison: None, lost: false, prepared: Vec::new() }
    }
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        self.inner.hyperparameters()
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        self.inner.create_cache()
    }

    fn release_cache(&mut self, cache: CacheId) {
        assert!(!self.lost, "nothing is asked of a lost backend");
        self.inner.release_cache(cache);
    }

    fn truncate_cache(&mut self, cache: CacheId, length: usize) -> usize {
        self.inner.truncate_cache(cache, length)
    }

    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<usize>> {
        self.inner.copy_prefix(from, to, length)
    }

    fn gpu(&self) -> Option<Gpu> {
        self.is_gpu.then(|| Gpu { adapter: "faulty".into(), counters: Default::default() })
    }

    fn is_lost(&self) -> bool {
        self.lost
    }

    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>> {
        if self.room < additional {
            return Box::pin(std::future::ready(Err(AiError::out_of_memory("the context", additional as u64))));
        }
        self.room -= additional;
        self.inner.reserve(cache, additional)
    }

    fn prepare_adapter<'a>(&'a mut self, adapter: &'a Rc<Adapter>) -> LocalFuture<'a, Result<()>> {
        self.prepared.push(adapter.id);
        self.inner.prepare_adapter(adapter)
    }

    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>> {
        if self.batches == 0 {
            self.lost = true;
            return Box::pin(std::future::ready(Err(AiError::out_of_memory("the device", 0))));
        }
        self.batches -= 1;
        assert!(batch.iter().filter_map(|work| work.adapter).all(|adapter| self.prepared.contains(&adapter.id)), "an adapter is prepared");
        assert!(!batch.iter().any(|work| self.poison.is_some_and(|poison| work.tokens().contains(&poison))), "a test's panic");
        self.inner.forward(batch)
    }
}

fn cpu() -> CpuBackend {
    load(TinyModel::default().gguf()).0
}

fn prompt(first: u32, length: u32) -> Vec<u32> {
    (0..length).map(|i| (first + i * 37) % TINY_VOCABULARY as u32).collect()
}

fn submit(engine: &mut Engine, first: u32, length: u32, adapter: Option<Rc<Adapter>>) -> SequenceId {
    let prompt = prompt(first, length);
    let sampling = SamplingParams { temperature: 1.0, seed: Some(7), ..SamplingParams::default() };
    let params = GenerationParams { max_tokens: 12, sampling, ahead: true, adapter, ..GenerationParams::default() };
    engine.submit(prompt, params, None).expect("a place")
}

/// Two sequences, the second one with a LoRA adapter.
fn both(engine: &mut Engine) -> [SequenceId; 2] {
    let model = TinyModel::default();
    let adapter = TinyAdapter::of(&model, &["."], 4, 9).loaded(&model);
    [submit(engine, 5, 60, None), submit(engine, 90, 9, Some(adapter))]
}

/// Generates two answers to their ends and replaces the backend whenever it is lost or out of memory. Returns the answers' tokens and the
/// number of replacements.
fn answers(mut engine: Engine) -> ([Vec<u32>; 2], usize) {
    let sequences = both(&mut engine);
    let (mut tokens, mut open, mut replaced) = ([Vec::new(), Vec::new()], [true, true], 0);
    while open.contains(&true) {
        for index in 0..2 {
            match open[index].then(|| engine.poll(sequences[index])).flatten() {
                Some(Event::Logprobs(_)) => {}
                Some(Event::Token(token)) => tokens[index].push(token),
                Some(Event::Finished(reason)) => {
                    assert_eq!(reason, FinishReason::Length);
                    open[index] = false;
                }
                Some(Event::Failed(error)) => panic!("{error}"),
                None => {}
            }
        }
        pollster::block_on(engine.step());
        if engine.lost().is_some() || engine.out_of_gpu_memory().is_some() {
            engine.replace_backend(Box::new(cpu()));
            replaced += 1;
        }
    }
    (tokens, replaced)
}

#[test]
fn no_token_is_lost_or_repeated_whenever_the_backend_is_lost() {
    let (expected, replaced) = answers(Engine::new(Box::new(cpu()), Limits::default()));
    assert_eq!((expected[0].len(), expected[1].len(), replaced), (12, 12, 0));
    for batches in 0..14 {
        let (tokens, replaced) = answers(Engine::new(Faulty::lost_after(batches), Limits::default()));
        assert_eq!(tokens, expected, "lost after {batches} batches");
        assert_eq!(replaced, 1, "lost after {batches} batches");
    }
}

#[test]
fn without_another_backend_every_answer_ends_with_the_error() {
    let mut engine = Engine::new(Faulty::lost_after(1), Limits::default());
    let sequences = [submit(&mut engine, 5, 9, None), submit(&mut engine, 90, 9, None)];
    for _ in 0..3 {
        for sequence in sequences {
            engine.poll(sequence);
        }
        pollster::block_on(engine.step());
    }
    assert!(engine.lost().is_some());
    engine.fail_all(&AiError::invalid_data("no backend"));
    for sequence in sequences {
        let event = std::iter::from_fn(|| engine.poll(sequence)).find(|event| !matches!(event, Event::Token(_)));
        assert!(matches!(event, Some(Event::Failed(error)) if error.text == "no backend"));
    }
    assert_eq!(engine.active(), 0);
}

#[test]
fn a_panic_ends_the_sequence_that_causes_it_and_no_other() {
    let (expected, _) = answers(Engine::new(Box::new(cpu()), Limits::default()));
    let prompts = [prompt(5, 60), prompt(90, 9)];
    let is_only_in = |index: usize, token: &u32| !prompts[1 - index].contains(token) && !expected[1 - index].contains(token);
    for harmful in [0, 1] {
        let in_prompt = prompts[harmful].iter().filter(|token| is_only_in(harmful, token)).map(|token| (*token, 0));
        let new_in_answer = |(_, token): &(usize, &u32)| is_only_in(harmful, token) && !prompts[harmful].contains(token);
        // The last token is never computed.
        let in_answer = expected[harmful][..11].iter().enumerate().filter(new_in_answer);
        // A token reaches the caller before it is computed.
        let in_answer =
            in_answer.map(|(_, token)| (*token, expected[harmful].iter().position(|other| other == token).expect("it is there") + 1));
        let poisons: Vec<_> = in_prompt.step_by(7).chain(in_answer).collect();
        assert!(poisons.iter().any(|(_, delivered)| *delivered > 1), "one while the answer is decoded");
        for (poison, delivered) in poisons {
            for is_gpu in [false, true] {
                let mut engine = Engine::new(Faulty::panicking_at(poison, is_gpu), Limits::default());
                let sequences = both(&mut engine);
                let (mut tokens, mut ends) = ([Vec::new(), Vec::new()], [None, None]);
                while ends.contains(&None) {
                    for index in 0..2 {
                        match ends[index].is_none().then(|| engine.poll(sequences[index])).flatten() {
                            Some(Event::Token(token)) => tokens[index].push(token),
                            end @ Some(_) => ends[index] = end,
                            None => {}
                        }
                    }
                    pollster::block_on(engine.step());
                    if engine.lost().is_some() {
                        engine.replace_backend(Faulty::panicking_at(poison, is_gpu));
                    }
                }
                let place = format!("token {poison}, sequence {harmful}, GPU: {is_gpu}");
                assert_eq!(tokens[1 - harmful], expected[1 - harmful], "{place}");
                assert_eq!(ends[1 - harmful], Some(Event::Finished(FinishReason::Length)), "{place}");
                assert_eq!(tokens[harmful], expected[harmful][..delivered], "{place}");
                let Some(Event::Failed(error)) = &ends[harmful] else { panic!("{place}: {ends:?}") };
                assert!(error.text.contains("a test's panic") && error.text.contains("bug"), "{error}");
            }
        }
    }
}

#[test]
fn when_memory_runs_out_another_backend_continues() {
    let (expected, _) = answers(Engine::new(Box::new(cpu()), Limits::default()));
    // Both prompts and answers have 91 tokens together, without the last token of each answer, which is never computed.
    for room in (0..91).step_by(3) {
        let (tokens, replaced) = answers(Engine::new(Faulty::with_room_for(room), Limits::default()));
        assert_eq!(tokens, expected, "room for {room} tokens");
        assert_eq!(replaced, 1, "room for {room} tokens");
    }
}

#[test]
fn when_memory_runs_out_without_another_backend_only_sequences_without_room_fail() {
    // Room for the first prompt and answer; the second prompt is too long for the rest.
    let mut engine = Engine::new(Faulty::with_room_for(24), Limits::default());
    let sequences = [submit(&mut engine, 5, 9, None), submit(&mut engine, 90, 30, None)];
    let mut ends = [None, None];
    let mut tokens = 0;
    while ends.contains(&None) {
        for index in 0..2 {
            match ends[index].is_none().then(|| engine.poll(sequences[index])).flatten() {
                Some(Event::Token(_)) if index == 0 => tokens += 1,
                Some(Event::Token(_)) => panic!("there is no room for it"),
                end @ Some(_) => ends[index] = end,
                None => {}
            }
        }
        pollster::block_on(engine.step());
        engine.fail_out_of_gpu_memory(" Nor is there another.");
    }
    assert_eq!((tokens, &ends[0]), (12, &Some(Event::Finished(FinishReason::Length))));
    let Some(Event::Failed(error)) = &ends[1] else { panic!("{ends:?}") };
    assert!(error.text.starts_with("Out of memory: the context needs") && error.text.ends_with(" Nor is there another."), "{error}");
}
