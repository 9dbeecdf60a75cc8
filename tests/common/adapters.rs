//! LoRA adapters of random numbers for the small models, in both forms, and the same models with an adapter merged in.

use super::TinyModel;
use candle_core::quantized::gguf_file::{Content, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use kernels::Format;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Map, Value as Json, json};
use std::io::Cursor;
use std::rc::Rc;
use workers_ai_local::error::Result;
use workers_ai_local::gguf::{BytesSource, Parts};
use workers_ai_local::lora::{Adapter, AdapterFiles, AdapterId, load};
use workers_ai_local::model::Architecture;

/// The low-rank matrices of an adapter, in the order of the rows of the GGUF file.
#[derive(Clone)]
pub struct TinyAdapter {
    pub rank: usize,
    pub alpha: f32,
    pub matrices: Vec<TinyLowRank>,
    /// The architecture that the GGUF form names.
    pub architecture: &'static str,
}

#[derive(Clone)]
pub struct TinyLowRank {
    /// The name of the model's tensor.
    pub name: String,
    pub outputs: usize,
    pub inputs: usize,
    /// `[rank, inputs]`
    pub a: Vec<f32>,
    /// `[outputs, rank]`
    pub b: Vec<f32>,
}

/// A tensor's name, shape and numbers.
type Numbers = (String, Vec<usize>, Vec<f32>);

/// The tensors of a file by name, with shape and numbers.
fn tensors_of(bytes: &[u8]) -> (Content, Vec<Numbers>) {
    let mut file = Cursor::new(bytes);
    let content = Content::read(&mut file).expect("a header");
    let mut names: Vec<String> = content.tensor_infos.keys().cloned().collect();
    names.sort();
    let tensors = names
        .into_iter()
        .map(|name| {
            let tensor = content.tensor_infos[&name].read(&mut file, content.tensor_data_offset, &Device::Cpu);
            let tensor = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu)).expect("a tensor");
            let numbers = tensor.flatten_all().and_then(|all| all.to_vec1()).expect("numbers");
            (name, tensor.dims().to_vec(), numbers)
        })
        .collect();
    (content, tensors)
}

fn gguf(metadata: &[(&str, &Value)], tensors: &[(String, Vec<usize>, Vec<f32>)], dtype: GgmlDType) -> Vec<u8> {
    let quantised = |(name, shape, numbers): &(String, Vec<usize>, Vec<f32>)| {
        let tensor = Tensor::from_vec(numbers.clone(), shape.clone(), &Device::Cpu).expect("a tensor");
        let dtype = if shape.len() == 2 { dtype } else { GgmlDType::F32 };
        (name.clone(), QTensor::quantize(&tensor, dtype).expect("quantised"))
    };
    let tensors: Vec<(String, QTensor)> = tensors.iter().map(quantised).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = Cursor::new(Vec::new());
    write(&mut file, metadata, &tensors).expect("a file in memory");
    file.into_inner()
}

