//! Compares the shaders with their reference implementations on the adapter in use: in tests over many shapes, and before a model is used.

use super::adapters;
use super::context::Context;
use super::forward::logit_of;
use super::layout::planes;
use super::reference;
use super::scratch::{Job, SEGMENT, TILE};
use super::shaders::{Epilogue, JOB_BYTES, MAX_SPLITS, Pipelines, ReductionPass, Shader, Sizes};
use super::weights::{Filling, Matrix};
use crate::error::Result;
use kernels::Format;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The result of comparing one shader with its reference on random inputs.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub shader: String,
    /// The largest difference from the reference, relative to the largest number.
    pub difference: f32,
    /// The largest accepted difference.
    pub allowed: f32,
}

impl Comparison {
    /// Whether the difference is accepted.
    pub fn agrees(&self) -> bool {
        // False if the difference is NaN.
        self.difference <= self.allowed
    }
}

/// Runs every shader of `shaders` once on small random inputs and returns one comparison for each, in the same order. `progress` receives
/// the number of shaders that were run and their total number.
///
/// # Errors
///
/// If the device fails, a buffer cannot be created, or a pipeline is missing in `pipelines`. A wrong result is not an error: see
/// [`Comparison::agrees`].
pub async fn check_shaders(
    context: &Context,
    pipelines: &Pipelines,
    sizes: &Sizes,
    shaders: &[Shader],
    seed: u64,
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<Comparison>> {
    let mut check = Check { context, pipelines, sizes, rng: Pcg64Mcg::seed_from_u64(seed) };
    let mut comparisons = Vec::new();
    for shader in shaders {
        let (difference, allowed) = check.run(*shader).await?;
        comparisons.push(Comparison { shader: format!("{shader:?}"), difference, allowed });
        progress(comparisons.len(), shaders.len());
    }
    Ok(comparisons)
}

struct Check<'a> {
    context: &'a Context,
    pipelines: &'a Pipelines,
    sizes: &'a Sizes,
    rng: Pcg64Mcg,
}

