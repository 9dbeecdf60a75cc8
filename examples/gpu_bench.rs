//! Measures prefill and decode on the GPU, for a model of a given shape with made-up weights:
//!
//! ```text
//! cargo run --release --features webgpu --example gpu_bench -- --shape 8b --type Q4_0
//! ```
//!
//! `--shape 135m|1b|8b`, `--type F16|Q4_0|Q4_1|Q5_0|Q5_1|Q8_0|Q4_K|Q5_K|Q6_K|IQ4_NL|IQ4_XS`, `--prompt 512`, `--tokens 64`,
//! `--chunk 256` (rows of a submission), `--adapter NAME` (a part of its name; any adapter is accepted, including software adapters), `--without f16,subgroups,packed-dot`, `--check` (first compares each
//! shader with its reference), `--as-hardware` (uses the shaders meant for hardware on a software adapter too), `--profile` (prints how
//! long each kind of dispatch takes on the GPU's clock).

use kernels::Format;
use std::time::Instant;
use workers_ai_local::backend::webgpu::{Choice, Context, Dispatch, Options, Variant, WebGpuBackend, WebGpuWeights, copy_bandwidth};
use workers_ai_local::backend::{Backend, Input, Wanted, Work};
use workers_ai_local::error::{AiError, Result};
use workers_ai_local::gguf::TensorEntry;
use workers_ai_local::model::{Architecture, Hyperparameters, Role, Tensor, WeightSink};

struct Arguments(Vec<String>);

impl Arguments {
    fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    fn number(&self, name: &str, default: usize) -> Result<usize> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| AiError::invalid_data(format!("{name} needs a number, not '{text}'.")))
    }
}

/// The sizes of a known model, and whether its output matrix is tied to its embedding.
fn shape(name: &str) -> Result<(Architecture, bool)> {
    let model = |layers, width, heads, kv_heads, ffn_width, vocabulary| {
        Architecture::new(Hyperparameters {
            layers,
            width,
            heads,
            kv_heads,
            head_width: width / heads,
            rope_width: width / heads,
            ffn_width,
            vocabulary,
            positions: 8192,
            rms_epsilon: 1e-5,
        })
    };
    match name {
        "135m" => Ok((model(30, 576, 9, 3, 1536, 49_152), true)),
        "1b" => Ok((model(16, 2048, 32, 8, 8192, 128_256), true)),
        "8b" => Ok((model(32, 4096, 32, 8, 14_336, 128_256), false)),
        _ => Err(AiError::invalid_data(format!("There is no shape '{name}': 135m, 1b or 8b."))),
    }
}

fn format(name: &str) -> Result<Format> {
    let known = Format::ALL.map(Format::name);
    let found = Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| AiError::invalid_data(format!("There is no type '{name}': one of {known:?}.")))
}

/// Writes made-up weights into a sink. Returns the bytes of weights that one token reads.
async fn fill(sink: &mut dyn WeightSink, architecture: &Architecture, tied: bool, format: Format) -> Result<u64> {
    let mut read = 0;
    for role in architecture.required().into_iter().chain((!tied).then_some(Role::Output)) {
        let shape = role.shape(architecture);
        let columns = shape.last().copied().unwrap_or(1);
        let format = match shape.len() {
            1 => Format::F32,
            _ if columns.is_multiple_of(format.columns()) => format,
            _ => Format::Q8_0,
        };
        let length = format.tensor_bytes(shape.iter().product::<usize>() / columns, columns);
        if tied || role != Role::TokenEmbedding {
            read += length;
        }
        let entry = TensorEntry { name: format!("{role:?}"), part: 0, format, shape, offset: 0, length };
        sink.begin(&Tensor::new(role, &entry, architecture))?;
        sink.room().await?;
        // Every f16 or f32 that consists of these bytes is a small number.
        let piece: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x3b).collect();
        let mut missing = length as usize;
        while missing > 0 {
            let count = missing.min(piece.len());
            sink.write(&piece[..count])?;
            missing -= count;
        }
        sink.finish()?;
    }
    Ok(read)
}