impl TinyAdapter {
    /// An adapter of those matrices of a model whose names contain one of `parts`, with numbers that BF16 and F16 hold exactly.
    pub fn of(model: &TinyModel, parts: &[&str], rank: usize, seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut random = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|_| (f32::from((rng.next_u32() % 129) as u16) / 64.0 - 1.0) * scale).collect()
        };
        let (_, tensors) = tensors_of(&model.gguf());
        let is_adapted = |name: &str| name != "token_embd.weight" && parts.iter().any(|part| name.contains(part));
        let matrices = tensors.into_iter().filter(|(name, shape, _)| shape.len() == 2 && is_adapted(name));
        let matrices = matrices
            .map(|(name, shape, _)| {
                let (outputs, inputs) = (shape[0], shape[1]);
                TinyLowRank { name, outputs, inputs, a: random(rank * inputs, 0.0625), b: random(outputs * rank, 0.25) }
            })
            .collect();
        Self { rank, alpha: 1.5 * rank as f32, matrices, architecture: model.architecture }
    }

    /// The model's file with the adapter merged in, as F32.
    pub fn merged(&self, model: &[u8]) -> Vec<u8> {
        let scale = f64::from(self.alpha) / self.rank as f64;
        let (content, mut tensors) = tensors_of(model);
        for TinyLowRank { name, inputs, a, b, .. } in &self.matrices {
            let (.., numbers) = tensors.iter_mut().find(|(other, ..)| other == name).expect("the model's matrix");
            for (row, numbers) in numbers.chunks_exact_mut(*inputs).enumerate() {
                for (column, number) in numbers.iter_mut().enumerate() {
                    let own = (0..self.rank).map(|j| f64::from(b[row * self.rank + j]) * f64::from(a[j * inputs + column]));
                    *number = (f64::from(*number) + scale * own.sum::<f64>()) as f32;
                }
            }
        }
        let metadata: Vec<(&str, &Value)> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        gguf(&metadata, &tensors, GgmlDType::F32)
    }

    /// As a GGUF file.
    pub fn gguf(&self, dtype: GgmlDType) -> Vec<u8> {
        let text = |text: &str| Value::String(text.to_owned());
        let entries = [
            ("general.architecture", text(self.architecture)),
            ("general.type", text("adapter")),
            ("adapter.type", text("lora")),
            ("adapter.lora.alpha", Value::F32(self.alpha)),
        ];
        let metadata: Vec<(&str, &Value)> = entries.iter().map(|(key, value)| (*key, value)).collect();
        let tensors: Vec<_> = self
            .matrices
            .iter()
            .flat_map(|matrix| {
                let (a, b) = (matrix.a.clone(), matrix.b.clone());
                [
                    (format!("{}.lora_a", matrix.name), vec![self.rank, matrix.inputs], a),
                    (format!("{}.lora_b", matrix.name), vec![matrix.outputs, self.rank], b),
                ]
            })
            .collect();
        gguf(&metadata, &tensors, dtype)
    }

    /// As PEFT writes it: the configuration, and a safetensors file. `head`: the width of a head, if the converter permutes the rows of query and key.
    pub fn peft(&self, format: Format, head: Option<usize>) -> (Vec<u8>, Vec<u8>) {
        let config = json!({
            "peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha, "bias": "none", "use_dora": false, "use_rslora": false,
            "target_modules": ["q_proj"], "modules_to_save": null, "rank_pattern": {}, "alpha_pattern": {}, "fan_in_fan_out": false,
        });
        let mut tensors = Vec::new();
        for TinyLowRank { name, outputs, inputs, a, b } in &self.matrices {
            let mut module = format!("base_model.model.{}", module_of(name));
            if matches!(self.architecture, "phi3" | "glm4") {
                module = module.replace("up_proj", "gate_up_proj");
            }
            let of_heads = name.contains("attn_q.") || name.contains("attn_k.");
            let mut checkpoint = b.clone();
            if let Some(head) = head.filter(|_| of_heads) {
                // The inverse of llama.cpp's `permute`.
                for row in 0..*outputs {
                    let (first, within) = (row / head * head, row % head);
                    let to = first + within % 2 * (head / 2) + within / 2;
                    checkpoint[to * self.rank..(to + 1) * self.rank].copy_from_slice(&b[row * self.rank..(row + 1) * self.rank]);
                }
            }
            tensors.push((format!("{module}.lora_A.weight"), vec![self.rank, *inputs], a.clone()));
            tensors.push((format!("{module}.lora_B.weight"), vec![*outputs, self.rank], checkpoint));
        }
        (config.to_string().into_bytes(), safetensors(&tensors, format))
    }

    /// The GGUF form, loaded for a model.
    pub fn loaded(&self, model: &TinyModel) -> Rc<Adapter> {
        let files = AdapterFiles::Gguf(source("adapter.gguf", self.gguf(GgmlDType::F32)));
        loaded(&files, &model.gguf()).expect("an adapter")
    }
}

/// A safetensors file.
pub fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)], format: Format) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    for (name, shape, numbers) in tensors {
        let first = data.len();
        let dtype = match format {
            Format::F16 => "F16",
            Format::Bf16 => "BF16",
            _ => "F32",
        };
        for number in numbers {
            match format {
                Format::F16 => data.extend(f16::from_f32(*number).to_le_bytes()),
                Format::Bf16 => data.extend(bf16::from_f32(*number).to_le_bytes()),
                _ => data.extend(number.to_le_bytes()),
            }
        }
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [first, data.len()]}));
    }
    let header = Json::Object(header).to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// The module of Hugging Face's models for a tensor of GGUF.
fn module_of(name: &str) -> String {
    let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else { return "lm_head".into() };
    let part = match part.trim_end_matches(".weight") {
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_qkv" => "self_attn.qkv_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => panic!("no module for {other}"),
    };
    format!("model.layers.{layer}.{part}")
}

pub fn source(name: &str, bytes: Vec<u8>) -> Rc<BytesSource> {
    Rc::new(BytesSource::new(name, bytes))
}

/// The two files of PEFT as an adapter's files.
pub fn peft_files((config, weights): (Vec<u8>, Vec<u8>)) -> AdapterFiles {
    AdapterFiles::Peft { config: source("adapter_config.json", config), weights: source("adapter_model.safetensors", weights) }
}

/// Loads an adapter of a model.
pub fn loaded(files: &AdapterFiles, model: &[u8]) -> Result<Rc<Adapter>> {
    pollster::block_on(async {
        let (header, _) = Parts::open(source("test.gguf", model.to_vec()), Rc::new(|_| {})).await?;
        let architecture = Architecture::from_header(&header, "test.gguf")?;
        let adapter = load(AdapterId(next_id()), "mine", files, "test.gguf", &architecture, |_| Ok(()), Rc::new(|| ())).await?;
        Ok(Rc::new(adapter.0))
    })
}

fn next_id() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