impl Check<'_> {
    /// Returns the difference from the reference and the largest accepted difference.
    async fn run(&mut self, shader: Shader) -> Result<(f32, f32)> {
        Ok(match shader {
            Shader::Embed(format) => (self.embed(shader, format).await?, 1e-6),
            // Activations are rounded to 15 bits.
            Shader::Product { format, epilogue, .. } if shader.is_packed() => (self.product(shader, format, epilogue).await?, 1e-4),
            Shader::Product { format, epilogue, .. } => (self.product(shader, format, epilogue).await?, 2e-5),
            Shader::Norm | Shader::NormAdd => (self.norm(shader).await?, 1e-5),
            Shader::PartNorm => (self.part_norm().await?, 1e-5),
            Shader::Bias => (self.bias().await?, 1e-6),
            // Rounding to f16 may go either way.
            Shader::Rope => (self.rope().await?, 1e-3),
            Shader::Attention { rows, .. } => (self.attention(shader, rows).await?, 1e-5),
            // Checked together with attention.
            Shader::Combine => (0.0, 0.0),
            Shader::ArgMax(pass) => (self.candidates(shader, pass, 1).await?, 0.0),
            Shader::TopK(pass) => {
                let wanted = 2 + self.below(255);
                (self.candidates(shader, pass, wanted).await?, 0.0)
            }
            Shader::LowRankA | Shader::LowRankB(_) | Shader::LowRankAdd => (self.low_rank(shader).await?, 1e-5),
        })
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 4.0).collect()
    }

    /// `count` random blocks in the file's layout: arbitrary codes and finite scales. In one matrix of four all scales are so small that
    /// they are subnormal in f16, as K-quants have them.
    fn blocks(&mut self, format: Format, count: usize) -> Vec<u8> {
        if !format.is_quantised() {
            let numbers = self.numbers(count);
            return numbers
                .into_iter()
                .flat_map(|number| match format {
                    Format::F16 => half::f16::from_f32(number).to_le_bytes().to_vec(),
                    Format::Bf16 => half::bf16::from_f32(number).to_le_bytes().to_vec(),
                    _ => number.to_le_bytes().to_vec(),
                })
                .collect();
        }
        let mut bytes = vec![0; count * format.file_bytes()];
        self.rng.fill_bytes(&mut bytes);
        let kept = if self.below(4) == 0 { 0x83 } else { 0xbb };
        let first = match (format, planes(format)) {
            (Format::Q6K, Some([.., numbers])) => numbers.offset,
            _ => 0,
        };
        for block in bytes.chunks_exact_mut(format.file_bytes()) {
            for half in block[first..first + 2 * format.f16_count()].as_chunks_mut::<2>().0 {
                half[1] &= kept;
            }
        }
        bytes
    }

    /// A random matrix on the GPU, and its dequantised numbers `[rows, columns]`. Its bytes are written in pieces, as when a file is read.
    fn matrix(&mut self, format: Format) -> Result<(Matrix, Vec<f32>)> {
        let unit = format.columns().max(32);
        let (rows, columns) = (1 + self.below(150), unit * (1 + self.below(if unit > 32 { 3 } else { 20 })));
        let bytes = self.blocks(format, rows * columns / format.columns());
        let mut filling = Filling::new(Matrix::new(self.context, "a check", format, rows, columns)?);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + self.below(5000)).min(rest.len()));
            filling.write(self.context, piece)?;
            rest = after;
        }
        Ok((filling.finish()?, reference::dequantise(format, rows, columns, &bytes)?))
    }

    fn buffer(&self, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.context.create_buffer("a check", bytes.len() as u64, usage)?;
        self.context.upload(&buffer, 0, bytes);
        Ok(buffer)
    }

    fn floats(&self, numbers: &[f32]) -> Result<wgpu::Buffer> {
        self.buffer(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Runs shaders one after the other with the same job, then returns the first `bytes` bytes of the buffer `result`.
    async fn dispatch(
        &self,
        job: &Job,
        runs: &[(Shader, &[&wgpu::Buffer], [usize; 3])],
        result: &wgpu::Buffer,
        bytes: usize,
    ) -> Result<Vec<u8>> {
        let (context, pipelines) = (self.context, self.pipelines);
        let uniform = context.create_buffer("a check", JOB_BYTES, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST)?;
        context.upload(&uniform, 0, &job.bytes());
        let readback = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let readback = context.create_buffer("a check", bytes as u64, readback)?;
        let job_group = pipelines.bind_jobs(context, &uniform);
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (shader, buffers, workgroups) in runs {
            let group = pipelines.bind(context, shader.bindings(), buffers)?;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipelines.get(*shader)?);
            pass.set_bind_group(0, &job_group, &[0]);
            pass.set_bind_group(1, &group, &[]);
            let [x, y, z] = workgroups.map(|count| count as u32);
            pass.dispatch_workgroups(x, y, z);
        }
        encoder.copy_buffer_to_buffer(result, 0, &readback, 0, bytes as u64);
        context.submit(encoder.finish());
        context.read(&readback, bytes as u64).await
    }

    async fn product(&mut self, shader: Shader, format: Format, epilogue: Epilogue) -> Result<f32> {
        let Shader::Product { strategy, .. } = shader else { return Ok(f32::NAN) };
        let (matrix, numbers) = self.matrix(format)?;
        let rows = 1 + self.below(70);
        let input = self.numbers(rows * matrix.columns);
        let mut expected = self.numbers(rows * matrix.rows);
        let (from, to) = (self.floats(&input)?, self.floats(&expected)?);
        let job = Job { rows, ..Job::default() };
        let buffers: Vec<_> = matrix.parts.iter().map(|part| [&part.buffer, &part.buffer, &from, &to, &part.shape]).collect();
        let runs: Vec<_> =
            matrix.parts.iter().zip(&buffers).map(|(part, buffers)| (shader, &buffers[..], strategy.workgroups(part.rows, rows))).collect();
        let result = self.dispatch(&job, &runs, &to, 4 * expected.len()).await?;
        reference::product(&numbers, matrix.columns, &input, epilogue, &mut expected);
        // Relative to the size of the summands, because a sum of positive and negative ones may itself be small.
        let scale = numbers.iter().map(|number| number.abs()).fold(0.0, f32::max) * (matrix.columns as f32).sqrt() * 4.0;
        Ok(difference(&floats_of(&result), &expected).min(absolute(&floats_of(&result), &expected) / scale))
    }

    /// Each computes some of the rows, and leaves the others as they are.
    async fn low_rank(&mut self, shader: Shader) -> Result<f32> {
        let (rank, columns, outputs) = (4 * (1 + self.below(16)), 4 * (1 + self.below(300)), 1 + self.below(500));
        let job = Job { rows: 1 + self.below(5), first_row: self.below(3), ..Job::default() };
        let rows = job.first_row + job.rows + 1;
        // The matrix that is multiplied, its input, and the output with the numbers that are computed.
        let (matrix, input, written, computed) = match shader {
            Shader::LowRankA => (rank * columns, rows * columns, (job.rows + 1) * rank, 0..job.rows * rank),
            Shader::LowRankB(_) => (outputs * rank, job.rows * rank, rows * outputs, job.first_row * outputs..(rows - 1) * outputs),
            _ => (4, rows * outputs, rows * outputs, job.first_row * outputs..(rows - 1) * outputs),
        };
        let [matrix, input, before, gates] = [matrix, input, written, rows * outputs].map(|count| self.numbers(count));
        let (mut expected, scale) = (before.clone(), 0.75);
        let part = &mut expected[computed.clone()];
        match shader {
            Shader::LowRankA => {
                reference::product(&matrix, columns, &input[job.first_row * columns..], Epilogue::Store, part);
                part.iter_mut().for_each(|number| *number *= scale);
            }
            Shader::LowRankB(epilogue) => {
                if epilogue != Epilogue::Add {
                    part.copy_from_slice(&gates[computed]);
                }
                reference::product(&matrix, rank, &input, epilogue, part);
            }
            _ => part.iter_mut().zip(&input[computed]).for_each(|(number, stored)| *number += stored),
        }
        let [matrix, gates, from, to] = [self.floats(&matrix)?, self.floats(&gates)?, self.floats(&input)?, self.floats(&before)?];
        let shape = adapters::shape(self.context, columns, rank, outputs, scale)?;
        let across = if shader == Shader::LowRankA { rank } else { outputs.div_ceil(64) };
        let runs = [(shader, &[&matrix, &gates, &from, &to, &shape][..], [across, job.rows, 1])];
        let result = self.dispatch(&job, &runs, &to, 4 * before.len()).await?;
        Ok(difference(&floats_of(&result), &expected))
    }

    async fn embed(&mut self, shader: Shader, format: Format) -> Result<f32> {
        let (matrix, numbers) = self.matrix(format)?;
        let tokens: Vec<u32> = (0..1 + self.below(9)).map(|_| self.below(matrix.rows) as u32).collect();
        let from = self.buffer(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>())?;
        let to = self.floats(&vec![0.0; tokens.len() * matrix.columns])?;
        let buffers: Vec<_> = matrix.parts.iter().map(|part| [&part.buffer, &part.buffer, &from, &to, &part.shape]).collect();
        let workgroups = [matrix.columns.div_ceil(32 * 64), tokens.len(), 1];
        let runs: Vec<_> = buffers.iter().map(|buffers| (shader, &buffers[..], workgroups)).collect();
        let result = self.dispatch(&Job::default(), &runs, &to, 4 * tokens.len() * matrix.columns).await?;
        let rows = tokens.iter().map(|token| &numbers[*token as usize * matrix.columns..][..matrix.columns]);
        let expected: Vec<f32> = rows.flatten().map(|number| number * self.sizes.embedding_scale).collect();
        Ok(difference(&floats_of(&result), &expected))
    }

    async fn part_norm(&mut self) -> Result<f32> {
        let (width, parts, rows) = (self.sizes.head_width * (1 + self.below(9)), 1 + self.below(5), 1 + self.below(3));
        let (input, scales) = (self.numbers(rows * parts * width), self.numbers(width));
        let expected: Vec<f32> = input.chunks_exact(width).flat_map(|part| reference::norm(part, &scales, self.sizes.epsilon)).collect();
        let (norm, values) = (self.floats(&scales)?, self.floats(&input)?);
        let runs = [(Shader::PartNorm, &[&norm, &values][..], [parts, rows, 1])];
        let result = self.dispatch(&Job::default(), &runs, &values, 4 * input.len()).await?;
        Ok(difference(&floats_of(&result), &expected))
    }

    async fn bias(&mut self) -> Result<f32> {
        let (width, rows) = (4 * (1 + self.below(300)), 1 + self.below(3));
        let (input, bias) = (self.numbers(rows * width), self.numbers(width));
        let expected: Vec<f32> = input.chunks_exact(width).flat_map(|row| row.iter().zip(&bias).map(|(a, b)| a + b)).collect();
        let (vector, values) = (self.floats(&bias)?, self.floats(&input)?);
        let runs = [(Shader::Bias, &[&vector, &values][..], [(width / 4).div_ceil(64), rows, 1])];
        let result = self.dispatch(&Job::default(), &runs, &values, 4 * input.len()).await?;
        Ok(difference(&floats_of(&result), &expected))
    }

    async fn norm(&mut self, shader: Shader) -> Result<f32> {
        let width = self.sizes.width;
        let rows = 1 + self.below(3);
        let job = Job { input_row: self.below(3), output_row: self.below(3), ..Job::default() };
        let (input, before, scales) = (self.numbers((rows + 2) * width), self.numbers((rows + 2) * width), self.numbers(width));
        let normed = input[job.input_row * width..][..rows * width]
            .chunks_exact(width)
            .flat_map(|row| reference::norm(row, &scales, self.sizes.epsilon));
        let expected: Vec<f32> = normed
            .zip(&before[job.output_row * width..])
            .map(|(normed, before)| if shader == Shader::NormAdd { before + normed } else { normed })
            .collect();
        let (from, norm, to) = (self.floats(&input)?, self.floats(&scales)?, self.floats(&before)?);
        let runs = [(shader, &[&from, &norm, &to][..], [rows, 1, 1])];
        let result = floats_of(&self.dispatch(&job, &runs, &to, 4 * (rows + 2) * width).await?);
        Ok(difference(&result[job.output_row * width..][..rows * width], &expected))
    }

    async fn rope(&mut self) -> Result<f32> {
        let sizes = self.sizes.clone();
        let (query_width, kv_width) = (sizes.heads * sizes.head_width, sizes.kv_heads * sizes.head_width);
        let job =
            Job { rows: 1 + self.below(3), first_row: self.below(3), start: self.below(5), values: 8 * kv_width / 4, ..Job::default() };
        let all = job.first_row + job.rows;
        let (mut query, mut key, value) = (self.numbers(all * query_width), self.numbers(all * kv_width), self.numbers(all * kv_width));
        let angles: Vec<f32> = self.numbers(all * sizes.rope_width / 2).iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        let buffers = [self.floats(&query)?, self.floats(&key)?, self.floats(&value)?, self.floats(&angles)?];
        let cache = self.buffer(&vec![0; 2 * 8 * kv_width * 2])?;
        let [q, k, v, a] = &buffers;
        let run = (Shader::Rope, &[q, k, v, a, &cache][..], [(query_width + 2 * kv_width).div_ceil(128), job.rows, 1]);
        let in_cache = self.dispatch(&job, &[run], &cache, 2 * 8 * kv_width * 2).await?;
        let mut cached = vec![0.0; 2 * 8 * kv_width];
        for row in job.first_row..all {
            let angles = &angles[row * sizes.rope_width..(row + 1) * sizes.rope_width];
            let query = &mut query[row * query_width..(row + 1) * query_width];
            reference::rope(query, &sizes, angles);
            let position = job.start + row - job.first_row;
            let temperature = sizes.temperature.map_or(1.0, |temperature| temperature.at(position));
            query.iter_mut().for_each(|number| *number *= temperature);
            let columns = row * kv_width..(row + 1) * kv_width;
            reference::rope(&mut key[columns.clone()], &sizes, angles);
            let at = position * kv_width;
            cached[at..at + kv_width].copy_from_slice(&key[columns.clone()]);
            cached[8 * kv_width + at..][..kv_width].copy_from_slice(&value[columns]);
        }
        let halves: Vec<f32> = in_cache.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect();
        // The run above rotated the queries in place; dispatching nothing reads them back.
        let turned = floats_of(&self.dispatch(&job, &[], q, 4 * query.len()).await?);
        Ok(difference(&halves, &cached).max(difference(&turned, &query)))
    }

    async fn attention(&mut self, shader: Shader, rows_at_once: usize) -> Result<f32> {
        let Shader::Attention { shared, .. } = shader else { return Ok(f32::NAN) };
        let sizes = self.sizes.clone();
        let (query_width, kv_width) = (sizes.heads * sizes.head_width, sizes.kv_heads * sizes.head_width);
        let (rows, start) = (1 + self.below(if rows_at_once > 1 { 20 } else { 3 }), self.below(200));
        let length = start + rows;
        let capacity = length + self.below(10);
        let (query, keys, values) =
            (self.numbers((rows + 1) * query_width), self.numbers(capacity * kv_width), self.numbers(capacity * kv_width));
        let halves =
            |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|number| half::f16::from_f32(*number).to_le_bytes()).collect() };
        let cache = self.buffer(&[halves(&keys), halves(&values)].concat())?;
        let window = if self.below(2) == 0 { u32::MAX } else { 1 + self.below(length) as u32 };
        let oldest = (start + 1).saturating_sub(window as usize);
        let begin = if self.below(2) == 0 { 0 } else { oldest / TILE * TILE };
        let split_length = if self.below(2) == 0 { length } else { length.div_ceil(MAX_SPLITS).next_multiple_of(TILE) };
        let splits = (length - begin).div_ceil(split_length);
        let values_at = capacity * kv_width / 4;
        let job = Job { rows, first_row: 1, start, values: values_at, splits, split_length, begin, window, ..Job::default() };
        let partials = self.floats(&vec![0.0; rows * sizes.heads * splits * (sizes.head_width + 4)])?;
        let (from, to) = (self.floats(&query)?, self.floats(&vec![0.0; query.len()])?);
        let portions = (sizes.heads / sizes.kv_heads).div_ceil(shared);
        let (buffers, pair) = ([&from, &cache, &to, &partials], [&partials, &to]);
        let mut runs = vec![(shader, &buffers[..], [splits, sizes.kv_heads * portions, rows.div_ceil(rows_at_once)])];
        if splits > 1 {
            runs.push((Shader::Combine, &pair[..], [sizes.heads, rows, 1]));
        }
        let result = floats_of(&self.dispatch(&job, &runs, &to, 4 * query.len()).await?);
        let (keys, values) = (reference::through_f16(&keys), reference::through_f16(&values));
        let expected: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let end = start + row + 1;
                let seen = end.saturating_sub(window as usize) * kv_width..end * kv_width;
                reference::attention(&query[(row + 1) * query_width..][..query_width], &keys[seen.clone()], &values[seen], &sizes)
            })
            .collect();
        Ok(difference(&result[query_width..], &expected))
    }

    /// Runs all passes from the logits on, until one segment is left. Logits for `ReductionPass::First` fit into one segment, so that
    /// there is one pass; for `Further` there may be more.
    async fn candidates(&mut self, shader: Shader, pass: ReductionPass, wanted: usize) -> Result<f32> {
        let rows = 1 + self.below(3);
        let count = match pass {
            ReductionPass::First => 1 + self.below(SEGMENT),
            ReductionPass::Further => 1 + self.below(9 * SEGMENT),
        };
        let mut logits = self.numbers(rows * count);
        for _ in 0..count / 20 {
            // Some equal logits and some that are not finite.
            let (a, b) = (self.below(logits.len()), self.below(logits.len()));
            logits[a] = [logits[b], f32::NAN, f32::INFINITY, f32::NEG_INFINITY][self.below(4)];
        }
        let (first, further) = match shader {
            Shader::ArgMax(_) => (Shader::ArgMax(ReductionPass::First), Shader::ArgMax(ReductionPass::Further)),
            _ => (Shader::TopK(ReductionPass::First), Shader::TopK(ReductionPass::Further)),
        };
        let mut input = self.floats(&logits)?;
        let (mut left, mut kind) = (count, first);
        let keys = loop {
            let segments = left.div_ceil(SEGMENT);
            let bytes = rows * segments * wanted * 8;
            let output = self.buffer(&vec![0; bytes])?;
            let job = Job { count: left, wanted, ..Job::default() };
            let result = self.dispatch(&job, &[(kind, &[&input, &output][..], [segments, rows, 1])], &output, bytes).await?;
            (left, kind, input) = (segments * wanted, further, output);
            if segments == 1 {
                break result;
            }
        };
        let same = logits.chunks_exact(count).zip(keys.chunks_exact(8 * wanted)).all(|(logits, keys)| {
            let words: Vec<u32> = keys.as_chunks::<4>().0.iter().copied().map(u32::from_le_bytes).collect();
            let found = words.as_chunks::<2>().0.iter().filter_map(|[key, id]| Some((*id, logit_of(*key)?)));
            found.collect::<Vec<_>>() == reference::candidates(logits, wanted)
        });
        Ok(if same { 0.0 } else { f32::INFINITY })
    }
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()
}

