//! Prints the log-probabilities that a model computes after forced tokens, for the comparison with llama.cpp (`tests/models/`):
//!
//! ```text
//! cargo run --features webgpu --example log_probabilities -- [cpu|webgpu|webgpu-hardware] < input.json
//! ```
//!
//! The input names a GGUF file, the tokens, and how many of them each forward pass computes; a run is a list of such numbers. After each pass, the
//! log-probabilities of the tokens that are `wanted` at the position of its last token are printed. `webgpu` takes any adapter;
//! `webgpu-hardware` uses the shaders meant for hardware on a software adapter too.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::process::ExitCode;
use std::rc::Rc;
use workers_ai_local::backend::cpu::{CpuBackend, CpuModel, CpuWeights};
use workers_ai_local::backend::webgpu::{Choice, Context, Options, WebGpuBackend, WebGpuWeights};
use workers_ai_local::backend::{Answer, Backend, Input, Wanted, Work};
use workers_ai_local::error::Result;
use workers_ai_local::gguf::{BytesSource, Parts};
use workers_ai_local::model::{Architecture, load_weights};

#[derive(Deserialize)]
struct Question {
    file: String,
    tokens: Vec<u32>,
    /// Rows of each forward pass, for each run.
    runs: Vec<Vec<usize>>,
    /// For each position, the tokens whose log-probabilities are printed; none if the position is not compared.
    wanted: Vec<Vec<u32>>,
}

/// What the model computes after the token at a position.
#[derive(Serialize)]
struct Output {
    position: usize,
    /// The most likely token.
    best: usize,
    /// The log-probabilities of the wanted tokens.
    logs: Vec<f64>,
}

async fn load(bytes: Vec<u8>, backend: &str) -> Result<Box<dyn Backend>> {
    let (header, mut reader) = Parts::open(Rc::new(BytesSource::new("model.gguf", bytes)), Rc::new(|_| {})).await?;
    let architecture = Architecture::from_header(&header, "model.gguf")?;
    let tensors = header.into_tensors();
    if backend == "cpu" {
        let mut weights = CpuWeights::default();
        load_weights(&tensors, &architecture, &mut reader, &mut weights).await?;
        return Ok(Box::new(CpuBackend::new(CpuModel::new(architecture, weights)?)));
    }
    let named = std::env::var("WORKERS_AI_LOCAL_ADAPTER").ok();
    let choice = Choice { software: true, as_hardware: backend == "webgpu-hardware", named, ..Choice::default() };
    let mut weights = WebGpuWeights::new(&Context::request(&choice).await?);
    load_weights(&tensors, &architecture, &mut reader, &mut weights).await?;
    Ok(Box::new(WebGpuBackend::new(architecture, weights, Options::default(), &|_, _| ()).await?))
}

async fn run(backend: &mut dyn Backend, input: &Question, steps: &[usize]) -> Result<Vec<Output>> {
    let cache = backend.create_cache()?;
    let (mut rest, mut outputs) = (&input.tokens[..], Vec::new());
    for rows in steps {
        let tokens;
        (tokens, rest) = rest.split_at((*rows).min(rest.len()));
        let position = input.tokens.len() - rest.len() - 1;
        let wanted = input.wanted.get(position).filter(|wanted| !wanted.is_empty());
        let work = Work {
            cache,
            input: Input::Tokens(tokens),
            wanted: if wanted.is_some() { Wanted::Logits } else { Wanted::Nothing },
            adapter: None,
        };
        let answers = backend.forward(&[work]).await?;
        if let (Some(wanted), Some(Answer::Logits(logits))) = (wanted, answers.first()) {
            outputs.push(output(position, wanted, logits));
        }
    }
    backend.release_cache(cache);
    Ok(outputs)
}

fn output(position: usize, wanted: &[u32], logits: &[f32]) -> Output {
    let (best, largest) = logits
        .iter()
        .enumerate()
        .fold((0, f32::NEG_INFINITY), |(best, largest), (token, &logit)| if logit > largest { (token, logit) } else { (best, largest) });
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let total = f64::from(largest) + sum.ln();
    let logs = wanted.iter().map(|&token| logits.get(token as usize).map_or(f64::NAN, |&logit| f64::from(logit) - total)).collect();
    Output { position, best, logs }
}

async fn answer() -> std::result::Result<(), Box<dyn Error>> {
    let input: Question = serde_json::from_reader(std::io::stdin())?;
    let backend = std::env::args().nth(1).unwrap_or_else(|| "cpu".to_owned());
    let mut backend = load(std::fs::read(&input.file)?, &backend).await?;
    let mut outputs = Vec::new();
    for steps in &input.runs {
        outputs.push(run(backend.as_mut(), &input, steps).await?);
    }
    println!("{}", serde_json::to_string(&outputs)?);
    Ok(())
}

fn main() -> ExitCode {
    match pollster::block_on(answer()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
