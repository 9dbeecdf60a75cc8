//! Measures the adapter's memory bandwidth, as a reference for the speed of shaders.

use super::context::Context;
use crate::error::Result;
use crate::host::now_ms;

/// Every thread copies four groups of 16 bytes, as far apart as the workgroup is wide.
const COPY: &str = "
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> copy: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = group.x * 1024u + lane;
    let a = source[at];
    let b = source[at + 256u];
    let c = source[at + 512u];
    let d = source[at + 768u];
    copy[at] = a;
    copy[at + 256u] = b;
    copy[at + 512u] = c;
    copy[at + 768u] = d;
}";

/// Bytes that a workgroup of `COPY` copies.
const COPIED: u64 = 16 * 1024;

/// Measures a copy from buffer to buffer by a shader; the copy command of some drivers is several times slower. Returns bytes per second,
/// counting both those read and those written.
///
/// # Errors
///
/// If there is no memory for two buffers of up to 256 MiB, or the device fails.
pub async fn copy_bandwidth(context: &Context) -> Result<f64> {
    const ROUNDS: u64 = 16;
    // Larger than any hardware cache, if the adapter allows it.
    let bytes = (256 << 20).min(context.max_binding / COPIED * COPIED);
    use wgpu::BufferUsages as Usage;
    let buffer = |bytes, usage| context.create_owned_buffer("a measurement", bytes, usage);
    let [from, to] = [buffer(bytes, Usage::STORAGE)?, buffer(bytes, Usage::STORAGE | Usage::COPY_SRC)?];
    let end = buffer(16, Usage::MAP_READ | Usage::COPY_DST)?;
    let module = wgpu::ShaderModuleDescriptor { label: Some("copy"), source: wgpu::ShaderSource::Wgsl(COPY.into()) };
    let module = context.device.create_shader_module(module);
    let pipeline = context.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("copy"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let entries = [(0, &*from), (1, &*to)];
    let entries = entries.map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
    let layout = pipeline.get_bind_group_layout(0);
    let group = context.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
    let mut fastest = f64::INFINITY;
    // The first repetition also brings the memory in, so the fastest counts.
    for _ in 0..4 {
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        (0..ROUNDS).for_each(|_| pass.dispatch_workgroups((bytes / COPIED) as u32, 1, 1));
        drop(pass);
        encoder.copy_buffer_to_buffer(&to, 0, &end, 0, 16);
        let started = now_ms();
        context.submit(encoder.finish());
        context.read(&end, 16).await?;
        fastest = fastest.min(now_ms() - started);
    }
    Ok(2.0 * (ROUNDS * bytes) as f64 / (fastest / 1000.0))
}
