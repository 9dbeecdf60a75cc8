//! LoRA adapters on the GPU: their matrices in buffers, and the shaders that add their products to the model's.
//!
//! Shaders and scratch buffers are made when the first adapter comes, so that a model without one has none of them.

use super::check::check_shaders;
use super::context::{Context, OwnedBuffer};
use super::forward::{AdaptedProduct, adapted_products};
use super::scratch::Scratch;
use super::shaders::{Bindings, Compilation, Epilogue, Pipelines, Shader, Sizes};
use crate::error::{AiError, Result};
use crate::lora::{Adapter, AdapterId, LowRank, MAX_RANK};
use crate::model::{Architecture, Role};
use kernels::packed::Packed;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// The adapters of a model.
#[derive(Default)]
pub struct Adapters {
    loaded: HashMap<AdapterId, Loaded>,
    buffers: Option<Buffers>,
}

/// The scratch buffers of all adapters.
struct Buffers {
    /// `scale · A·x`, `[rows, MAX_RANK]`.
    inner: OwnedBuffer,
    /// What is added behind a gate, `[rows, ffn_width]`.
    gated: OwnedBuffer,
}

/// An adapter. It is dropped some time after nobody else has it any more.
struct Loaded {
    adapter: Weak<Adapter>,
    matrices: HashMap<Role, Adapted>,
    /// Kept for ownership only: the bind groups refer to these buffers.
    _buffers: Vec<OwnedBuffer>,
}

/// What an adapter has beside a matrix of the model, with the bind groups of its shaders.
pub struct Adapted {
    a: wgpu::BindGroup,
    b: wgpu::BindGroup,
    /// Of the sum, where the product's epilogue is a gate.
    sum: Option<wgpu::BindGroup>,
    epilogue: Epilogue,
    /// Rounded up to a multiple of four.
    rank: usize,
    outputs: usize,
}

/// A dispatch of an adapter: its shader, bind group and workgroups.
pub type Dispatched<'a> = (Shader, &'a wgpu::BindGroup, [usize; 3]);

impl Adapted {
    /// What is computed before the model's product, for so many rows.
    pub fn before(&self, rows: usize) -> Vec<Dispatched<'_>> {
        if self.sum.is_some() { self.products(rows) } else { Vec::new() }
    }

    /// What is computed after it.
    pub fn after(&self, rows: usize) -> Vec<Dispatched<'_>> {
        match &self.sum {
            Some(sum) => vec![(Shader::LowRankAdd, sum, [self.outputs.div_ceil(64), rows, 1])],
            None => self.products(rows),
        }
    }

    fn products(&self, rows: usize) -> Vec<Dispatched<'_>> {
        vec![
            (Shader::LowRankA, &self.a, [self.rank, rows, 1]),
            (Shader::LowRankB(self.epilogue), &self.b, [self.outputs.div_ceil(64), rows, 1]),
        ]
    }
}

impl Adapters {
    /// What an adapter has beside a matrix of the model.
    pub fn matrix(&self, id: AdapterId, role: Role) -> Option<&Adapted> {
        self.loaded.get(&id)?.matrices.get(&role)
    }

    /// Makes room for an adapter and uploads it, unless it is there.
    ///
    /// # Errors
    ///
    /// 3040 if memory runs out or the device is lost; 5004 if the GPU computes the adapters' shaders wrongly.
    pub async fn prepare(
        &mut self,
        context: &Context,
        pipelines: &mut Pipelines,
        architecture: &Architecture,
        scratch: &Scratch,
        adapter: &Rc<Adapter>,
    ) -> Result<()> {
        if self.loaded.contains_key(&adapter.id) {
            return Ok(());
        }
        context.check()?;
        self.loaded.retain(|_, loaded| loaded.adapter.strong_count() > 0);
        if self.buffers.is_none() {
            compile(context, pipelines, architecture).await?;
            let floats = |count: usize| context.create_owned_buffer("LoRA adapters", 4 * count as u64, wgpu::BufferUsages::STORAGE);
            let made = context.checked("LoRA adapters", || {
                Result::Ok(Buffers { inner: floats(scratch.rows * MAX_RANK)?, gated: floats(scratch.rows * architecture.sizes.ffn_width)? })
            });
            self.buffers = Some(made.await??);
        }
        let Some(buffers) = &self.buffers else { return Ok(()) };
        let what = format!("the LoRA adapter '{}'", adapter.name);
        let loaded = context.checked(&what, || upload(context, pipelines, architecture, scratch, buffers, adapter)).await??;
        self.loaded.insert(adapter.id, loaded);
        Ok(())
    }
}

