//! What the adapter's memory can do, to compare kernels with.

use super::context::Context;
use crate::error::Result;
use crate::host::now_ms;

/// Bytes per second that a copy from buffer to buffer reads and writes.
pub async fn copy_bandwidth(context: &Context) -> Result<f64> {
    const ROUNDS: u64 = 8;
    // Larger than any cache, if that is allowed.
    let bytes = (256 << 20).min(context.max_binding / 16 * 16);
    let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = |bytes, usage| context.create_owned_buffer("a measurement", bytes, usage);
    let [from, to] = [buffer(bytes, usage)?, buffer(bytes, usage)?];
    let end = buffer(16, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST)?;
    let mut fastest = f64::INFINITY;
    // The first round brings the memory in.
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
