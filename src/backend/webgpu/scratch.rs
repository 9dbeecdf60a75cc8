//! The buffers of a chunk of rows, which all chunks of a model share, and the limits of a chunk.

use super::context::Context;
use super::shaders::{Bindings, MAX_SPLITS, Pipelines};
use crate::backend::MAX_CANDIDATES;
use crate::error::{AiError, Result};
use crate::model::{Architecture, Slot};

/// The most sequences of a chunk that can have an answer (logits or candidates).
pub const MAX_OUTPUTS: usize = 8;

/// The most sequences of a chunk.
pub const MAX_SEGMENTS: usize = 64;

/// From this number of rows on, products and attention compute several rows per workgroup.
pub const LEAST_TILED_ROWS: usize = 4;

/// The positions of a part of attention are a multiple of this number, except in the last part (`TILE` of `attention.wgsl`).
pub const TILE: usize = 64;

/// Logits or candidates that one workgroup selects from (`ordered.wgsl`).
pub const SEGMENT: usize = 1024;

/// The parameters of a dispatch: `Job` of `job.wgsl`, which describes the fields.
#[derive(Default)]
pub struct Job {
    pub rows: usize,
    pub first_row: usize,
    pub start: usize,
    pub values: usize,
    pub splits: usize,
    pub split_length: usize,
    pub input_row: usize,
    pub output_row: usize,
    pub count: usize,
    pub wanted: usize,
    pub begin: usize,
    pub window: u32,
}

impl Job {
    /// The uniform's content: `JOB_BYTES` bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { rows, first_row, start, values, splits, split_length, input_row, output_row, count, wanted, begin, window } = *self;
        let window = window as usize;
        let numbers = [rows, first_row, start, values, splits, split_length, input_row, output_row, count, wanted, begin, window];
        numbers.iter().flat_map(|number| (*number as u32).to_le_bytes()).collect()
    }
}

/// Buffers for the activations of a chunk, `[rows, width of the activation]` each, for its input (tokens, angles, jobs) and for its output
/// (logits, candidates, readback). Created once per model.
pub struct Scratch {
    /// The most rows of a chunk.
    pub rows: usize,
    pub tokens: wgpu::Buffer,
    /// For each of the architecture's ropes.
    pub angles: Vec<wgpu::Buffer>,
    pub jobs: wgpu::Buffer,
    pub job_group: wgpu::BindGroup,
    pub stream: wgpu::Buffer,
    pub normed: wgpu::Buffer,
    pub query: wgpu::Buffer,
    pub key: wgpu::Buffer,
    pub value: wgpu::Buffer,
    pub attended: wgpu::Buffer,
    pub partials: wgpu::Buffer,
    pub gate: wgpu::Buffer,
    pub delta: wgpu::Buffer,
    pub last: wgpu::Buffer,
    pub logits: wgpu::Buffer,
    pub candidates: [wgpu::Buffer; 2],
    pub readback: wgpu::Buffer,
    pub combine: wgpu::BindGroup,
    /// Bind groups for selection: from the logits to the first buffer of candidates, then from each of the two buffers to the other.
    pub choose: [wgpu::BindGroup; 3],
}

impl Scratch {
    /// Buffers for chunks of up to `rows` rows.
    ///
    /// # Errors
    ///
    /// If a buffer is larger than the adapter allows, or memory runs out.
    pub fn new(context: &Context, pipelines: &Pipelines, architecture: &Architecture, rows: usize) -> Result<Self> {
        let p = &architecture.sizes;
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let floats = |count: usize| context.create_buffer("computing a batch", 4 * count as u64, usage);
        let candidates = || floats(MAX_OUTPUTS * p.vocabulary.div_ceil(SEGMENT) * MAX_CANDIDATES * 2);
        let jobs = context.uniform_alignment * (MAX_SEGMENTS * architecture.windows().len() + MAX_OUTPUTS + 16) as u64;
        let jobs = context.create_buffer("jobs", jobs, Usage::UNIFORM | Usage::COPY_DST)?;
        let job_group = pipelines.bind_jobs(context, &jobs);
        let attended = floats(rows * p.query_width())?;
        let partials = floats((LEAST_TILED_ROWS - 1) * p.heads * MAX_SPLITS * (p.head_width + 4))?;
        let combine = pipelines.bind(context, Bindings::Pair, &[&partials, &attended])?;
        let logits = floats(MAX_OUTPUTS * p.vocabulary)?;
        let [a, b] = [candidates()?, candidates()?];
        let bind = |from, to| pipelines.bind(context, Bindings::Pair, &[from, to]);
        let choose = [bind(&logits, &a)?, bind(&a, &b)?, bind(&b, &a)?];
        let readback = (MAX_OUTPUTS * (p.vocabulary * 4 + MAX_CANDIDATES * 8)) as u64;
        Ok(Self {
            rows,
            tokens: floats(rows)?,
            angles: architecture.ropes.iter().map(|_| floats(rows * p.rope_width)).collect::<Result<_>>()?,
            jobs,
            job_group,
            stream: floats(rows * p.width)?,
            normed: floats(rows * p.width)?,
            query: floats(rows * p.query_width())?,
            key: floats(rows * p.kv_width())?,
            value: floats(rows * p.kv_width())?,
            attended,
            partials,
            gate: floats(rows * p.ffn_width)?,
            // Without norms behind a product, its epilogue adds to the stream.
            delta: floats(if architecture.layer_norms.after { rows * p.width } else { 4 })?,
            last: floats(MAX_OUTPUTS * p.width)?,
            logits,
            candidates: [a, b],
            readback: context.create_buffer("reading back", readback, Usage::MAP_READ | Usage::COPY_DST)?,
            combine,
            choose,
        })
    }

    /// The buffer of a slot. The activation that follows the product of `Up` is its epilogue, so there is none for `Up`.
    ///
    /// # Errors
    ///
    /// 5004 if there is none.
    pub fn slot(&self, slot: Slot) -> Result<&wgpu::Buffer> {
        Ok(match slot {
            Slot::Stream => &self.stream,
            Slot::Normed => &self.normed,
            Slot::Query => &self.query,
            Slot::Key => &self.key,
            Slot::Value => &self.value,
            Slot::Attended => &self.attended,
            Slot::Gate => &self.gate,
            Slot::Delta => &self.delta,
            Slot::Up => return Err(no_steps()),
        })
    }
}

/// 5004: a step of the architecture has no shader.
pub fn no_steps() -> AiError {
    AiError::invalid_data("The GPU does not compute the steps of this architecture yet.")
}