/// The largest absolute difference; NaN if there is a NaN.
fn absolute(ours: &[f32], expected: &[f32]) -> f32 {
    let differences = ours.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |largest: f32, one| if one <= largest || largest.is_nan() { largest } else { one })
}

/// Like `absolute`, but relative to the largest expected number.
fn difference(ours: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().map(|number| number.abs()).fold(f32::MIN_POSITIVE, f32::max);
    absolute(ours, expected) / largest
}

#[cfg(test)]
mod tests {
    use super::super::context::{Choice, Variant};
    use super::super::layout;
    use super::super::shaders::{Compilation, ProductStrategy};
    use super::*;
    use crate::model::architecture::Temperature;
    use kernels::ops::Activation;

    /// A context on an adapter of this machine. Panics with what to install if there is none.
    fn context(choice: Choice) -> Context {
        let choice = Choice { software: true, named: std::env::var("WORKERS_AI_LOCAL_ADAPTER").ok(), ..choice };
        pollster::block_on(Context::request(&choice)).unwrap_or_else(|error| {
            panic!(
                "these tests need a Vulkan adapter ({error}): install one (Debian: mesa-vulkan-drivers), or point VK_DRIVER_FILES to \
                 Chromium's vk_swiftshader_icd.json"
            )
        })
    }

