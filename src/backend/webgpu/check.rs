//! Holds the kernels to their plain twins, on the adapter that is there: in tests over many shapes, and before a model is used.

use super::context::Context;
use super::forward::{Job, MAX_SPLITS, SEGMENT, TILE, logit_of};
use super::layout::planes;
use super::plain;
use super::shaders::{Ending, JOB_BYTES, Kernel, Pipelines, Round, Sizes};
use super::weights::{Filling, Matrix};
use crate::error::Result;
use kernels::Format;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// What one kernel gave on random numbers.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub kernel: String,
    /// The largest difference from the twin, as a part of the largest number.
    pub difference: f32,
    pub allowed: f32,
}

impl Comparison {
    pub fn agrees(&self) -> bool {
        // NaN agrees with nothing.
        self.difference <= self.allowed
    }
}

/// Runs every kernel once on small random inputs. `progress` is told how many were run, and of how many.
pub async fn check_kernels(
    context: &Context,
    pipelines: &Pipelines,
    sizes: &Sizes,
    kernels: &[Kernel],
    seed: u64,
    progress: &dyn Fn(usize, usize),
) -> Result<Vec<Comparison>> {
    let mut check = Check { context, pipelines, sizes, rng: Pcg64Mcg::seed_from_u64(seed) };
    let mut comparisons = Vec::new();
    for kernel in kernels {
        let (difference, allowed) = check.run(*kernel).await?;
        comparisons.push(Comparison { kernel: format!("{kernel:?}"), difference, allowed });
        progress(comparisons.len(), kernels.len());
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
    /// The difference from the twin, and what is allowed.
    async fn run(&mut self, kernel: Kernel) -> Result<(f32, f32)> {
        Ok(match kernel {
            Kernel::Embed(format) => (self.embed(kernel, format).await?, 1e-6),
            // Activations are rounded to 15 bits.
            Kernel::Product { format, ending, .. } if kernel.is_packed() => (self.product(kernel, format, ending).await?, 1e-4),
            Kernel::Product { format, ending, .. } => (self.product(kernel, format, ending).await?, 2e-5),
            Kernel::Norm => (self.norm().await?, 1e-5),
            // Rounding to f16 may go either way.
            Kernel::Rope => (self.rope().await?, 1e-3),
            Kernel::Attention { rows, .. } => (self.attention(kernel, rows).await?, 1e-5),
            // Checked with attention.
            Kernel::Combine => (0.0, 0.0),
            Kernel::ArgMax(round) => (self.candidates(kernel, round, 1).await?, 0.0),
            Kernel::TopK(round) => {
                let wanted = 2 + self.below(255);
                (self.candidates(kernel, round, wanted).await?, 0.0)
            }
        })
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 4.0).collect()
    }

    /// The bytes that a file would have: any codes, and scales that are finite; sometimes all of them so small that their f16 is subnormal, as
    /// K-quants have them.
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
            for half in block[first..first + 2 * format.halves()].as_chunks_mut::<2>().0 {
                half[1] &= kept;
            }
        }
        bytes
    }

    /// A random matrix on the GPU, and its numbers. Its bytes come in pieces, as from a file.
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
        Ok((filling.finish()?, plain::dequantise(format, rows, columns, &bytes)?))
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

    /// Runs kernels with one job, one after the other, and gives the first `bytes` of a buffer afterwards.
    async fn dispatch(
        &self,
        job: &Job,
        runs: &[(Kernel, &[&wgpu::Buffer], [usize; 3])],
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
        for (kernel, buffers, workgroups) in runs {
            let group = pipelines.bind(context, kernel.bindings(), buffers)?;
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(pipelines.get(*kernel)?);
            pass.set_bind_group(0, &job_group, &[0]);
            pass.set_bind_group(1, &group, &[]);
            let [x, y, z] = workgroups.map(|count| count as u32);
            pass.dispatch_workgroups(x, y, z);
        }
        encoder.copy_buffer_to_buffer(result, 0, &readback, 0, bytes as u64);
        context.submit(encoder.finish());
        context.read(&readback, bytes as u64).await
    }

    async fn product(&mut self, kernel: Kernel, format: Format, ending: Ending) -> Result<f32> {
        let Kernel::Product { way, .. } = kernel else { return Ok(f32::NAN) };
        let (matrix, numbers) = self.matrix(format)?;
        let rows = 1 + self.below(70);
        let input = self.numbers(rows * matrix.columns);
        let mut expected = self.numbers(rows * matrix.rows);
        let (from, to) = (self.floats(&input)?, self.floats(&expected)?);
        let job = Job { rows, ..Job::default() };
        let buffers: Vec<_> = matrix.parts.iter().map(|part| [&part.buffer, &part.buffer, &from, &to, &part.shape]).collect();
        let runs: Vec<_> =
            matrix.parts.iter().zip(&buffers).map(|(part, buffers)| (kernel, &buffers[..], way.workgroups(part.rows, rows))).collect();
        let result = self.dispatch(&job, &runs, &to, 4 * expected.len()).await?;
        plain::product(&numbers, matrix.columns, &input, ending, &mut expected);
        // As a part of what was added up: sums of either sign may be small.
        let scale = numbers.iter().map(|number| number.abs()).fold(0.0, f32::max) * (matrix.columns as f32).sqrt() * 4.0;
        Ok(difference(&floats_of(&result), &expected).min(absolute(&floats_of(&result), &expected) / scale))
    }

    async fn embed(&mut self, kernel: Kernel, format: Format) -> Result<f32> {
        let (matrix, numbers) = self.matrix(format)?;
        let tokens: Vec<u32> = (0..1 + self.below(9)).map(|_| self.below(matrix.rows) as u32).collect();
        let from = self.buffer(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>())?;
        let to = self.floats(&vec![0.0; tokens.len() * matrix.columns])?;
        let buffers: Vec<_> = matrix.parts.iter().map(|part| [&part.buffer, &part.buffer, &from, &to, &part.shape]).collect();
        let workgroups = [matrix.columns.div_ceil(32 * 64), tokens.len(), 1];
        let runs: Vec<_> = buffers.iter().map(|buffers| (kernel, &buffers[..], workgroups)).collect();
        let result = self.dispatch(&Job::default(), &runs, &to, 4 * tokens.len() * matrix.columns).await?;
        let rows = tokens.iter().map(|token| &numbers[*token as usize * matrix.columns..][..matrix.columns]);
        Ok(difference(&floats_of(&result), &rows.flatten().copied().collect::<Vec<f32>>()))
    }

    async fn norm(&mut self) -> Result<f32> {
        let width = self.sizes.width;
        let rows = 1 + self.below(3);
        let job = Job { input_row: self.below(3), output_row: self.below(3), ..Job::default() };
        let (input, scales) = (self.numbers((rows + 2) * width), self.numbers(width));
        let expected: Vec<f32> = input[job.input_row * width..][..rows * width]
            .chunks_exact(width)
            .flat_map(|row| plain::norm(row, &scales, self.sizes.epsilon))
            .collect();
        let (from, norm, to) = (self.floats(&input)?, self.floats(&scales)?, self.floats(&vec![0.0; (rows + 2) * width])?);
        let runs = [(Kernel::Norm, &[&from, &norm, &to][..], [rows, 1, 1])];
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
        let run = (Kernel::Rope, &[q, k, v, a, &cache][..], [(query_width + 2 * kv_width).div_ceil(128), job.rows, 1]);
        let in_cache = self.dispatch(&job, &[run], &cache, 2 * 8 * kv_width * 2).await?;
        let mut cached = vec![0.0; 2 * 8 * kv_width];
        for row in job.first_row..all {
            let angles = &angles[row * sizes.rope_width..(row + 1) * sizes.rope_width];
            plain::rope(&mut query[row * query_width..(row + 1) * query_width], &sizes, angles);
            let columns = row * kv_width..(row + 1) * kv_width;
            plain::rope(&mut key[columns.clone()], &sizes, angles);
            let at = (job.start + row - job.first_row) * kv_width;
            cached[at..at + kv_width].copy_from_slice(&key[columns.clone()]);
            cached[8 * kv_width + at..][..kv_width].copy_from_slice(&value[columns]);
        }
        let halves: Vec<f32> = in_cache.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect();
        // The first run turned the queries; a run over nothing reads them.
        let turned = floats_of(&self.dispatch(&job, &[], q, 4 * query.len()).await?);
        Ok(difference(&halves, &cached).max(difference(&turned, &query)))
    }

    async fn attention(&mut self, kernel: Kernel, rows_at_once: usize) -> Result<f32> {
        let Kernel::Attention { shared, .. } = kernel else { return Ok(f32::NAN) };
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
        let split_length = if self.below(2) == 0 { length } else { length.div_ceil(MAX_SPLITS).next_multiple_of(TILE) };
        let splits = length.div_ceil(split_length);
        let job = Job { rows, first_row: 1, start, values: capacity * kv_width / 4, splits, split_length, ..Job::default() };
        let partials = self.floats(&vec![0.0; rows * sizes.heads * splits * (sizes.head_width + 4)])?;
        let (from, to) = (self.floats(&query)?, self.floats(&vec![0.0; query.len()])?);
        let portions = (sizes.heads / sizes.kv_heads).div_ceil(shared);
        let (buffers, pair) = ([&from, &cache, &to, &partials], [&partials, &to]);
        let mut runs = vec![(kernel, &buffers[..], [splits, sizes.kv_heads * portions, rows.div_ceil(rows_at_once)])];
        if splits > 1 {
            runs.push((Kernel::Combine, &pair[..], [sizes.heads, rows, 1]));
        }
        let result = floats_of(&self.dispatch(&job, &runs, &to, 4 * query.len()).await?);
        let (keys, values) = (plain::through_f16(&keys), plain::through_f16(&values));
        let expected: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let seen = (start + row + 1) * kv_width;
                plain::attention(&query[(row + 1) * query_width..][..query_width], &keys[..seen], &values[..seen], &sizes)
            })
            .collect();
        Ok(difference(&result[query_width..], &expected))
    }

    /// All rounds from logits on for the first kind; for further rounds the last of them.
    async fn candidates(&mut self, kernel: Kernel, round: Round, wanted: usize) -> Result<f32> {
        let rows = 1 + self.below(3);
        let count = match round {
            Round::First => 1 + self.below(SEGMENT),
            Round::Further => 1 + self.below(9 * SEGMENT),
        };
        let mut logits = self.numbers(rows * count);
        for _ in 0..count / 20 {
            // Some that are equal, or no numbers.
            let (a, b) = (self.below(logits.len()), self.below(logits.len()));
            logits[a] = [logits[b], f32::NAN, f32::INFINITY, f32::NEG_INFINITY][self.below(4)];
        }
        let (first, further) = match kernel {
            Kernel::ArgMax(_) => (Kernel::ArgMax(Round::First), Kernel::ArgMax(Round::Further)),
            _ => (Kernel::TopK(Round::First), Kernel::TopK(Round::Further)),
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
            found.collect::<Vec<_>>() == plain::candidates(logits, wanted)
        });
        Ok(if same { 0.0 } else { f32::INFINITY })
    }
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()
}

