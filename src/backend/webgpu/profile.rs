//! Measures on the GPU's own clock how long each dispatch takes. For measurements only (`examples/gpu_bench.rs --profile`).

use super::context::{Context, OwnedBuffer};
use super::shaders::Shader;
use crate::error::{AiError, Result};
use std::cell::RefCell;

/// The most dispatches that are measured; WebGPU allows 4096 timestamps in a set.
const MOST: usize = 2048;

/// The timestamps of a forward pass. Each dispatch is recorded as a compute pass of its own, because WebGPU takes timestamps only where a
/// pass begins and ends.
pub struct Profile {
    set: wgpu::QuerySet,
    resolved: OwnedBuffer,
    readable: OwnedBuffer,
    /// What was dispatched, in order: the shader and its workgroups.
    dispatches: RefCell<Vec<(Shader, [usize; 3])>>,
}

impl Profile {
    /// # Errors
    ///
    /// If the device was requested without timestamps ([`super::Choice`]), or has no memory for them.
    pub fn new(context: &Context) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        if !context.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(AiError::invalid_data(format!("The adapter {} has no timestamps.", context.name)));
        }
        let buffer = |usage| context.create_owned_buffer("timestamps", 16 * MOST as u64, usage);
        let set = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 * MOST as u32 };
        Ok(Self {
            set: context.device.create_query_set(&set),
            resolved: buffer(Usage::QUERY_RESOLVE | Usage::COPY_SRC)?,
            readable: buffer(Usage::MAP_READ | Usage::COPY_DST)?,
            dispatches: RefCell::default(),
        })
    }

    /// The compute pass for the next dispatch; without timestamps once the set is full.
    pub(super) fn begin(&self, encoder: &mut wgpu::CommandEncoder, shader: Shader, workgroups: [usize; 3]) -> wgpu::ComputePass<'static> {
        let mut dispatches = self.dispatches.borrow_mut();
        let first = 2 * dispatches.len() as u32;
        let timestamps = (dispatches.len() < MOST).then(|| wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        });
        if timestamps.is_some() {
            dispatches.push((shader, workgroups));
        }
        let pass = wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps };
        encoder.begin_compute_pass(&pass).forget_lifetime()
    }

    /// Records that the timestamps are made readable.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let count = 2 * self.dispatches.borrow().len();
        encoder.resolve_query_set(&self.set, 0..count as u32, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readable, 0, 8 * count as u64);
    }

    /// Every dispatch in order, with its start and its end in microseconds since the first start.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub(super) async fn read(&self, context: &Context) -> Result<Vec<Dispatch>> {
        let dispatches = self.dispatches.take();
        let bytes = context.read(&self.readable, 16 * dispatches.len() as u64).await?;
        let period = f64::from(context.queue.get_timestamp_period()) / 1000.0;
        let ticks: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|ticks| u64::from_le_bytes(*ticks)).collect();
        let zero = ticks.first().copied().unwrap_or(0);
        let time = |ticks: u64| ticks.saturating_sub(zero) as f64 * period;
        let read = dispatches.into_iter().zip(ticks.as_chunks::<2>().0).map(|((shader, workgroups), [start, end])| Dispatch {
            name: format!("{shader:?} {workgroups:?}"),
            start: time(*start),
            end: time(*end),
        });
        Ok(read.collect())
    }
}

/// A dispatch that was measured.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The shader and its workgroups.
    pub name: String,
    /// In microseconds since the first dispatch started.
    pub start: f64,
    pub end: f64,
}