    fn sizes(heads: usize, kv_heads: usize, head_width: usize) -> Sizes {
        Sizes {
            width: 576,
            heads,
            kv_heads,
            head_width,
            rope_width: head_width,
            epsilon: 1e-5,
            embedding_scale: 3.0,
            score_divisor: (head_width as f32).sqrt(),
            score_softcap: (heads == kv_heads).then_some(2.0),
            temperature: (heads == kv_heads).then_some(Temperature { length: 2, scale: 0.3 }),
        }
    }

    async fn compile(context: &Context, sizes: &Sizes, shaders: &[Shader]) -> Pipelines {
        Compilation::start(context, sizes, shaders).await.finish(context, &|_, _| ()).await.expect("pipelines")
    }

    /// Checks all shaders with `rounds` different seeds.
    fn compare(context: &Context, sizes: &Sizes, shaders: &[Shader], rounds: u64) {
        pollster::block_on(async {
            let pipelines = compile(context, sizes, shaders).await;
            let mut worst: std::collections::BTreeMap<String, f32> = Default::default();
            for seed in 0..rounds {
                for comparison in check_shaders(context, &pipelines, sizes, shaders, seed, &|_, _| ()).await.expect("results") {
                    assert!(comparison.agrees(), "seed {seed}: {comparison:?} on {}", context.name);
                    let worst = worst.entry(comparison.shader).or_default();
                    *worst = worst.max(comparison.difference);
                }
            }
            let (shader, worst) = worst.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("a shader");
            let Context { name, f16, subgroups, .. } = context;
            println!("{name}, f16 {f16}, subgroups {subgroups}: {} shaders, {worst:e} at most ({shader})", shaders.len());
        });
    }

