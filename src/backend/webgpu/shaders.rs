//! The shaders: assembles their WGSL from the files in `shaders/` and compiles it to pipelines.
//!
//! The WGSL files use constants (`WIDTH`, `THREADS` …) that they do not define: sizes of the model, or choices for the adapter. This module
//! prepends their definitions. Formats and fast paths are separate WGSL files, which are prepended in the same way.
//!
//! Compiling overlaps with loading the weights, because the header alone determines which shaders a model needs. A browser or Dawn compiles
//! all of them concurrently. wgpu 30 only calls `createComputePipeline`, which compiles one pipeline after the other, in Node even on the
//! event loop's thread. Therefore `pkg/gpu.js` replaces that method of our device while wgpu calls it (`beginPipeline`): the call starts
//! `createComputePipelineAsync` instead, and a second call, once the promise has resolved, makes wgpu accept its pipeline
//! (`takePipeline`). The GPU is chosen as the backend only after all shaders have passed their check (`check.rs`).

use super::context::Context;
#[cfg(target_family = "wasm")]
use super::context::refused;
use super::wgsl::wgsl;
use crate::error::{AiError, Result};
use crate::gguf::LocalFuture;
#[cfg(target_family = "wasm")]
use crate::host::gpu::PendingPipeline;
use crate::host::yield_now;
use crate::model::architecture::Temperature;
use crate::model::{Architecture, Hyperparameters};
use kernels::Format;
use kernels::format::IQ4_CODES;
use kernels::ops::Activation;
use std::borrow::Cow;
use std::collections::HashMap;

/// The most parts that the positions of one sequence are split into for attention.
pub const MAX_SPLITS: usize = 32;

/// Rows that the threads of `matvec.wgsl` compute together.
pub const ROWS_AT_ONCE: usize = 4;

/// A compute shader, specialised for a format and an adapter. Each one is a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shader {
    Embed(Format),
    /// RMS norm of every row.
    Norm,
    /// RMS norm of every row, added to the output.
    NormAdd,
    /// RMS norm of every part of a row, in place.
    PartNorm,
    /// Adds a vector to every row.
    Bias,
    Product {
        format: Format,
        strategy: ProductStrategy,
        epilogue: Epilogue,
    },
    Rope,
    /// One workgroup computes `rows` rows and `shared` of the query heads that share a KV head.
    Attention {
        rows: usize,
        shared: usize,
    },
    Combine,
    ArgMax(ReductionPass),
    TopK(ReductionPass),
    /// The inner half of a LoRA adapter's product.
    LowRankA,
    /// Its outer half: added to a product, or stored for one whose epilogue is a gate.
    LowRankB(Epilogue),
    /// Adds what was stored for a product with a gate.
    LowRankAdd,
}

/// How a matrix product is distributed over workgroups and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProductStrategy {
    /// Matrix × vector: `threads` threads compute four matrix rows for one token. With `threads: 1` no thread waits for another; that is
    /// for software adapters, which have to switch between the threads of a workgroup at every barrier. `packed`: uses packed dot
    /// products.
    Vector { threads: usize, packed: bool },
    /// Matrix × matrix: a workgroup computes a tile of 64 matrix rows and 16 × `tokens` tokens.
    Tiles { tokens: usize },
}

impl ProductStrategy {
    /// Groups of threads in a workgroup. Each group computes different rows.
    fn groups(self) -> usize {
        if matches!(self, Self::Vector { threads: 1, .. }) { 16 } else { 1 }
    }

    /// The number of workgroups `[x, y, z]` to dispatch for `matrix_rows` rows of the matrix and `rows` rows of activations.
    pub fn workgroups(self, matrix_rows: usize, rows: usize) -> [usize; 3] {
        match self {
            Self::Vector { .. } => [matrix_rows.div_ceil(ROWS_AT_ONCE * self.groups()), rows, 1],
            Self::Tiles { tokens } => [matrix_rows.div_ceil(64), rows.div_ceil(16 * tokens), 1],
        }
    }
}

