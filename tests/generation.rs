//! Whole requests, without JavaScript: the answers, and the guarantees of the engine.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{
    LLAMA2, LLAMA31, TinyModel, ai_from, ai_with, best, dequantised, load, real_model, start, stock_logits, stock_model, text_and_end,
    text_of,
};
use serde_json::{Value, json};
use workers_ai_local::ai::{Ai, BackendChoice, Choices};
use workers_ai_local::engine::{FinishReason, Limits};
use workers_ai_local::error::ErrorCode;
use workers_ai_local::output::{Part, Progress};

fn tiny_ai(limits: Limits) -> Ai {
    ai_with(TinyModel::default().gguf(), limits).0
}

/// A request whose answer ends only at `max_tokens`.
fn endless(prompt: &str) -> Value {
    json!({"prompt": prompt, "raw": true, "temperature": 1, "seed": 5, "max_tokens": 40})
}

async fn piece(generation: &mut Choices) -> Option<String> {
    match generation.next().await.expect("a part") {
        Some(Progress::Part { part: Part::Text(piece), .. }) => Some(piece),
        Some(Progress::Part { part, .. }) => panic!("text was expected, not {part:?}"),
        Some(Progress::Finished { .. }) | None => None,
    }
}

/// The reference is the stock model over F32 weights. (llama.cpp, whose activations have 8 bits, begins with "L'Étoile".)
#[test]
fn the_real_model_answers_as_exact_arithmetic_does() {
    let (mut stock, (_, tokenizer)) = (stock_model(&dequantised(&real_model())), load(real_model()));
    let mut tokens = tokenizer.encode(TURN).expect("tokens");
    let (mut expected, mut position) = (Vec::new(), 0);
    for _ in 0..10 {
        let token = best(&stock_logits(&mut stock, &tokens, position)) as u32;
        position += tokens.len();
        tokens = vec![token];
        if tokenizer.end_of_generation().contains(&token) {
            break;
        }
        expected.extend(tokenizer.token_bytes(token));
    }
    let expected = String::from_utf8(expected).expect("text");

    let (ai, warnings) = ai_with(real_model(), Limits::default());
    pollster::block_on(async {
        let input = json!({"prompt": "What is the capital of France?", "temperature": 0, "max_tokens": 10});
        let mut answer = start(&ai, LLAMA31, input).await.expect("started");
        // llama.cpp makes 37 tokens of the same chat turn.
        assert_eq!(answer.usage().prompt_tokens, 37);
        let (text, end) = text_and_end(&mut answer).await.expect("text");
        assert_eq!(text, expected);
        assert_eq!(text, "The capital of France is Paris.");
        assert_eq!((answer.usage().completion_tokens, end), (7, Some(FinishReason::Stop)));
    });
    let warnings = warnings.borrow();
    assert!(matches!(&warnings[..], [warning] if warning.contains(LLAMA31) && warning.contains("test.gguf")), "{warnings:?}");
}

/// A chat turn as the model's own template writes it.
const TURN: &str = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";

/// The expected token ids are those of llama.cpp for the same file.
#[test]
fn the_real_vocabulary_gives_the_tokens_of_llama_cpp() {
    use std::rc::Rc;
    use workers_ai_local::gguf::{BytesSource, Header, Reader};
    use workers_ai_local::tokenizer::Tokenizer;
    let tokenizer = pollster::block_on(async {
        let mut reader = Reader::new(Rc::new(BytesSource::new("real", real_model())), Box::new(|_| {}));
        let header = Header::read(&mut reader).await?;
        Tokenizer::from_header(&header, "real")
    })
    .expect("a tokenizer");
    assert_eq!(
        tokenizer.encode(TURN).expect("tokens"),
        [
            1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182, 2, 198, 1, 4093, 198,
            1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198
        ]
    );
    for text in ["Größe 12345 — naïve café", "中文 और हिन्दी", "👩‍👩‍👧‍👦 🇩🇪", "e\u{301}\r\n\ttabs  and   spaces", ""]
    {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).expect("tokens")), text);
    }
}