    /// Runs `test` without f16 and subgroups, without each of these that the adapter has, and with every fast path of the adapter.
    fn every_variant(choice: &Choice, test: impl Fn(&Context)) {
        let full = context(choice.clone());
        test(&context(Choice { without: vec![Variant::F16, Variant::Subgroups], ..choice.clone() }));
        for (has, variant) in [(full.f16, Variant::F16), (full.subgroups, Variant::Subgroups)] {
            match has {
                true => test(&context(Choice { without: vec![variant], ..choice.clone() })),
                false => println!("{} has no {variant:?}: not tested", full.name),
            }
        }
        test(&full);
    }

    /// Every strategy with one epilogue. Which one differs from format to format, so that all formats together have every pair.
    fn products(format: Format) -> impl Iterator<Item = Shader> {
        let first = Format::ALL.iter().position(|other| *other == format).unwrap_or_default();
        let packed = format.is_quantised();
        let strategies = [
            ProductStrategy::Vector { threads: 1, packed: false },
            ProductStrategy::Vector { threads: 32, packed: false },
            ProductStrategy::Vector { threads: 64, packed: false },
            ProductStrategy::Vector { threads: 32, packed },
            ProductStrategy::Tiles { tokens: 1 },
            ProductStrategy::Tiles { tokens: 4 },
        ];
        let epilogues = [Epilogue::Store, Epilogue::Add, Epilogue::Gate(Activation::Silu), Epilogue::Gate(Activation::Gelu)];
        strategies.into_iter().zip(epilogues.into_iter().cycle().skip(first)).map(move |(strategy, epilogue)| Shader::Product {
            format,
            strategy,
            epilogue,
        })
    }

