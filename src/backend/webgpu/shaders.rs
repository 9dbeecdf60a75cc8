//! The kernels: their WGSL, put together from `shaders/`, and the pipelines that are made of it.
//!
//! A file of WGSL refers to constants (`WIDTH`, `THREADS` …) that stand nowhere in it: they are sizes of the model or choices for the
//! adapter, and are written in front of it here. Formats and fast paths are files that are put in front in the same way.

use super::context::Context;
#[cfg(target_arch = "wasm32")]
use super::context::refused;
use super::weights::ROWS_AT_ONCE;
use crate::error::{AiError, Result};
use crate::gguf::LocalFuture;
#[cfg(target_arch = "wasm32")]
use crate::host::gpu::PendingPipeline;
use crate::host::yield_now;
use crate::model::Hyperparameters;
use kernels::Format;
use std::borrow::Cow;
use std::collections::HashMap;

/// One pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    Embed(Format),
    Norm,
    Product {
        format: Format,
        way: Way,
        ending: Ending,
    },
    Rope,
    /// Rows of a workgroup, and query heads that share its KV head.
    Attention {
        rows: usize,
        shared: usize,
    },
    Combine,
    ArgMax(Round),
    TopK(Round),
}

/// How a matrix product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Row by row, with so many threads per four rows. (One: every thread by itself, for adapters that compute on the CPU. These have to
    /// switch between the threads of a workgroup that wait for one another.) `packed`: weights and activations are multiplied as bytes.
    Vector { threads: usize, packed: bool },
    /// In tiles of 16 times so many tokens.
    Tiles { tokens: usize },
}

impl Way {
    /// Groups of threads in a workgroup, each at its own rows.
    fn groups(self) -> usize {
        if matches!(self, Self::Vector { threads: 1, .. }) { 16 } else { 1 }
    }

    /// Workgroups for a matrix of so many rows, and so many rows of activations.
    pub fn workgroups(self, matrix_rows: usize, rows: usize) -> [usize; 3] {
        match self {
            Self::Vector { .. } => [matrix_rows.div_ceil(ROWS_AT_ONCE * self.groups()), rows, 1],
            Self::Tiles { tokens } => [matrix_rows.div_ceil(64), rows.div_ceil(16 * tokens), 1],
        }
    }
}

/// What becomes of a product's sums (`product.wgsl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    Store,
    /// The residual connection.
    Add,
    /// SwiGLU over the gate that is there.
    Gate,
}

/// Whether the largest are sought among logits, or among those found before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Round {
    First,
    Further,
}

/// Which buffers a kernel is given, in the order of their bindings.
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

/// What a binding of a kernel is.
#[derive(Clone, Copy)]
enum Slot {
    Read,
    Write,
    Uniform,
}

impl Bindings {
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

impl Kernel {
    /// Whether weights and activations are multiplied as bytes.
    pub fn is_packed(self) -> bool {
        matches!(self, Self::Product { way: Way::Vector { packed: true, .. }, .. })
    }

    pub fn bindings(self) -> Bindings {
        match self {
            Self::Embed(_) | Self::Product { .. } => Bindings::Matrix,
            Self::Norm => Bindings::Norm,
            Self::Rope => Bindings::Rope,
            Self::Attention { .. } => Bindings::Attention,
            Self::Combine | Self::ArgMax(_) | Self::TopK(_) => Bindings::Pair,
        }
    }