#[test]
fn the_next_turn_reuses_the_cache_of_the_conversation_and_gives_the_same_text() {
    let warm = tiny_ai(Limits::default());
    let cold = tiny_ai(Limits::default());
    pollster::block_on(async {
        let mut first = start(&warm, LLAMA2, endless("Once upon a time")).await.expect("started");
        let text = text_of(&mut first).await.expect("text");
        assert_eq!(first.usage().cached_tokens, 0);
        let second = endless(&format!("Once upon a time{text} and then"));
        let mut reused = start(&warm, LLAMA2, second.clone()).await.expect("started");
        let mut computed = start(&cold, LLAMA2, second).await.expect("started");
        assert_eq!(text_of(&mut reused).await, text_of(&mut computed).await);
        assert!(reused.usage().cached_tokens >= "Once upon a time".len() - 1, "{:?}", reused.usage());
        assert_eq!(computed.usage().cached_tokens, 0);
        assert_eq!(reused.usage().prompt_tokens, computed.usage().prompt_tokens);
    });
}

#[test]
fn concurrent_answers_take_turns_and_are_the_same_as_alone() {
    // With one cache the answers must pass it to each other, and compute again what they lose.
    for caches in [1, 4] {
        let ai = tiny_ai(Limits { caches, cache_bytes: 0, idle_after_ms: 0.0, ..Limits::default() });
        let alone = tiny_ai(Limits::default());
        pollster::block_on(async {
            let prompts = ["alpha", "beta gamma", "a prompt that is a good deal longer than the step of the engine allows at once"];
            let mut running = Vec::new();
            for prompt in prompts {
                running.push((start(&ai, LLAMA2, endless(prompt)).await.expect("started"), String::new(), false));
            }
            while running.iter().any(|(.., done)| !done) {
                for (generation, text, done) in &mut running {
                    match piece(generation).await {
                        Some(more) => text.push_str(&more),
                        None => *done = true,
                    }
                }
            }
            for (prompt, (_, text, _)) in prompts.iter().zip(running) {
                let mut expected = start(&alone, LLAMA2, endless(prompt)).await.expect("started");
                assert_eq!(text, text_of(&mut expected).await.expect("text"), "{prompt} with {caches} caches");
            }
        });
    }
}

/// More concurrent readers than caches: all are served, and no prompt is computed twice.
#[test]
fn more_concurrent_answers_than_caches_wait_for_one_another() {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    let ai = tiny_ai(Limits { caches: 2, cache_bytes: 0, ..Limits::default() });
    let alone = tiny_ai(Limits::default());
    let prompts: Vec<String> = (0..7).map(|i| format!("{i} is the number of this prompt, which has its own beginning")).collect();
    let mut running: Vec<Pin<Box<dyn Future<Output = String>>>> = Vec::new();
    for prompt in &prompts {
        let mut generation = pollster::block_on(start(&ai, LLAMA2, endless(prompt))).expect("started");
        running.push(Box::pin(async move { text_of(&mut generation).await.expect("text") }));
    }
    let mut texts = vec![None; prompts.len()];
    for _ in 0..100_000 {
        for (future, text) in running.iter_mut().zip(&mut texts) {
            if text.is_none()
                && let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                *text = Some(done);
            }
        }
    }
    let mut needed = 0;
    for (prompt, text) in prompts.iter().zip(texts) {
        let mut expected = pollster::block_on(start(&alone, LLAMA2, endless(prompt))).expect("started");
        assert_eq!(text, Some(pollster::block_on(text_of(&mut expected)).expect("text")), "{prompt}");
        needed += expected.usage().prompt_tokens + expected.usage().completion_tokens;
    }
    let (active, computed) = ai.loaded()[0].activity();
    assert_eq!(active, 0);
    assert!(computed <= needed as u64, "{computed} tokens were computed, {needed} are needed");
}

#[test]
fn nothing_is_computed_before_it_is_read() {
    let ai = tiny_ai(Limits::default());
    pollster::block_on(async {
        let mut generation = start(&ai, LLAMA2, endless("hello")).await.expect("started");
        let model = ai.loaded().remove(0);
        assert_eq!(model.activity(), (1, 0), "before the first piece");
        piece(&mut generation).await;
        let (_, after_one) = model.activity();
        assert!(after_one < 12, "{after_one} tokens for a prompt of 5 and one piece");
        drop(generation);
        assert_eq!(model.activity(), (0, after_one), "after it was dropped");
    });
}

#[test]
fn a_full_queue_is_3040_until_a_request_ends() {
    let ai = tiny_ai(Limits { sequences: 2, ..Limits::default() });
    pollster::block_on(async {
        let first = start(&ai, LLAMA2, endless("a")).await.expect("started");
        let _second = start(&ai, LLAMA2, endless("b")).await.expect("started");
        let error = start(&ai, LLAMA2, endless("c")).await.err().expect("full");
        assert_eq!(error.code, ErrorCode::OutOfCapacity);
        drop(first);
        let mut third = start(&ai, LLAMA2, endless("c")).await.expect("a free place");
        assert!(text_of(&mut third).await.is_ok());
    });
}