/// The largest difference; NaN where one of them is NaN.
fn absolute(ours: &[f32], twins: &[f32]) -> f32 {
    ours.iter().zip(twins).map(|(a, b)| (a - b).abs()).fold(0.0, |largest, one| if one <= largest { largest } else { one })
}

/// The same as a part of the twin's largest number.
fn difference(ours: &[f32], twins: &[f32]) -> f32 {
    let largest = twins.iter().map(|number| number.abs()).fold(f32::MIN_POSITIVE, f32::max);
    absolute(ours, twins) / largest
}

#[cfg(test)]
mod tests {
    use super::super::context::{Choice, Variant};
    use super::super::layout;
    use super::super::shaders::{Compiling, Way};
    use super::*;

    /// An adapter of this machine, or what to install.
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
        Sizes { width: 576, heads, kv_heads, head_width, rope_width: head_width, epsilon: 1e-5 }
    }

    async fn compile(context: &Context, sizes: &Sizes, kernels: &[Kernel]) -> Pipelines {
        Compiling::begin(context, sizes, kernels).await.finish(context, &|_, _| ()).await.expect("pipelines")
    }

    fn compare(context: &Context, sizes: &Sizes, kernels: &[Kernel], rounds: u64) {
        pollster::block_on(async {
            let pipelines = compile(context, sizes, kernels).await;
            let mut worst: std::collections::BTreeMap<String, f32> = Default::default();
            for seed in 0..rounds {
                for comparison in check_kernels(context, &pipelines, sizes, kernels, seed, &|_, _| ()).await.expect("results") {
                    assert!(comparison.agrees(), "seed {seed}: {comparison:?} on {}", context.name);
                    let worst = worst.entry(comparison.kernel).or_default();
                    *worst = worst.max(comparison.difference);
                }
            }
            let (kernel, worst) = worst.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("a kernel");
            let Context { name, f16, subgroups, .. } = context;
            println!("{name}, f16 {f16}, subgroups {subgroups}: {} kernels, {worst:e} at most ({kernel})", kernels.len());
        });
    }

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

    fn products(format: Format) -> impl Iterator<Item = Kernel> {
        let packed = format.is_quantised();
        let ways = [
            Way::Vector { threads: 1, packed: false },
            Way::Vector { threads: 32, packed: false },
            Way::Vector { threads: 64, packed: false },
            Way::Vector { threads: 32, packed },
            Way::Tiles { tokens: 1 },
            Way::Tiles { tokens: 4 },
        ];
        let endings = [Ending::Store, Ending::Add, Ending::Gate];
        ways.into_iter().zip(endings.into_iter().cycle()).map(move |(way, ending)| Kernel::Product { format, way, ending })
    }

    #[test]
    fn products_of_every_format_agree_with_their_twin() {
        every_variant(&Choice::default(), |context| {
            for format in layout::formats() {
                let kernels: Vec<Kernel> = products(format).chain([Kernel::Embed(format)]).collect();
                compare(context, &sizes(9, 3, 64), &kernels, 6);
            }
        });
    }

    #[test]
    fn matrices_of_several_buffers_agree_with_their_twin() {
        // The least that a context takes would hold every random matrix, so the limit is set behind its back.
        let mut context = context(Choice::default());
        context.max_binding = 40_000;
        let kernels: Vec<Kernel> = [Format::Q4_0, Format::Q6K, Format::F16]
            .into_iter()
            .flat_map(|format| products(format).chain([Kernel::Embed(format)]))
            .collect();
        compare_small(&context, &kernels);
    }

    /// Only what is not larger than the limit itself.
    fn compare_small(context: &Context, kernels: &[Kernel]) {
        let sizes = sizes(9, 3, 64);
        pollster::block_on(async {
            let pipelines = compile(context, &sizes, kernels).await;
            let mut several = 0;
            for seed in 0..12 {
                let mut check = Check { context, pipelines: &pipelines, sizes: &sizes, rng: Pcg64Mcg::seed_from_u64(seed) };
                for kernel in kernels {
                    let (Kernel::Embed(format) | Kernel::Product { format, .. }) = *kernel else { continue };
                    let before = check.rng.clone();
                    several += usize::from(check.matrix(format).expect("a matrix").0.parts.len() > 1);
                    check.rng = before;
                    // Activations of many rows may be larger than the limit: such a round is left out.
                    if let Ok((difference, allowed)) = check.run(*kernel).await {
                        assert!(difference <= allowed, "seed {seed}: {kernel:?} differs by {difference}");
                    }
                }
            }
            assert!(several > 20, "only {several} matrices were split");
        });
    }

    #[test]
    fn what_stands_between_the_products_agrees_with_its_twin() {
        every_variant(&Choice::default(), |context| {
            for (heads, kv_heads, head_width) in [(9, 3, 64), (8, 1, 128), (4, 4, 32), (2, 1, 256), (7, 1, 80), (24, 2, 96)] {
                let sizes = sizes(heads, kv_heads, head_width);
                let attention = [1, 4].map(|rows| super::super::forward::attention(&sizes, rows));
                let kernels = [&[Kernel::Norm, Kernel::Rope, Kernel::Combine][..], &attention[..]].concat();
                compare(context, &sizes, &kernels, 12);
            }
        });
    }

    #[test]
    fn the_largest_logits_are_those_of_the_twin() {
        let kernels =
            [Kernel::ArgMax(Round::First), Kernel::ArgMax(Round::Further), Kernel::TopK(Round::First), Kernel::TopK(Round::Further)];
        compare(&context(Choice::default()), &sizes(9, 3, 64), &kernels, 20);
    }

    #[test]
    fn an_adapter_that_is_not_there_or_computes_on_the_cpu_is_said() {
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