/// Compiles the adapters' shaders, and compares them with their references.
async fn compile(context: &Context, pipelines: &mut Pipelines, architecture: &Architecture) -> Result<()> {
    let sizes = Sizes::from(architecture);
    let gate = Epilogue::Gate(architecture.activation);
    let shaders = [Shader::LowRankA, Shader::LowRankB(Epilogue::Add), Shader::LowRankB(gate), Shader::LowRankAdd];
    pipelines.extend(Compilation::start(context, &sizes, &shaders).await.finish(context, &|_, _| ()).await?);
    let comparisons = check_shaders(context, pipelines, &sizes, &shaders, 1, &|_, _| ()).await?;
    match comparisons.iter().find(|comparison| !comparison.agrees()) {
        None => Ok(()),
        Some(wrong) => Err(AiError::invalid_data(format!(
            "The GPU ({}) computes LoRA adapters wrongly: {} differs from its reference by {:e}.",
            context.name, wrong.shader, wrong.difference
        ))),
    }
}

fn upload(
    context: &Context,
    pipelines: &Pipelines,
    architecture: &Architecture,
    scratch: &Scratch,
    scratch_of_adapters: &Buffers,
    adapter: &Rc<Adapter>,
) -> Result<Loaded> {
    let (mut matrices, mut owned) = (HashMap::new(), Vec::new());
    let Buffers { inner, gated } = scratch_of_adapters;
    for AdaptedProduct { matrix, input, output, epilogue } in adapted_products(architecture, scratch)? {
        let Some(LowRank { a, b, scale }) = adapter.matrix(matrix) else { continue };
        let rank = a.rows.next_multiple_of(4);
        let shape = shape(context, a.columns, rank, b.rows, *scale)?;
        let (a, a_numbers) = (a.columns, padded(a, rank, a.columns));
        let (outputs, b_numbers) = (b.rows, padded(b, b.rows, rank));
        if !a.is_multiple_of(4) {
            return Err(crate::lora::unsupported(format!(
                "LoRA adapter '{}' cannot be used: the GPU computes matrices whose columns are a multiple of 4. Set backend: \"cpu\".",
                adapter.name
            )));
        }
        let (a, b) = (floats(context, &a_numbers)?, floats(context, &b_numbers)?);
        let bind = |buffers: [&wgpu::Buffer; 5]| pipelines.bind(context, Bindings::Matrix, &buffers);
        let is_gated = matches!(epilogue, Epilogue::Gate(_));
        let adapted = Adapted {
            a: bind([&a, &a, input, inner, &shape])?,
            b: match is_gated {
                true => bind([&b, output, inner, gated, &shape])?,
                false => bind([&b, &b, inner, output, &shape])?,
            },
            sum: if is_gated { Some(bind([gated, gated, gated, output, &shape])?) } else { None },
            epilogue: if is_gated { epilogue } else { Epilogue::Add },
            rank,
            outputs,
        };
        matrices.insert(matrix, adapted);
        owned.extend([a, b, shape]);
    }
    Ok(Loaded { adapter: Rc::downgrade(adapter), matrices, _buffers: owned })
}

/// The numbers of a matrix, with zeros in further rows and columns.
fn padded(matrix: &Packed, rows: usize, columns: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; rows * columns];
    for (row, numbers) in numbers.chunks_exact_mut(columns).take(matrix.rows).enumerate() {
        if let Some(numbers) = numbers.get_mut(..matrix.columns) {
            matrix.copy_row(row, numbers);
        }
    }
    numbers
}

fn floats(context: &Context, numbers: &[f32]) -> Result<OwnedBuffer> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    filled(context, &bytes, wgpu::BufferUsages::STORAGE)
}

/// `LowRank` of `low_rank.wgsl`.
///
/// # Errors
///
/// If the buffer cannot be created.
pub fn shape(context: &Context, columns: usize, rank: usize, outputs: usize, scale: f32) -> Result<OwnedBuffer> {
    let numbers = [columns / 4, rank, outputs].map(|number| (number as u32).to_le_bytes());
    // Bind group layouts ask for 32 bytes.
    let bytes = [numbers.as_flattened(), &scale.to_le_bytes(), &[0; 16]].concat();
    filled(context, &bytes, wgpu::BufferUsages::UNIFORM)
}

fn filled(context: &Context, bytes: &[u8], usage: wgpu::BufferUsages) -> Result<OwnedBuffer> {
    let buffer = context.create_owned_buffer("a LoRA adapter", bytes.len() as u64, usage | wgpu::BufferUsages::COPY_DST)?;
    context.upload(&buffer, 0, bytes);
    Ok(buffer)
}