async fn run(arguments: &Arguments) -> Result<()> {
    let (name, kind) = (arguments.get("--shape").unwrap_or("135m"), arguments.get("--type").unwrap_or("Q4_0"));
    let ((architecture, tied), format) = (shape(name)?, format(kind)?);
    let (prompt, count) = (arguments.number("--prompt", 512)?, arguments.number("--tokens", 64)?.max(1));
    let without = arguments.get("--without").unwrap_or_default();
    let variants = [("f16", Variant::F16), ("subgroups", Variant::Subgroups), ("packed-dot", Variant::PackedDot)];
    let without = variants.into_iter().filter(|(name, _)| without.contains(name));
    let choice = Choice {
        software: true,
        named: arguments.get("--adapter").map(str::to_owned),
        without: without.map(|(_, variant)| variant).collect(),
        as_hardware: arguments.has("--as-hardware"),
        max_binding: None,
        timestamps: arguments.has("--profile"),
    };
    let context = Context::request(&choice).await?;
    println!("{}: f16 {}, subgroups {}, packed dot products {}", context.name, context.f16, context.subgroups, context.packed_dot);
    let bandwidth = copy_bandwidth(&context).await?;
    println!("copying: {:.1} GB/s, read and written", bandwidth / 1e9);

    let started = Instant::now();
    let mut weights = WebGpuWeights::new(&context);
    let bytes = fill(&mut weights, &architecture, tied, format).await?;
    let loaded = started.elapsed();
    let mut backend =
        WebGpuBackend::new(architecture, weights, Options { chunk_rows: arguments.number("--chunk", 256)? }, &|_, _| ()).await?;
    println!(
        "{name} {kind}: {:.2} GB per token; loaded in {:.1} s, ready in {:.1} s; {:.2} GB on the GPU",
        bytes as f64 / 1e9,
        loaded.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        backend.counters().bytes_allocated as f64 / 1e9
    );
    if arguments.has("--check") {
        backend.self_check(&|_, _| ()).await?;
        println!("every shader agrees with its reference");
    }
    let started = Instant::now();
    backend.tune().await?;
    println!("tuned in {:.2} s: {} rows per step", started.elapsed().as_secs_f64(), backend.rows_per_step());
    if context.packed_dot {
        println!(
            "packed dot products {}",
            if backend.is_packed() { "are clearly faster: used" } else { "are not clearly faster: not used" }
        );
    }

    let cache = backend.create_cache()?;
    backend.reserve(cache, prompt + count + 8).await?;
    let tokens: Vec<u32> = (0..prompt.max(1) as u32).map(|i| i * 97 % 40_000).collect();
    // The first round warms up, because drivers compile at the first use.
    for round in 0..2 {
        backend.truncate_cache(cache, 0);
        let started = Instant::now();
        backend.forward(&[Work { cache, input: Input::Tokens(&tokens), wanted: Wanted::Candidates(1), adapter: None }]).await?;
        let seconds = started.elapsed().as_secs_f64();
        if round == 1 {
            println!("prefill: {:.1} tokens/s ({} tokens in {:.3} s)", tokens.len() as f64 / seconds, tokens.len(), seconds);
        }
    }
    let one = |token| [token];
    for _ in 0..4 {
        let tokens = one(1);
        backend.forward(&[Work { cache, input: Input::Tokens(&tokens), wanted: Wanted::Candidates(1), adapter: None }]).await?;
    }
    let before = backend.counters();
    let started = Instant::now();
    for token in 0..count {
        let tokens = one(token as u32);
        backend.forward(&[Work { cache, input: Input::Tokens(&tokens), wanted: Wanted::Candidates(1), adapter: None }]).await?;
    }
    let seconds = started.elapsed().as_secs_f64() / count as f64;
    let after = backend.counters();
    let rate = bytes as f64 / seconds;
    println!(
        "decode: {:.1} tokens/s, {:.1} GB/s of weights, {:.0} % of what copying reaches; per token {} submission(s), {} dispatches, {} bytes up, {} bytes back, {} buffers made",
        1.0 / seconds,
        rate / 1e9,
        100.0 * rate / bandwidth,
        (after.submissions - before.submissions) / count as u64,
        (after.dispatches - before.dispatches) / count as u64,
        (after.bytes_uploaded - before.bytes_uploaded) / count as u64,
        (after.bytes_read_back - before.bytes_read_back) / count as u64,
        after.buffers_created - before.buffers_created
    );
    if arguments.has("--profile") {
        let decode = [1];
        for (what, tokens) in [("a prompt", &tokens[..]), ("one token", &decode)] {
            backend.truncate_cache(cache, prompt);
            backend.reserve(cache, tokens.len()).await?;
            let work = [Work { cache, input: Input::Tokens(tokens), wanted: Wanted::Candidates(1), adapter: None }];
            backend.profile(&work).await?;
            backend.truncate_cache(cache, prompt);
            print_profile(what, &backend.profile(&work).await?);
        }
    }
    Ok(())
}

/// Prints the time of each kind of dispatch, the longest first, and of the gaps between dispatches.
fn print_profile(what: &str, dispatches: &[Dispatch]) {
    let mut kinds: Vec<(&str, usize, f64)> = Vec::new();
    for dispatch in dispatches {
        let took = dispatch.end - dispatch.start;
        match kinds.iter_mut().find(|(name, ..)| *name == dispatch.name) {
            Some((_, count, total)) => (*count, *total) = (*count + 1, *total + took),
            None => kinds.push((&dispatch.name, 1, took)),
        }
    }
    kinds.sort_by(|a, b| b.2.total_cmp(&a.2));
    let whole = dispatches.last().map_or(0.0, |last| last.end);
    let computing: f64 = kinds.iter().map(|(_, _, total)| total).sum();
    println!("{what}: {whole:.0} µs from the first dispatch to the last, {:.0} µs of them between dispatches", whole - computing);
    for (name, count, total) in kinds {
        println!("  {total:8.0} µs  {count:4} x {:7.1} µs  {name}", total / count as f64);
    }
}

fn main() -> std::process::ExitCode {
    match pollster::block_on(run(&Arguments(std::env::args().skip(1).collect()))) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