    #[test]
    fn a_result_that_is_not_a_number_never_agrees() {
        for place in 0..3 {
            let mut ours = [1.0; 3];
            ours[place] = f32::NAN;
            assert!(absolute(&ours, &[1.0; 3]).is_nan());
            assert!(difference(&ours, &[1.0; 3]).is_nan());
        }
    }

    #[test]
    fn products_of_every_format_agree_with_the_reference() {
        every_variant(&Choice::default(), |context| {
            for format in layout::formats() {
                let shaders: Vec<Shader> = products(format).chain([Shader::Embed(format)]).collect();
                compare(context, &sizes(9, 3, 64), &shaders, 6);
            }
        });
    }

    #[test]
    fn matrices_of_several_buffers_agree_with_the_reference() {
        // The smallest limit that `Context::request` accepts would hold every random matrix in one buffer, so the limit is set afterwards.
        let mut context = context(Choice::default());
        context.max_binding = 40_000;
        let shaders: Vec<Shader> = [Format::Q4_0, Format::Q6K, Format::F16]
            .into_iter()
            .flat_map(|format| products(format).chain([Shader::Embed(format)]))
            .collect();
        compare_small(&context, &shaders);
    }

    /// Like `compare`, but skips rounds whose buffers of activations exceed the limit.
    fn compare_small(context: &Context, shaders: &[Shader]) {
        let sizes = sizes(9, 3, 64);
        pollster::block_on(async {
            let pipelines = compile(context, &sizes, shaders).await;
            // Matrices of several buffers, and products with one that were compared.
            let (mut several, mut compared) = (0, 0);
            for seed in 0..12 {
                let mut check = Check { context, pipelines: &pipelines, sizes: &sizes, rng: Pcg64Mcg::seed_from_u64(seed) };
                for shader in shaders {
                    let (Shader::Embed(format) | Shader::Product { format, .. }) = *shader else { continue };
                    let before = check.rng.clone();
                    let split = check.matrix(format).expect("a matrix").0.parts.len() > 1;
                    several += usize::from(split);
                    check.rng = before;
                    match check.run(*shader).await {
                        Ok((difference, allowed)) => {
                            assert!(difference <= allowed, "seed {seed}: {shader:?} differs by {difference}");
                            compared += usize::from(split && matches!(shader, Shader::Product { .. }));
                        }
                        // Activations of many rows exceed the limit.
                        Err(error) => assert!(error.text.contains("in one buffer; a check needs"), "{error}"),
                    }
                }
            }
            assert!(several > 20, "only {several} matrices were split");
            assert!(compared > 5, "only {compared} products with split matrices were compared");
        });
    }

