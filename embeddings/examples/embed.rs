//! `embed WEIGHTS [CONFIG TOKENIZER]`: reads lines of JSON, `{"texts": […], "pooling": "mean" | "cls"}`, and prints `{"data": [[…], …],
//! "tokens": …, "seconds": …}` for each. Native, so it is the reference of the WebAssembly module.

use serde_json::{Value, json};
use std::io::BufRead;
use std::time::Instant;
use workers_ai_local_embeddings::{Embedder, Pooling, Reader};

fn load(files: &[String]) -> Result<Embedder, Box<dyn std::error::Error>> {
    let mut reader = Reader::new();
    let weights = std::fs::read(files.first().ok_or("usage: embed WEIGHTS [CONFIG TOKENIZER]")?)?;
    for piece in weights.chunks(1 << 20) {
        reader.push(piece)?;
    }
    let beside = |index: usize| files.get(index).map(std::fs::read).transpose();
    Ok(reader.finish(beside(1)?.as_deref(), beside(2)?.as_deref())?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let model = load(&files)?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let texts: Vec<&str> = request["texts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let pooling = if request["pooling"] == "cls" { Pooling::Cls } else { Pooling::Mean };
        let started = Instant::now();
        let done = model.embed(&texts, pooling)?;
        let data: Vec<&[f32]> = done.vectors.chunks_exact(done.width).collect();
        println!("{}", json!({"data": data, "tokens": done.tokens, "seconds": started.elapsed().as_secs_f64()}));
    }
    Ok(())
}