/// The epilogue of a matrix product: how its sums are combined with the output (`product.wgsl`, which has the same numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Overwrites the output.
    Store,
    /// Adds to the output: the residual connection.
    Add,
    /// The output holds the gate, and becomes `activation(gate) · sum`.
    Gate(Activation),
}

impl Epilogue {
    fn number(self) -> u32 {
        match self {
            Self::Store => 0,
            Self::Add => 1,
            Self::Gate(Activation::Silu) => 2,
            Self::Gate(Activation::Gelu) => 3,
        }
    }
}

/// A pass of the reduction that selects the largest logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReductionPass {
    /// Reads logits.
    First,
    /// Reads the candidates of the pass before.
    Further,
}

/// A shader's bind group layout: its buffers, in the order of their bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bindings {
    /// Codes, words, input; output; the matrix's shape.
    Matrix,
    /// Input, norm; output.
    Norm,
    /// Query; key, value, angles; cache.
    Rope,
    /// Query, cache; attended, partials.
    Attention,
    /// Input; output.
    Pair,
}

/// The type of a binding.
#[derive(Clone, Copy)]
enum Slot {
    Read,
    Write,
    Uniform,
}

impl Bindings {
    /// Every layout.
    pub const ALL: [Self; 5] = [Self::Matrix, Self::Norm, Self::Rope, Self::Attention, Self::Pair];

    fn slots(self) -> &'static [Slot] {
        use Slot::*;
        match self {
            Self::Matrix => &[Read, Read, Read, Write, Uniform],
            Self::Norm => &[Read, Read, Write],
            Self::Rope => &[Write, Read, Read, Read, Write],
            Self::Attention => &[Read, Read, Write, Write],
            Self::Pair => &[Read, Write],
        }
    }
}

impl Shader {
    /// Whether it uses packed dot products.
    pub fn is_packed(self) -> bool {
        matches!(self, Self::Product { strategy: ProductStrategy::Vector { packed: true, .. }, .. })
    }

    /// Whether no thread waits for another.
    fn is_alone(self) -> bool {
        matches!(self, Self::Product { strategy: ProductStrategy::Vector { threads: 1, .. }, .. })
    }

    /// The layout of its bind group 1.
    pub fn bindings(self) -> Bindings {
        match self {
            Self::Embed(_) | Self::Product { .. } | Self::LowRankA | Self::LowRankB(_) | Self::LowRankAdd => Bindings::Matrix,
            Self::Norm | Self::NormAdd => Bindings::Norm,
            Self::Rope => Bindings::Rope,
            Self::Attention { .. } => Bindings::Attention,
            Self::PartNorm | Self::Bias | Self::Combine | Self::ArgMax(_) | Self::TopK(_) => Bindings::Pair,
        }
    }

