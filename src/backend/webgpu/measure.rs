//! Measures the adapter's memory bandwidth, as a reference for the speed of shaders.

use super::context::Context;
use crate::error::Result;
use crate::host::now_ms;

/// Measures a copy from buffer to buffer. Returns bytes per second, counting both those read and those written.
///
/// # Errors
///
/// If there is no memory for two buffers of up to 256 MiB, or the device fails.
pub async fn copy_bandwidth(context: &Context) -> Result<f64> {
    const ROUNDS: u64 = 8;
    // Larger than any hardware cache, if the adapter allows it.
    let bytes = (256 << 20).min(context.max_binding / 16 * 16);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = |bytes, usage| context.create_owned_buffer("a measurement", bytes, usage);
    let [from, to] = [buffer(bytes, usage)?, buffer(bytes, usage)?];
    let end = buffer(16, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
    let mut fastest = f64::INFINITY;
    // The first repetition also brings the memory in, so the fastest counts.
    for _ in 0..4 {
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for _ in 0..ROUNDS {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes);
        }
        encoder.copy_buffer_to_buffer(&to, 0, &end, 0, 16);
        let started = now_ms();
        context.submit(encoder.finish());
        context.read(&end, 16).await?;
        fastest = fastest.min(now_ms() - started);
    }
    Ok(2.0 * (ROUNDS * bytes) as f64 / (fastest / 1000.0))
}