    #[test]
    fn norm_rope_and_attention_agree_with_the_reference() {
        every_variant(&Choice::default(), |context| {
            for (heads, kv_heads, head_width) in [(9, 3, 64), (8, 1, 128), (4, 4, 32), (2, 1, 256), (7, 1, 80), (24, 2, 96)] {
                let sizes = sizes(heads, kv_heads, head_width);
                let attention = [1, 4].map(|rows| super::super::forward::attention(&sizes, rows));
                let norms = [Shader::Norm, Shader::NormAdd, Shader::PartNorm];
                let shaders = [&norms[..], &[Shader::Bias, Shader::Rope, Shader::Combine], &attention[..]].concat();
                compare(context, &sizes, &shaders, 12);
            }
        });
    }

    #[test]
    fn the_largest_logits_agree_with_the_reference() {
        let shaders = [
            Shader::ArgMax(ReductionPass::First),
            Shader::ArgMax(ReductionPass::Further),
            Shader::TopK(ReductionPass::First),
            Shader::TopK(ReductionPass::Further),
        ];
        compare(&context(Choice::default()), &sizes(9, 3, 64), &shaders, 20);
    }

    #[test]
    fn the_products_of_adapters_agree_with_the_reference() {
        let gates = [Activation::Silu, Activation::Gelu].map(|activation| Shader::LowRankB(Epilogue::Gate(activation)));
        let shaders = [&[Shader::LowRankA, Shader::LowRankB(Epilogue::Add), Shader::LowRankAdd][..], &gates].concat();
        every_variant(&Choice::default(), |context| compare(context, &sizes(9, 3, 64), &shaders, 12));
        every_variant(&Choice { as_hardware: true, ..Choice::default() }, |context| compare(context, &sizes(9, 3, 64), &shaders, 12));
    }

    #[test]
    fn a_missing_or_insufficient_adapter_is_an_error_that_says_why() {
        let request = |choice| pollster::block_on(Context::request(&choice)).err().map(|error| error.text);
        let missing = request(Choice { named: Some("no such adapter".into()), ..Choice::default() }).expect("an error");
        assert!(missing.contains("no adapter named 'no such adapter'") || missing.contains("no WebGPU adapter named"), "{missing}");
        let small = request(Choice { max_binding: Some(1000), software: true, ..Choice::default() }).expect("an error");
        assert!(small.contains("1000 bytes in a storage binding; 1048576 are needed"), "{small}");
    }

    #[test]
    fn a_lost_device_is_an_error() {
        let context = context(Choice::default());
        let buffer = context.create_buffer("a test", 64, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST).expect("a buffer");
        context.device.destroy();
        let _ = context.device.poll(wgpu::PollType::wait_indefinitely());
        assert!(context.is_lost());
        assert!(pollster::block_on(context.read(&buffer, 64)).is_err());
    }
}