    /// The shader's WGSL for a model and an adapter.
    pub fn source(self, sizes: &Sizes, context: &Context) -> String {
        let quads = if context.f16 { wgsl!("quads_f16.wgsl") } else { wgsl!("quads.wgsl") };
        let matrix = wgsl!("matrix.wgsl");
        let reduce = if context.subgroups { wgsl!("reduce_subgroups.wgsl") } else { wgsl!("reduce.wgsl") };
        let first = |pass| format!("const FIRST = {};\n", pass == ReductionPass::First);
        let ordered = wgsl!("ordered.wgsl");
        let heads = format!(
            "const HEADS = {}u;\nconst KV_HEADS = {}u;\nconst HEAD_QUADS = {}u;\n",
            sizes.heads,
            sizes.kv_heads,
            sizes.head_width / 4
        );
        let mut pieces: Vec<Cow<'static, str>> = Vec::new();
        if context.f16 {
            pieces.push("enable f16;\n".into());
        }
        // Naga supports subgroups without this directive, and does not parse it.
        if context.subgroups && cfg!(target_family = "wasm") {
            pieces.push("enable subgroups;\n".into());
        }
        pieces.push(wgsl!("job.wgsl").into());
        match self {
            Self::Embed(format) => {
                pieces.push(format!("const EMBEDDING_SCALE = {:e}f;\n", sizes.embedding_scale).into());
                pieces.push(matrix.into());
                pieces.extend(unpacking(format, false));
                pieces.push(wgsl!("embed.wgsl").into());
            }
            Self::Product { format, strategy, epilogue } => {
                pieces.push(format!("const EPILOGUE = {}u;\n", epilogue.number()).into());
                pieces.extend([matrix.into(), wgsl!("product.wgsl").into()]);
                pieces.extend(unpacking(format, self.is_alone()));
                match strategy {
                    ProductStrategy::Vector { threads, packed } => {
                        pieces.push(format!("const THREADS = {threads}u;\nconst GROUPS = {}u;\n", strategy.groups()).into());
                        let [reduce, stage] = match threads {
                            1 => [wgsl!("reduce_alone.wgsl"), wgsl!("stage_alone.wgsl")],
                            _ => [reduce, wgsl!("stage.wgsl")],
                        };
                        let activations = match packed {
                            true => wgsl!("activations_packed.wgsl"),
                            false => wgsl!("activations.wgsl"),
                        };
                        pieces.extend([reduce, stage, activations, wgsl!("matvec.wgsl")].map(Cow::from));
                    }
                    ProductStrategy::Tiles { tokens } => {
                        pieces.push(format!("const TOKENS = {tokens}u;\n").into());
                        pieces.push(wgsl!("matmul.wgsl").into());
                    }
                }
            }
            Self::Norm | Self::NormAdd => {
                let Sizes { width, epsilon, .. } = sizes;
                pieces.push(format!("const THREADS = 256u;\nconst WIDTH = {width}u;\nconst EPSILON = {epsilon:e}f;\n").into());
                pieces.push(format!("const ADDS = {};\n", self == Self::NormAdd).into());
                pieces.extend([reduce.into(), wgsl!("norm.wgsl").into()]);
            }
            Self::PartNorm => {
                pieces.push(format!("const THREADS = 64u;\nconst EPSILON = {:e}f;\n", sizes.epsilon).into());
                pieces.extend([reduce.into(), wgsl!("part_norm.wgsl").into()]);
            }
            Self::Bias => pieces.push(wgsl!("bias.wgsl").into()),
            Self::Rope => {
                let (head, turned) = (sizes.head_width / 2, sizes.rope_width / 2);
                pieces.push(format!("const HEAD_PAIRS = {head}u;\nconst ROPE_PAIRS = {turned}u;\n").into());
                let (length, scale) = sizes.temperature.map_or((1, 0.0), |Temperature { length, scale }| (length, scale));
                pieces.push(format!("const TEMPERATURE_LENGTH = {length}u;\nconst TEMPERATURE_SCALE = {scale:e}f;\n").into());
                pieces.extend([heads.into(), wgsl!("rope.wgsl").into()]);
            }
            Self::Attention { rows, shared } => {
                let scale = 1.0 / sizes.score_divisor;
                pieces.push(format!("const ROWS = {rows}u;\nconst SHARED = {shared}u;\nconst SCALE = {scale:e}f;\n").into());
                let (cap, inverse) = sizes.score_softcap.map_or((0.0, 0.0), |cap| (cap, 1.0 / cap));
                pieces.push(format!("const SOFTCAP = {cap:e}f;\nconst SOFTCAP_INVERSE = {inverse:e}f;\n").into());
                pieces.extend([heads.into(), quads.into(), wgsl!("attention.wgsl").into()]);
            }
            Self::Combine => {
                pieces.extend([heads.into(), format!("const MAX_SPLITS = {MAX_SPLITS}u;\n").into(), wgsl!("combine.wgsl").into()])
            }
            Self::ArgMax(pass) => pieces.extend([first(pass).into(), ordered.into(), wgsl!("arg_max.wgsl").into()]),
            Self::TopK(pass) => pieces.extend([first(pass).into(), ordered.into(), wgsl!("top_k.wgsl").into()]),
            Self::LowRankA => {
                let (threads, reduce) = if context.serial { (1, wgsl!("reduce_alone.wgsl")) } else { (64, reduce) };
                pieces.push(format!("const THREADS = {threads}u;\n").into());
                pieces.extend([wgsl!("low_rank.wgsl"), reduce, wgsl!("low_rank_a.wgsl")].map(Cow::from));
            }
            Self::LowRankB(epilogue) => {
                pieces.push(format!("const EPILOGUE = {}u;\n", epilogue.number()).into());
                pieces.extend([wgsl!("low_rank.wgsl"), wgsl!("low_rank_b.wgsl")].map(Cow::from));
            }
            Self::LowRankAdd => pieces.extend([wgsl!("low_rank.wgsl"), wgsl!("low_rank_add.wgsl")].map(Cow::from)),
        }
        // Built-in inputs of an entry point cannot be optional, so they are inserted as text in two places.
        let alone = self.is_alone() || (self == Self::LowRankA && context.serial);
        let (inputs, start) = match context.subgroups && !alone {
            true => (
                ", @builtin(subgroup_id) of_subgroup: u32, @builtin(num_subgroups) of_subgroups: u32, @builtin(subgroup_invocation_id) of_place: u32",
                "subgroup = of_subgroup; subgroups = of_subgroups; place = of_place;",
            ),
            false => ("", ""),
        };
        pieces.concat().replace(" SUBGROUP_INPUTS", inputs).replace("SUBGROUP_START", start)
    }
}