    /// The kernel's WGSL for a model and an adapter.
    pub fn source(self, sizes: &Sizes, context: &Context) -> String {
        let quads = if context.f16 { include_str!("shaders/quads_f16.wgsl") } else { include_str!("shaders/quads.wgsl") };
        let matrix = include_str!("shaders/matrix.wgsl");
        let reduce = if context.subgroups { include_str!("shaders/reduce_subgroups.wgsl") } else { include_str!("shaders/reduce.wgsl") };
        let first = |round| format!("const FIRST = {};\n", round == Round::First);
        let ordered = include_str!("shaders/ordered.wgsl");
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
        // Naga knows subgroups without being asked for them, and does not know how one asks.
        if context.subgroups && cfg!(target_arch = "wasm32") {
            pieces.push("enable subgroups;\n".into());
        }
        pieces.push(include_str!("shaders/job.wgsl").into());
        match self {
            Self::Embed(format) => {
                pieces.push(matrix.into());
                pieces.extend(unpacking(format).into_iter().map(Cow::from));
                pieces.push(include_str!("shaders/embed.wgsl").into());
            }
            Self::Product { format, way, ending } => {
                pieces.push(format!("const ENDING = {}u;\n", ending as u32).into());
                pieces.extend([matrix.into(), include_str!("shaders/product.wgsl").into()]);
                pieces.extend(unpacking(format).into_iter().map(Cow::from));
                match way {
                    Way::Vector { threads, packed } => {
                        pieces.push(format!("const THREADS = {threads}u;\nconst GROUPS = {}u;\n", way.groups()).into());
                        let reduce = if threads == 1 { include_str!("shaders/reduce_alone.wgsl") } else { reduce };
                        let activations = match packed {
                            true => include_str!("shaders/activations_packed.wgsl"),
                            false => include_str!("shaders/activations.wgsl"),
                        };
                        pieces.extend([reduce, activations, include_str!("shaders/matvec.wgsl")].map(Cow::from));
                    }
                    Way::Tiles { tokens } => {
                        pieces.push(format!("const TOKENS = {tokens}u;\n").into());
                        pieces.push(include_str!("shaders/matmul.wgsl").into());
                    }
                }
            }
            Self::Norm => {
                let Sizes { width, epsilon, .. } = sizes;
                pieces.push(format!("const THREADS = 128u;\nconst WIDTH = {width}u;\nconst EPSILON = {epsilon:e}f;\n").into());
                pieces.extend([reduce.into(), include_str!("shaders/norm.wgsl").into()]);
            }
            Self::Rope => {
                let (head, turned) = (sizes.head_width / 2, sizes.rope_width / 2);
                pieces.push(format!("const HEAD_PAIRS = {head}u;\nconst ROPE_PAIRS = {turned}u;\n").into());
                pieces.extend([heads.into(), include_str!("shaders/rope.wgsl").into()]);
            }
            Self::Attention { rows, shared } => {
                let scale = 1.0 / (sizes.head_width as f32).sqrt();
                pieces.push(format!("const ROWS = {rows}u;\nconst SHARED = {shared}u;\nconst SCALE = {scale:e}f;\n").into());
                pieces.extend([heads.into(), quads.into(), include_str!("shaders/attention.wgsl").into()]);
            }
            Self::Combine => pieces.extend([heads.into(), include_str!("shaders/combine.wgsl").into()]),
            Self::ArgMax(round) => pieces.extend([first(round).into(), ordered.into(), include_str!("shaders/arg_max.wgsl").into()]),
            Self::TopK(round) => pieces.extend([first(round).into(), ordered.into(), include_str!("shaders/top_k.wgsl").into()]),
        }
        // Entry points cannot take what is not there, so these two places are filled by text.
        let alone = matches!(self, Self::Product { way: Way::Vector { threads: 1, .. }, .. });
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

/// What the kernels know of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_width: usize,
    pub rope_width: usize,
    pub epsilon: f32,
}

impl From<&Hyperparameters> for Sizes {
    fn from(p: &Hyperparameters) -> Self {
        let Hyperparameters { width, heads, kv_heads, head_width, rope_width, rms_epsilon: epsilon, .. } = *p;
        Self { width, heads, kv_heads, head_width, rope_width, epsilon }
    }
}

/// How a format is unpacked.
fn unpacking(format: Format) -> Vec<&'static str> {
    let in_order = include_str!("shaders/formats/in_order.wgsl");
    let k_quants = include_str!("shaders/formats/k_quants.wgsl");
    let fifth_bits = include_str!("shaders/formats/fifth_bits.wgsl");
    let own = match format {
        Format::F32 => vec![in_order, include_str!("shaders/formats/f32.wgsl")],
        Format::F16 => vec![in_order, include_str!("shaders/formats/f16.wgsl")],
        Format::Bf16 => vec![in_order, include_str!("shaders/formats/bf16.wgsl")],
        Format::Q4_0 => vec![in_order, include_str!("shaders/formats/q4_0.wgsl")],
        Format::Q4_1 => vec![in_order, include_str!("shaders/formats/q4_1.wgsl")],
        Format::Q5_0 => vec![in_order, fifth_bits, include_str!("shaders/formats/q5_0.wgsl")],
        Format::Q5_1 => vec![in_order, fifth_bits, include_str!("shaders/formats/q5_1.wgsl")],
        Format::Q8_0 => vec![in_order, include_str!("shaders/formats/q8_0.wgsl")],
        Format::Q4K => vec![k_quants, include_str!("shaders/formats/q4_k.wgsl")],
        Format::Q5K => vec![k_quants, include_str!("shaders/formats/q5_k.wgsl")],
        Format::Q6K => vec![include_str!("shaders/formats/q6_k.wgsl")],
        // There are no planes for them (`layout.rs`), so no matrix.
        Format::Q2K | Format::Q3K => vec![],
    };
    let mut pieces = vec![include_str!("shaders/formats/common.wgsl")];
    if format.is_quantised() {
        pieces.push(if format == Format::Q8_0 { "const SIGNED = true;\n" } else { "const SIGNED = false;\n" });
        pieces.push(include_str!("shaders/formats/packed.wgsl"));
    }
    pieces.extend(own);
    pieces
}

/// The compiled kernels of a model.
pub struct Pipelines {
    /// For the uniform of `job.wgsl`.
    job: wgpu::BindGroupLayout,
    layouts: HashMap<Bindings, wgpu::BindGroupLayout>,
    pipelines: HashMap<Kernel, wgpu::ComputePipeline>,
}

/// Bytes of `Job` (`job.wgsl`).
pub const JOB_BYTES: u64 = 48;

/// Kernels on their way.
pub struct Compiling {
    job: wgpu::BindGroupLayout,
    layouts: HashMap<Bindings, wgpu::BindGroupLayout>,
    begun: Vec<(Kernel, LocalFuture<'static, Result<Begun>>)>,
}

/// A pipeline that was begun.
struct Begun {
    label: String,
    module: wgpu::ShaderModule,
    layout: wgpu::PipelineLayout,
    #[cfg(target_arch = "wasm32")]
    pending: std::result::Result<PendingPipeline, String>,
}

impl Compiling {
    /// Begins to compile kernels. A browser compiles all of them side by side, and while something else is done here; natively there
    /// is nobody who would.
    pub async fn begin(context: &Context, sizes: &Sizes, kernels: &[Kernel]) -> Self {
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
        let mut result = Self { job, layouts, begun: Vec::new() };
        for kernel in kernels {
            let begun = context.checked("a kernel", || result.begin_one(context, sizes, *kernel));
            result.begun.push((*kernel, begun));
            yield_now().await;
        }
        result
    }