/// The place of a reader that stands still is lent out, and its answer is complete all the same.
#[test]
fn a_reader_that_stands_still_lends_its_place_to_the_next() {
    let ai = tiny_ai(Limits { sequences: 1, idle_after_ms: 0.0, ..Limits::default() });
    let alone = tiny_ai(Limits::default());
    pollster::block_on(async {
        let mut expected = start(&alone, LLAMA2, endless("a")).await.expect("started");
        let expected = text_of(&mut expected).await.expect("text");
        let mut first = start(&ai, LLAMA2, endless("a")).await.expect("started");
        let begun = piece(&mut first).await.expect("a piece");
        let mut next = start(&ai, LLAMA2, endless("b")).await.expect("started in its place");
        assert!(text_of(&mut next).await.is_ok());
        assert_eq!(begun + &text_of(&mut first).await.expect("the rest"), expected);
    });
}

#[test]
fn a_reader_that_left_without_cancelling_is_dropped_when_there_are_too_many() {
    let ai = tiny_ai(Limits { unread: 1, idle_after_ms: 0.0, abandoned_after_ms: 0.0, ..Limits::default() });
    pollster::block_on(async {
        let mut left = start(&ai, LLAMA2, endless("a")).await.expect("started");
        let mut next = start(&ai, LLAMA2, endless("b")).await.expect("started in its place");
        assert!(text_of(&mut next).await.is_ok());
        // If the first reader comes back, it gets an error instead of waiting for ever.
        assert_eq!(text_of(&mut left).await.expect_err("gone").code, ErrorCode::Aborted);
    });
}

/// Runs futures side by side, one poll each in turn, until all are done.
fn side_by_side<T>(mut running: Vec<std::pin::Pin<Box<dyn Future<Output = T>>>>, mut each_round: impl FnMut(usize)) -> Vec<T> {
    use std::task::{Context, Poll, Waker};
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    for round in 0..1_000_000 {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                *done = Some(value);
            }
        }
        each_round(round);
        if done.iter().all(Option::is_some) {
            break;
        }
    }
    done.into_iter().map(|value| value.expect("done")).collect()
}

/// Many streams at once: each begins before any ends, and every token is computed once.
#[test]
fn many_answers_at_once_all_begin_and_compute_nothing_twice() {
    use std::cell::RefCell;
    use std::rc::Rc;
    let ai = Rc::new(tiny_ai(Limits { idle_after_ms: 0.0, ..Limits::default() }));
    let alone = tiny_ai(Limits::default());
    let prompts: Vec<String> = (0..40).map(|i| format!("{i} is the number of this prompt, which has its own beginning")).collect();
    let order = Rc::new(RefCell::new(Vec::new()));
    let running = prompts.iter().enumerate().map(|(index, prompt)| {
        let (ai, order, prompt) = (Rc::clone(&ai), Rc::clone(&order), prompt.clone());
        let future = async move {
            let mut generation = start(&ai, LLAMA2, endless(&prompt)).await.expect("started");
            let first = piece(&mut generation).await.expect("a piece");
            order.borrow_mut().push(("begins", index));
            let text = first + &text_of(&mut generation).await.expect("text");
            order.borrow_mut().push(("ends", index));
            (text, generation.usage())
        };
        Box::pin(future) as std::pin::Pin<Box<dyn Future<Output = (String, workers_ai_local::output::Usage)>>>
    });
    let answers = side_by_side(running.collect(), |_| ());
    let mut needed = 0;
    for (prompt, (text, usage)) in prompts.iter().zip(answers) {
        let mut expected = pollster::block_on(start(&alone, LLAMA2, endless(prompt))).expect("started");
        assert_eq!(text, pollster::block_on(text_of(&mut expected)).expect("text"), "{prompt}");
        // No more than "10 is" and "11 is" have in common.
        assert!(usage.cached_tokens <= 2, "{prompt}: {}", usage.cached_tokens);
        needed += usage.prompt_tokens + usage.completion_tokens;
    }
    let first_end = order.borrow().iter().position(|(what, _)| *what == "ends").expect("an end");
    assert_eq!(order.borrow()[..first_end].len(), prompts.len(), "all begin before one ends: {:?}", order.borrow());
    let (_, computed) = ai.loaded()[0].activity();
    assert!(computed <= needed as u64, "{computed} tokens were computed, {needed} are needed");
}