/// The sizes of a model that become constants of its shaders.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub rope_width: usize,
    pub epsilon: f32,
    pub embedding_scale: f32,
    pub score_divisor: f32,
    pub score_softcap: Option<f32>,
    pub temperature: Option<Temperature>,
}

impl From<&Architecture> for Sizes {
    fn from(architecture: &Architecture) -> Self {
        let Architecture { ref sizes, embedding_scale, score_divisor, score_softcap, temperature, .. } = *architecture;
        let Hyperparameters { width, heads, kv_heads, head_width, rope_width, rms_epsilon: epsilon, .. } = *sizes;
        Self { width, heads, kv_heads, head_width, rope_width, epsilon, embedding_scale, score_divisor, score_softcap, temperature }
    }
}

/// The WGSL that unpacks a format. `alone`: in shaders without barriers.
fn unpacking(format: Format, alone: bool) -> Vec<Cow<'static, str>> {
    let in_order = wgsl!("formats/in_order.wgsl");
    let k_quants = wgsl!("formats/k_quants.wgsl");
    let fifth_bits = wgsl!("formats/fifth_bits.wgsl");
    let own = match format {
        Format::F32 => vec![in_order, wgsl!("formats/f32.wgsl")],
        Format::F16 => vec![in_order, wgsl!("formats/f16.wgsl")],
        Format::Bf16 => vec![in_order, wgsl!("formats/bf16.wgsl")],
        Format::Q4_0 => vec![in_order, wgsl!("formats/q4_0.wgsl")],
        Format::Q4_1 => vec![in_order, wgsl!("formats/q4_1.wgsl")],
        Format::Q5_0 => vec![in_order, fifth_bits, wgsl!("formats/q5_0.wgsl")],
        Format::Q5_1 => vec![in_order, fifth_bits, wgsl!("formats/q5_1.wgsl")],
        Format::Q8_0 => vec![in_order, wgsl!("formats/q8_0.wgsl")],
        Format::Q4K => vec![k_quants, wgsl!("formats/q4_k.wgsl")],
        Format::Q5K => vec![k_quants, wgsl!("formats/q5_k.wgsl")],
        Format::Q6K => vec![wgsl!("formats/q6_k.wgsl")],
        Format::Iq4Nl => vec![in_order, wgsl!("formats/iq4_nl.wgsl")],
        Format::Iq4Xs => vec![in_order, wgsl!("formats/iq4_xs.wgsl")],
        // These formats have no planes (`layout.rs`), so there can be no such matrix.
        Format::Q2K | Format::Q3K => vec![],
    };
    let mut pieces: Vec<Cow<'static, str>> = vec![wgsl!("formats/common.wgsl").into()];
    if format.is_quantised() {
        pieces.push(wgsl!("formats/packed.wgsl").into());
    }
    if format.has_table() {
        pieces.push(format!("const TABLE = array<i32, 16>({});\n", IQ4_CODES.map(|code| code.to_string()).join(", ")).into());
        let table = if alone { wgsl!("formats/table_alone.wgsl") } else { wgsl!("formats/table.wgsl") };
        pieces.extend([table.into(), wgsl!("formats/table_codes.wgsl").into()]);
    } else {
        pieces.push(wgsl!("formats/no_table.wgsl").into());
        if format.is_quantised() {
            pieces.push(format!("const SIGNED = {};\n", format.has_signed_codes()).into());
            pieces.push(wgsl!("formats/stored_codes.wgsl").into());
        }
    }
    pieces.extend(own.into_iter().map(Cow::from));
    pieces
}