    fn begin_one(&self, context: &Context, sizes: &Sizes, kernel: Kernel) -> Begun {
        let label = format!("{kernel:?}");
        let module = context.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(kernel.source(sizes, context).into()),
        });
        let layout = context.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&self.job), self.layouts.get(&kernel.bindings())],
            immediate_size: 0,
        });
        #[cfg(target_arch = "wasm32")]
        let pending = match context.device.as_webgpu() {
            Some(device) => PendingPipeline::begin(device.as_ref(), || create(context, &label, &module, &layout)),
            None => Err("it is none of the host's".to_owned()),
        };
        Begun {
            label,
            module,
            layout,
            #[cfg(target_arch = "wasm32")]
            pending,
        }
    }

    /// Which ones these are.
    pub fn kernels(&self) -> Vec<Kernel> {
        self.begun.iter().map(|(kernel, _)| *kernel).collect()
    }

    /// Waits until all are compiled. `progress` is told how many are ready, and of how many.
    pub async fn finish(self, context: &Context, progress: &dyn Fn(usize, usize)) -> Result<Pipelines> {
        let count = self.begun.len();
        let mut pipelines = HashMap::new();
        for (kernel, begun) in self.begun {
            pipelines.insert(kernel, begun.await?.finish(context).await?);
            progress(pipelines.len(), count);
            yield_now().await;
        }
        Ok(Pipelines { job: self.job, layouts: self.layouts, pipelines })
    }
}

impl Begun {
    #[cfg(target_arch = "wasm32")]
    async fn finish(self, context: &Context) -> Result<wgpu::ComputePipeline> {
        let Self { label, module, layout, pending } = self;
        let create = || create(context, &label, &module, &layout);
        let finished = match pending {
            Ok(pending) => pending.finish(create).await,
            Err(text) => Err(text),
        };
        // A device that is lost compiles nothing, and says less well why.
        context.check()?;
        finished.map_err(|text| refused(&text))
    }

    #[cfg(not(target_arch = "wasm32"))]
    async fn finish(self, context: &Context) -> Result<wgpu::ComputePipeline> {
        context.checked("a kernel", || create(context, &self.label, &self.module, &self.layout)).await
    }
}

fn create(context: &Context, label: &str, module: &wgpu::ShaderModule, layout: &wgpu::PipelineLayout) -> wgpu::ComputePipeline {
    context.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: Some(layout),
        module,
        entry_point: Some("main"),
        // Workgroup memory is written before it is read.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache: None,
    })
}

impl Pipelines {
    pub fn get(&self, kernel: Kernel) -> Result<&wgpu::ComputePipeline> {
        self.pipelines.get(&kernel).ok_or_else(|| AiError::invalid_data(format!("The GPU kernel {kernel:?} was not prepared.")))
    }

    /// The group of a buffer of jobs, of which each dispatch takes one by its offset.
    pub fn bind_jobs(&self, context: &Context, jobs: &wgpu::Buffer) -> wgpu::BindGroup {
        let entry = wgpu::BufferBinding { buffer: jobs, offset: 0, size: std::num::NonZeroU64::new(JOB_BYTES) };
        context.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.job,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(entry) }],
        })
    }

    /// The buffers of a kernel, in the order of its bindings.
    pub fn bind(&self, context: &Context, bindings: Bindings, buffers: &[&wgpu::Buffer]) -> Result<wgpu::BindGroup> {
        let Some(layout) = self.layouts.get(&bindings) else {
            return Err(AiError::invalid_data("A GPU kernel was not prepared."));
        };
        let entries: Vec<_> =
            (0..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }).collect();
        Ok(context.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries }))
    }
}