/// The place is taken first: while the model loads, requests beyond the limit are refused at once.
#[test]
fn requests_that_wait_for_a_load_have_places() {
    use std::rc::Rc;
    use workers_ai_local::gguf::{BytesSource, LocalFuture, OpenedSource, Source, SourceError};
    /// A file that does not open before the gate is open.
    struct Slow(BytesSource, Rc<std::cell::Cell<bool>>);
    impl Source for Slow {
        fn name(&self) -> String {
            self.0.name()
        }
        fn identity(&self) -> String {
            self.0.identity()
        }
        fn open(&self, offset: u64) -> LocalFuture<'_, std::result::Result<OpenedSource, SourceError>> {
            Box::pin(async move {
                std::future::poll_fn(|_| if self.1.get() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }).await;
                self.0.open(offset).await
            })
        }
    }
    let gate = Rc::new(std::cell::Cell::new(false));
    let source = Slow(BytesSource::new("test.gguf", TinyModel::default().gguf()), Rc::clone(&gate));
    let ai = Rc::new(ai_from(Rc::new(source), Limits { sequences: 3, ..Limits::default() }).0);
    let refused = Rc::new(std::cell::Cell::new(0));
    let running = (0..5).map(|_| {
        let (ai, gate, refused) = (Rc::clone(&ai), Rc::clone(&gate), Rc::clone(&refused));
        let future = async move {
            match start(&ai, LLAMA2, endless("a")).await {
                Ok(mut generation) => text_of(&mut generation).await.is_ok(),
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::OutOfCapacity);
                    assert!(!gate.get(), "refused only after the load");
                    refused.set(refused.get() + 1);
                    false
                }
            }
        };
        Box::pin(future) as std::pin::Pin<Box<dyn Future<Output = bool>>>
    });
    let answers = side_by_side(running.collect(), |round| gate.set(round >= 3));
    assert_eq!((answers, refused.get()), (vec![true, true, true, false, false], 2));
}

#[test]
fn max_tokens_and_stop_strings_end_an_answer() {
    let ai = tiny_ai(Limits::default());
    pollster::block_on(async {
        let mut none = start(&ai, LLAMA2, json!({"prompt": "a", "max_tokens": 0})).await.expect("started");
        assert_eq!(text_and_end(&mut none).await, Ok((String::new(), Some(FinishReason::Length))));
        assert_eq!(none.usage().completion_tokens, 0);

        let mut whole = start(&ai, LLAMA2, endless("stop")).await.expect("started");
        let text = text_of(&mut whole).await.expect("text");
        let stop: String = text.chars().skip(5).take(2).collect();
        let mut input = endless("stop");
        input["stop"] = json!([stop]);
        let mut cut = start(&ai, LLAMA2, input).await.expect("started");
        let (cut_text, end) = text_and_end(&mut cut).await.expect("text");
        assert_eq!((Some(cut_text.as_str()), end), (text.split(&stop).next(), Some(FinishReason::Stop)));

        let error = start(&ai, LLAMA2, json!({"prompt": "x".repeat(600), "raw": true})).await.err().expect("too long");
        assert_eq!(
            error.to_string(),
            "5021: The estimated number of input and maximum output tokens (856) exceeded this model context window limit (512)."
        );
    });
}

#[test]
fn strict_refuses_ids_without_weights() {
    use std::collections::HashMap;
    use std::rc::Rc;
    use workers_ai_local::ai::Config;
    use workers_ai_local::gguf::BytesSource;
    let source = Rc::new(BytesSource::new("test.gguf", TinyModel::default().gguf()));
    let ai = Ai::new(Config {
        models: HashMap::from([("@cf/own/model".to_owned(), Rc::clone(&source) as _)]),
        loras: HashMap::new(),
        default: Some(source),
        strict: true,
        limits: Limits::default(),
        backend: BackendChoice::Cpu,
        memory: Rc::default(),
        on_progress: None,
        on_warning: Rc::new(|text| panic!("no warning: {text}")),
        substitute: None,
        embeddings: None,
        default_embeddings: None,
    });
    pollster::block_on(async {
        assert!(start(&ai, "@cf/own/model", endless("a")).await.is_ok());
        for id in [LLAMA31, "@cf/x/y"] {
            let error = start(&ai, id, endless("a")).await.err().expect("refused");
            assert_eq!(error.to_string(), format!("5007: No such model {id} or task"));
        }
    });
}