/// The compiled shaders of a model.
pub struct Pipelines {
    /// The layout of bind group 0: the uniform of `job.wgsl`.
    job: wgpu::BindGroupLayout,
    layouts: HashMap<Bindings, wgpu::BindGroupLayout>,
    pipelines: HashMap<Shader, wgpu::ComputePipeline>,
}

/// Size of `Job` (`job.wgsl`) in bytes.
pub const JOB_BYTES: u64 = 48;

/// The shaders of a model while they are compiled.
pub struct Compilation {
    job: wgpu::BindGroupLayout,
    layouts: HashMap<Bindings, wgpu::BindGroupLayout>,
    pending: Vec<(Shader, LocalFuture<'static, Result<CompilingPipeline>>)>,
}

/// A pipeline while it is compiled, and everything that is needed to create it.
struct CompilingPipeline {
    label: String,
    module: wgpu::ShaderModule,
    layout: wgpu::PipelineLayout,
    #[cfg(target_family = "wasm")]
    pending: std::result::Result<PendingPipeline, String>,
}

impl Compilation {
    /// Starts compiling shaders. A browser or Dawn compiles them concurrently in the background. Natively each one is compiled only in
    /// [`Compilation::finish`], because there nothing compiles in the background.
    pub async fn start(context: &Context, sizes: &Sizes, shaders: &[Shader]) -> Self {
        let storage = |read_only| wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        };
        let uniform = |has_dynamic_offset, size| wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset,
            min_binding_size: std::num::NonZeroU64::new(size),
        };
        let layout = |types: &[wgpu::BindingType]| {
            let entries: Vec<_> = (0..)
                .zip(types)
                .map(|(binding, ty)| wgpu::BindGroupLayoutEntry { binding, visibility: wgpu::ShaderStages::COMPUTE, ty: *ty, count: None })
                .collect();
            context.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
        };
        let job = layout(&[uniform(true, JOB_BYTES)]);
        let layouts: HashMap<Bindings, _> = Bindings::ALL
            .into_iter()
            .map(|bindings| {
                let types: Vec<_> = bindings
                    .slots()
                    .iter()
                    .map(|slot| match slot {
                        Slot::Read => storage(true),
                        Slot::Write => storage(false),
                        Slot::Uniform => uniform(false, 32),
                    })
                    .collect();
                (bindings, layout(&types))
            })
            .collect();
        let mut result = Self { job, layouts, pending: Vec::new() };
        for shader in shaders {
            let pipeline = context.checked("a shader", || result.start_one(context, sizes, *shader));
            result.pending.push((*shader, pipeline));
            yield_now().await;
        }
        result
    }

    fn start_one(&self, context: &Context, sizes: &Sizes, shader: Shader) -> CompilingPipeline {
        let label = format!("{shader:?}");
        let module = context.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(shader.source(sizes, context).into()),
        });
        let layout = context.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&self.job), self.layouts.get(&shader.bindings())],
            immediate_size: 0,
        });
        #[cfg(target_family = "wasm")]
        let pending = match context.device.as_webgpu() {
            Some(device) => PendingPipeline::begin(device.as_ref(), || create(context, &label, &module, &layout)),
            None => Err("the device is not a WebGPU device of the host".to_owned()),
        };
        CompilingPipeline {
            label,
            module,
            layout,
            #[cfg(target_family = "wasm")]
            pending,
        }
    }

    /// The shaders that are compiled.
    pub fn shaders(&self) -> Vec<Shader> {
        self.pending.iter().map(|(shader, _)| *shader).collect()
    }

    /// Waits until all shaders are compiled. `progress` receives the number of compiled shaders and their total number.
    ///
    /// # Errors
    ///
    /// If a shader does not compile, or the device is lost.
    pub async fn finish(self, context: &Context, progress: &dyn Fn(usize, usize)) -> Result<Pipelines> {
        let count = self.pending.len();
        let mut pipelines = HashMap::new();
        for (shader, pipeline) in self.pending {
            pipelines.insert(shader, pipeline.await?.finish(context).await?);
            progress(pipelines.len(), count);
            yield_now().await;
        }
        Ok(Pipelines { job: self.job, layouts: self.layouts, pipelines })
    }
}

