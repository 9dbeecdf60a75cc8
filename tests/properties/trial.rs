//! Tries a property with random inputs, and reports.
//!
//! `WORKERS_AI_LOCAL_CASES`: how many inputs each property gets, instead of the few of the gate. `WORKERS_AI_LOCAL_MINUTES`: at most so long for each
//! property; without a number of inputs, as many as that. `WORKERS_AI_LOCAL_SEED`: the seed of the first input, input n has that seed plus n; if only
//! the number or the time is given, any. `WORKERS_AI_LOCAL_CURRENT`: a file for the seed of the input that is being tried, so that it is known when the
//! process ends over it.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::{Duration, Instant};

/// What an input led to, for the counts: [`ANSWER`] or the text of an error. `Err` if the property does not hold.
pub type Outcome = Result<String, TestCaseError>;

pub const ANSWER: &str = "answer";

/// The seed of the gate.
const USUAL_SEED: u64 = 20_261_126;
/// Inputs that fail, after which a property is not tried further.
const MAX_FAULTS: usize = 3;
/// The most outcomes that are counted separately: texts of errors quote parts of the input, so there can be many.
const MAX_OUTCOMES: usize = 500;
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Tries `property` with inputs of `strategy`: in the gate with `usual` inputs. `name` is the path of the test.
pub fn check<S: Strategy>(name: &str, usual: u64, strategy: S, property: impl Fn(S::Value) -> Outcome) {
    let mut report = Report { name, ..Report::default() };
    let plan = Plan::from_environment(usual);
    let config = Config {
        cases: 1,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::XorShift,
        max_shrink_iters: 50_000,
        max_shrink_time: 5_000,
        ..Config::default()
    };
    let mut current = std::env::var("WORKERS_AI_LOCAL_CURRENT").ok().map(|path| File::create(path).expect("a file for the current seed"));
    let started = Instant::now();
    let mut reported = started;
    for index in 0..plan.cases {
        if started.elapsed() >= plan.time || report.faults.len() >= MAX_FAULTS {
            break;
        }
        let seed = plan.seed.wrapping_add(index);
        if let Some(file) = &mut current {
            file.seek(SeekFrom::Start(0))
                .and_then(|_| file.write_all(format!("{seed:20}").as_bytes()))
                .expect("the current seed is written");
        }
        let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..config.clone() });
        let tree = strategy.new_tree(&mut runner).expect("an input");
        // The first run is the input's; others look for a smaller one that fails too.
        let first: RefCell<Option<String>> = RefCell::new(None);
        let began = Instant::now();
        let result = runner.run_one(tree, |input| {
            let outcome = caught(|| property(input))?;
            first.borrow_mut().get_or_insert(outcome);
            Ok(())
        });
        let took = began.elapsed();
        report.inputs += 1;
        if took > report.slowest.0 {
            report.slowest = (took, seed);
        }
        if let Some(outcome) = first.take().filter(|_| result.is_ok()) {
            report.count(blanked(&outcome));
        }
        if let Err(error) = result {
            report.fault(seed, error);
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            report.print(plan.seed.wrapping_add(index + 1), started.elapsed());
        }
    }
    report.print(plan.seed.wrapping_add(report.inputs), started.elapsed());
    assert!(report.faults.is_empty(), "{}", report.faults.join("\n"));
}

/// How the reason of a fault begins that is a panic.
const PANIC: &str = "panic at ";

thread_local! {
    /// While a property is tried: where and why it panicked.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a property. A panic becomes a fault that says where.
fn caught(work: impl FnOnce() -> Outcome) -> Outcome {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if PANICKED.with_borrow(Option::is_some) {
                PANICKED.set(Some(panic.to_string().replace("panicked at ", PANIC)));
            } else {
                usual(panic);
            }
        }));
    });
    PANICKED.set(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(work));
    let panicked = PANICKED.take().unwrap_or_default();
    result.unwrap_or_else(|_| Err(TestCaseError::fail(panicked)))
}

struct Plan {
    cases: u64,
    time: Duration,
    seed: u64,
}

impl Plan {
    fn from_environment(usual: u64) -> Self {
        fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
            let text = std::env::var(format!("WORKERS_AI_LOCAL_{name}")).ok()?;
            Some(text.parse().unwrap_or_else(|_| panic!("WORKERS_AI_LOCAL_{name} is a number, not '{text}'")))
        }
        let (cases, minutes, seed) = (number("CASES"), number::<f64>("MINUTES"), number("SEED"));
        let by_hand = cases.is_some() || minutes.is_some();
        let any_seed = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self {
            cases: cases.unwrap_or(if by_hand { u64::MAX } else { usual }),
            time: minutes.map_or(Duration::MAX, |minutes| Duration::from_secs_f64(minutes * 60.0)),
            seed: seed.unwrap_or_else(|| if by_hand { any_seed() } else { USUAL_SEED }),
        }
    }
}

#[derive(Default)]
struct Report<'a> {
    name: &'a str,
    inputs: u64,
    /// How many inputs led to each outcome.
    outcomes: BTreeMap<String, u64>,
    faults: Vec<String>,
    panics: usize,
    slowest: (Duration, u64),
}

impl Report<'_> {
    fn count(&mut self, outcome: String) {
        let is_new = !self.outcomes.contains_key(&outcome);
        let outcome = if is_new && self.outcomes.len() >= MAX_OUTCOMES { "others".into() } else { outcome };
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    fn fault<T: std::fmt::Debug>(&mut self, seed: u64, error: TestError<T>) {
        let TestError::Fail(reason, input) = error else { panic!("{}: no input: {error:?}", self.name) };
        let is_panic = reason.message().starts_with(PANIC);
        let text = format!(
            "{}: {reason}\n  repeat it: WORKERS_AI_LOCAL_SEED={seed} WORKERS_AI_LOCAL_CASES=1 cargo test --test properties {}\n  smallest input: {input:?}",
            self.name, self.name
        );
        // Panics first.
        self.faults.insert(if is_panic { 0 } else { self.faults.len() }, text);
        self.panics += usize::from(is_panic);
    }

    /// One line for `npm run fuzz`, which shows the last one as a row of its table.
    fn print(&self, next: u64, elapsed: Duration) {
        let (slowest, slowest_seed) = self.slowest;
        let line = json!({
            "property": self.name,
            "inputs": self.inputs,
            "outcomes": self.outcomes,
            "faults": self.faults,
            "panics": self.panics,
            "milliseconds": elapsed.as_millis() as u64,
            "slowest": {"milliseconds": slowest.as_millis() as u64, "seed": slowest_seed},
            "next": next,
        });
        println!("{line}");
    }
}

/// A text with its numbers and quotes blanked, so that errors of the same kind count as one. As in `scripts/fuzz.mjs`.
fn blanked(text: &str) -> String {
    let code = text.get(..6).filter(|code| code.ends_with(": ") && code[..4].bytes().all(|digit| digit.is_ascii_digit())).unwrap_or("");
    let mut out = code.to_owned();
    let mut rest = &text[code.len()..];
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        let quoted = matches!(letter, '\'' | '"' | '`').then(|| after.find(letter)).flatten();
        let number = if letter.is_ascii_digit() {
            rest.find(|letter: char| !letter.is_ascii_digit() && !".,e+".contains(letter)).unwrap_or(rest.len())
        } else {
            0
        };
        if let Some(length) = quoted {
            out.push_str("'…'");
            rest = &after[length + 1..];
        } else if number > 0 {
            out.push('#');
            rest = &rest[number..];
        } else {
            out.push(letter);
            rest = after;
        }
    }
    out.chars().take(160).collect()
}