impl CompilingPipeline {
    #[cfg(target_family = "wasm")]
    async fn finish(self, context: &Context) -> Result<wgpu::ComputePipeline> {
        let Self { label, module, layout, pending } = self;
        let create = || create(context, &label, &module, &layout);
        let finished = match pending {
            Ok(pending) => pending.finish(create).await,
            Err(text) => Err(text),
        };
        // On a lost device compiling fails too, with a less helpful error.
        context.check()?;
        finished.map_err(|text| refused(&text))
    }

    #[cfg(not(target_family = "wasm"))]
    async fn finish(self, context: &Context) -> Result<wgpu::ComputePipeline> {
        context.checked("a shader", || create(context, &self.label, &self.module, &self.layout)).await
    }
}

fn create(context: &Context, label: &str, module: &wgpu::ShaderModule, layout: &wgpu::PipelineLayout) -> wgpu::ComputePipeline {
    context.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: Some(layout),
        module,
        entry_point: Some("main"),
        // The shaders write workgroup memory before they read it, so zeroing it is unnecessary.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache: None,
    })
}

impl Pipelines {
    /// The pipeline of a shader.
    ///
    /// # Errors
    ///
    /// 5004 if it was not compiled.
    pub fn get(&self, shader: Shader) -> Result<&wgpu::ComputePipeline> {
        self.pipelines.get(&shader).ok_or_else(|| AiError::invalid_data(format!("The GPU shader {shader:?} was not compiled.")))
    }

    /// Adds further shaders, compiled for the same device.
    pub fn extend(&mut self, others: Self) {
        self.pipelines.extend(others.pipelines);
    }

    /// Bind group 0, for a buffer of jobs. Each dispatch selects one job by a dynamic offset.
    pub fn bind_jobs(&self, context: &Context, jobs: &wgpu::Buffer) -> wgpu::BindGroup {
        let entry = wgpu::BufferBinding { buffer: jobs, offset: 0, size: std::num::NonZeroU64::new(JOB_BYTES) };
        context.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.job,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(entry) }],
        })
    }

    /// Bind group 1 of a shader, from its buffers in the order of their bindings.
    ///
    /// # Errors
    ///
    /// 5004 if the layout is missing.
    pub fn bind(&self, context: &Context, bindings: Bindings, buffers: &[&wgpu::Buffer]) -> Result<wgpu::BindGroup> {
        let Some(layout) = self.layouts.get(&bindings) else {
            return Err(AiError::invalid_data("The layout of a GPU shader is missing."));
        };
        let entries: Vec<_> =
            (0..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }).collect();
        Ok(context.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries }))
    }
}
