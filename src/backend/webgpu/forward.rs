//! Recording a forward pass: which kernels run over which buffers, for a chunk of rows.

use super::context::Context;
use super::kv_cache::KvCache;
use super::layout::UNIT;
use super::shaders::{Bindings, Ending, Kernel, Pipelines, Round, Sizes, Way};
use super::weights::{Matrix, MatrixKind, Weights};
use crate::backend::{Answer, MAX_CANDIDATES, Wanted};
use crate::error::{AiError, Result};
use crate::model::{Hyperparameters, Role};
use kernels::Format;

/// Sequences of a chunk whose logits are wanted.
pub const MAX_OUTPUTS: usize = 8;

/// Sequences of a chunk.
pub const MAX_SEGMENTS: usize = 64;

/// Rows of a sequence from which on they are computed in tiles.
const LEAST_TILED_ROWS: usize = 4;

/// Parts that the positions of one sequence are split into, and positions of a part at least.
pub const MAX_SPLITS: usize = 32;
pub const TILE: usize = 64;

/// Logits that one workgroup looks at (`ordered.wgsl`).
pub const SEGMENT: usize = 1024;

/// Rows of one sequence in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Which work of the batch.
    pub work: usize,
    pub first_row: usize,
    pub rows: usize,
    /// Position of the first row.
    pub start: usize,
    /// What is wanted after the last row, if that ends the work.
    pub wanted: Wanted,
}

/// `Job` of `job.wgsl`.
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
}

impl Job {
    /// As the uniform has it: `JOB_BYTES` bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { rows, first_row, start, values, splits, split_length, input_row, output_row, count, wanted } = *self;
        let numbers = [rows, first_row, start, values, splits, split_length, input_row, output_row, count, wanted, 0, 0];
        numbers.iter().flat_map(|number| (*number as u32).to_le_bytes()).collect()
    }
}

/// Activations of a chunk, `[rows, width of the thing]` each, and what is read and written at its ends. Made once.
pub struct Scratch {
    pub rows: usize,
    tokens: wgpu::Buffer,
    pub angles: wgpu::Buffer,
    jobs: wgpu::Buffer,
    job_group: wgpu::BindGroup,
    stream: wgpu::Buffer,
    normed: wgpu::Buffer,
    pub query: wgpu::Buffer,
    pub key: wgpu::Buffer,
    pub value: wgpu::Buffer,
    pub attended: wgpu::Buffer,
    pub partials: wgpu::Buffer,
    gate: wgpu::Buffer,
    last: wgpu::Buffer,
    logits: wgpu::Buffer,
    candidates: [wgpu::Buffer; 2],
    pub readback: wgpu::Buffer,
    combine: wgpu::BindGroup,
    /// Logits to the first candidates, and from each buffer of them to the other.
    choose: [wgpu::BindGroup; 3],
}

impl Scratch {
    pub fn new(context: &Context, pipelines: &Pipelines, p: &Hyperparameters, rows: usize) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let floats = |count: usize| context.create_buffer("computing a batch", 4 * count as u64, usage);
        let candidates = || floats(MAX_OUTPUTS * p.vocabulary.div_ceil(SEGMENT) * MAX_CANDIDATES * 2);
        let jobs = context.uniform_alignment * (MAX_SEGMENTS + MAX_OUTPUTS + 16) as u64;
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
            angles: floats(rows * p.rope_width)?,
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
            last: floats(MAX_OUTPUTS * p.width)?,
            logits,
            candidates: [a, b],
            readback: context.create_buffer("reading back", readback, Usage::MAP_READ | Usage::COPY_DST)?,
            combine,
            choose,
        })
    }
}

/// A matrix product with its bind groups.
struct Product {
    format: Format,
    columns: usize,
    ending: Ending,
    /// Per part: rows, and its bind group.
    parts: Vec<(usize, wgpu::BindGroup)>,
}

impl Product {
    fn new(
        context: &Context,
        pipelines: &Pipelines,
        matrix: &Matrix,
        ending: Ending,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<Self> {
        let parts = matrix
            .parts
            .iter()
            .map(|part| {
                let buffers = [&part.buffer, &part.buffer, input, output, &part.shape];
                Ok((part.rows, pipelines.bind(context, Bindings::Matrix, &buffers)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self { format: matrix.format, columns: matrix.columns, ending, parts })
    }

    /// Every kernel that this may be computed by.
    fn kernels(context: &Context, matrix: &MatrixKind, ending: Ending) -> impl Iterator<Item = Kernel> {
        let MatrixKind { format, columns, .. } = *matrix;
        let ways = [(1, false), (1, true), (LEAST_TILED_ROWS, false), (usize::MAX, false)];
        let ways = ways.into_iter().filter(move |(_, packed)| !packed || has_packed(context, format));
        ways.map(move |(rows, packed)| Kernel::Product { format, way: way(context, rows, columns, packed), ending })
    }
}

/// Whether weights of a format can be multiplied as bytes.
fn has_packed(context: &Context, format: Format) -> bool {
    context.packed_dot && format.is_quantised()
}

/// How a product with so many rows of activations is computed.
fn way(context: &Context, rows: usize, columns: usize, packed: bool) -> Way {
    match rows {
        _ if context.serial => Way::Vector { threads: 1, packed },
        0..LEAST_TILED_ROWS => Way::Vector { threads: if columns / UNIT >= 256 { 64 } else { 32 }, packed },
        4..=16 => Way::Tiles { tokens: 1 },
        _ => Way::Tiles { tokens: 4 },
    }
}

/// Attention's workgroups: rows, and query heads that share a KV head.
pub fn attention(sizes: &Sizes, rows: usize) -> Kernel {
    let queries = if sizes.head_width <= 128 { 16 } else { 8 };
    let shared = (sizes.heads / sizes.kv_heads).next_power_of_two().min(8);
    Kernel::Attention { rows: if rows < LEAST_TILED_ROWS { 1 } else { queries / shared }, shared }
}

struct LayerGroups {
    attention_norm: wgpu::BindGroup,
    query: Product,
    key: Product,
    value: Product,
    attention_output: Product,
    ffn_norm: wgpu::BindGroup,
    gate: Product,
    up: Product,
    down: Product,
}

/// Everything that stays the same from pass to pass.
pub struct Plan {
    /// Whether weights that can be multiplied as bytes are, where few rows are computed.
    pub packed: bool,
    sizes: Sizes,
    vocabulary: usize,
    embed: Vec<wgpu::BindGroup>,
    embed_kernel: Kernel,
    embed_units: usize,
    layers: Vec<LayerGroups>,
    output_norm: wgpu::BindGroup,
    output: Product,
}

/// Every kernel that a model with these matrices needs.
pub fn kernels(context: &Context, p: &Hyperparameters, matrices: impl Iterator<Item = MatrixKind>) -> Vec<Kernel> {
    let sizes = Sizes::from(p);
    let mut kernels = vec![Kernel::Norm, Kernel::Rope, attention(&sizes, 1), attention(&sizes, LEAST_TILED_ROWS), Kernel::Combine];
    for round in [Round::First, Round::Further] {
        kernels.extend([Kernel::ArgMax(round), Kernel::TopK(round)]);
    }
    let matrices: Vec<MatrixKind> = matrices.collect();
    let tied = !matrices.iter().any(|matrix| matrix.role == Role::Output);
    for matrix in &matrices {
        let ending = match matrix.role {
            Role::TokenEmbedding => {
                kernels.push(Kernel::Embed(matrix.format));
                if !tied {
                    continue;
                }
                Ending::Store
            }
            Role::AttentionOutput(_) | Role::Down(_) => Ending::Add,
            Role::Up(_) => Ending::Gate,
            _ => Ending::Store,
        };
        kernels.extend(Product::kernels(context, matrix, ending));
    }
    let mut seen = std::collections::HashSet::new();
    kernels.retain(|kernel| seen.insert(*kernel));
    kernels
}

impl Plan {
    pub fn new(context: &Context, pipelines: &Pipelines, p: &Hyperparameters, weights: &Weights, s: &Scratch) -> Result<Self> {
        let norm = |from, norm, to| pipelines.bind(context, Bindings::Norm, &[from, norm, to]);
        let product = |matrix, ending, input, output| Product::new(context, pipelines, matrix, ending, input, output);
        let layers = weights
            .layers
            .iter()
            .map(|layer| {
                Ok(LayerGroups {
                    attention_norm: norm(&s.stream, &layer.attention_norm, &s.normed)?,
                    query: product(&layer.query, Ending::Store, &s.normed, &s.query)?,
                    key: product(&layer.key, Ending::Store, &s.normed, &s.key)?,
                    value: product(&layer.value, Ending::Store, &s.normed, &s.value)?,
                    attention_output: product(&layer.attention_output, Ending::Add, &s.attended, &s.stream)?,
                    ffn_norm: norm(&s.stream, &layer.ffn_norm, &s.normed)?,
                    gate: product(&layer.gate, Ending::Store, &s.normed, &s.gate)?,
                    up: product(&layer.up, Ending::Gate, &s.normed, &s.gate)?,
                    down: product(&layer.down, Ending::Add, &s.gate, &s.stream)?,
                })
            })
            .collect::<Result<_>>()?;
        let embedding = &weights.token_embedding;
        let embed = product(embedding, Ending::Store, &s.tokens, &s.stream)?;
        Ok(Self {
            packed: false,
            sizes: Sizes::from(p),
            vocabulary: p.vocabulary,
            embed: embed.parts.into_iter().map(|(_, group)| group).collect(),
            embed_kernel: Kernel::Embed(embedding.format),
            embed_units: embedding.columns / UNIT,
            layers,
            output_norm: norm(&s.stream, &weights.output_norm, &s.last)?,
            output: product(weights.output.as_ref().unwrap_or(embedding), Ending::Store, &s.last, &s.logits)?,
        })
    }
}

/// Where the answers of a chunk stand in the buffer that is read back.
#[derive(Debug, Default)]
pub struct Layout {
    /// Per answer: its work, and how many numbers it is.
    places: Vec<(usize, Place)>,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Logits { at: usize, count: usize },
    Candidates { at: usize, count: usize },
}

impl Layout {
    /// The answers out of what was read back, each with its work.
    pub fn read<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (usize, Answer)> + 'a {
        let words = |at: usize, count: usize| bytes[at..at + 4 * count].as_chunks::<4>().0.iter().copied();
        self.places.iter().map(move |(work, place)| match *place {
            Place::Logits { at, count } => (*work, Answer::Logits(words(at, count).map(f32::from_le_bytes).collect())),
            Place::Candidates { at, count } => {
                let words: Vec<u32> = words(at, 2 * count).map(u32::from_le_bytes).collect();
                (*work, Answer::Candidates(words.as_chunks::<2>().0.iter().filter_map(|[key, id]| Some((*id, logit_of(*key)?))).collect()))
            }
        })
    }
}

/// The logit behind ordered bits (`ordered.wgsl`); `None` for what was no finite number, or not there at all.
pub fn logit_of(key: u32) -> Option<f32> {
    let bits = if key & 0x8000_0000 != 0 { key & 0x7fff_ffff } else { !key };
    (key > 1).then(|| f32::from_bits(bits))
}

/// Jobs of a chunk, and what goes through the encoder.
struct Recorder<'a> {
    context: &'a Context,
    pipelines: &'a Pipelines,
    scratch: &'a Scratch,
    pass: wgpu::ComputePass<'static>,
    jobs: Vec<u8>,
    dispatches: u64,
    packed: bool,
}

impl<'a> Recorder<'a> {
    fn begin(
        context: &'a Context,
        pipelines: &'a Pipelines,
        scratch: &'a Scratch,
        encoder: &mut wgpu::CommandEncoder,
        packed: bool,
    ) -> Self {
        let pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
        Self { context, pipelines, scratch, pass, jobs: Vec::new(), dispatches: 0, packed }
    }

    /// Puts a job into the buffer of jobs; gives its offset.
    fn job(&mut self, job: Job) -> u32 {
        let offset = self.jobs.len();
        self.jobs.extend(job.bytes());
        self.jobs.resize(offset + self.context.uniform_alignment as usize, 0);
        offset as u32
    }

    fn run(&mut self, kernel: Kernel, job: u32, group: &wgpu::BindGroup, workgroups: [usize; 3]) -> Result<()> {
        self.pass.set_pipeline(self.pipelines.get(kernel)?);
        self.pass.set_bind_group(0, &self.scratch.job_group, &[job]);
        self.pass.set_bind_group(1, group, &[]);
        let [x, y, z] = workgroups.map(|count| count as u32);
        self.pass.dispatch_workgroups(x, y, z);
        self.dispatches += 1;
        Ok(())
    }

    fn product(&mut self, product: &Product, job: u32, rows: usize) -> Result<()> {
        let way = way(self.context, rows, product.columns, self.packed && has_packed(self.context, product.format));
        let kernel = Kernel::Product { format: product.format, way, ending: product.ending };
        for (matrix_rows, group) in &product.parts {
            self.run(kernel, job, group, way.workgroups(*matrix_rows, rows))?;
        }
        Ok(())
    }
}

/// The commands of a chunk, ready for its tokens.
pub struct Recorded {
    commands: wgpu::CommandBuffer,
    jobs: Vec<u8>,
    layout: Layout,
    dispatches: u64,
}

impl Recorded {
    /// Lets the GPU compute these tokens, with cosine and sine of every row's pairs. Gives what is to be read back.
    pub fn submit(self, context: &Context, scratch: &Scratch, tokens: &[u32], angles: &[f32]) -> Layout {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        context.upload(&scratch.tokens, 0, &bytes);
        let bytes: Vec<u8> = angles.iter().flat_map(|angle| angle.to_le_bytes()).collect();
        context.upload(&scratch.angles, 0, &bytes);
        context.upload(&scratch.jobs, 0, &self.jobs);
        context.submit(self.commands);
        context.count(|counters| counters.dispatches += self.dispatches);
        self.layout
    }
}

impl Plan {
    /// Records a chunk of these rows, each sequence's with its cache.
    pub fn record(
        &self,
        context: &Context,
        pipelines: &Pipelines,
        p: &Hyperparameters,
        scratch: &Scratch,
        chunk: &[(Segment, &KvCache)],
    ) -> Result<Recorded> {
        let rows = chunk.iter().map(|(segment, _)| segment.rows).sum();
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut recorder = Recorder::begin(context, pipelines, scratch, &mut encoder, self.packed);
        let whole = recorder.job(Job { rows, ..Job::default() });

        for group in &self.embed {
            recorder.run(self.embed_kernel, whole, group, [self.embed_units.div_ceil(64), rows, 1])?;
        }
        let mut segments = Vec::new();
        for (segment, cache) in chunk {
            let length = segment.start + segment.rows;
            let split_length = match segment.rows {
                0..LEAST_TILED_ROWS => length.div_ceil(MAX_SPLITS).next_multiple_of(TILE),
                _ => length,
            };
            let splits = length.div_ceil(split_length);
            let job = recorder.job(Job {
                rows: segment.rows,
                first_row: segment.first_row,
                start: segment.start,
                values: cache.values_offset(p),
                splits,
                split_length,
                ..Job::default()
            });
            segments.push((segment, cache, job, splits));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            recorder.run(Kernel::Norm, whole, &layer.attention_norm, [rows, 1, 1])?;
            recorder.product(&layer.query, whole, rows)?;
            recorder.product(&layer.key, whole, rows)?;
            recorder.product(&layer.value, whole, rows)?;
            for (segment, cache, job, splits) in &segments {
                let Some(cache) = cache.layer(index) else { continue };
                let pairs = (p.query_width() + 2 * p.kv_width()) / 2;
                recorder.run(Kernel::Rope, *job, &cache.rope, [pairs.div_ceil(64), segment.rows, 1])?;
                let kernel = attention(&self.sizes, segment.rows);
                let Kernel::Attention { rows: rows_at_once, shared } = kernel else { continue };
                let portions = (p.heads / p.kv_heads).div_ceil(shared);
                let workgroups = [*splits, p.kv_heads * portions, segment.rows.div_ceil(rows_at_once)];
                recorder.run(kernel, *job, &cache.attention, workgroups)?;
                if *splits > 1 {
                    recorder.run(Kernel::Combine, *job, &scratch.combine, [p.heads, segment.rows, 1])?;
                }
            }
            recorder.product(&layer.attention_output, whole, rows)?;
            recorder.run(Kernel::Norm, whole, &layer.ffn_norm, [rows, 1, 1])?;
            recorder.product(&layer.gate, whole, rows)?;
            recorder.product(&layer.up, whole, rows)?;
            recorder.product(&layer.down, whole, rows)?;
        }

        let outputs: Vec<&Segment> = chunk.iter().map(|(segment, _)| segment).filter(|segment| segment.wanted != Wanted::Nothing).collect();
        let mut found = None;
        if !outputs.is_empty() {
            for (output_row, segment) in outputs.iter().enumerate() {
                let input_row = segment.first_row + segment.rows - 1;
                let job = recorder.job(Job { input_row, output_row, ..Job::default() });
                recorder.run(Kernel::Norm, job, &self.output_norm, [1, 1, 1])?;
            }
            let job = recorder.job(Job { rows: outputs.len(), ..Job::default() });
            recorder.product(&self.output, job, outputs.len())?;
            found = self.choose(&mut recorder, &outputs)?;
        }
        let Recorder { pass, jobs, dispatches, .. } = recorder;
        drop(pass);

        let mut layout = Layout::default();
        for (row, segment) in outputs.iter().enumerate() {
            let at = layout.bytes as usize;
            let (from, offset, size, place) = match (segment.wanted, found) {
                (Wanted::Candidates(count), Some((buffer, kept))) => {
                    let count = count.min(kept);
                    (&scratch.candidates[buffer], row * kept * 8, count * 8, Place::Candidates { at, count })
                }
                _ => (&scratch.logits, row * self.vocabulary * 4, self.vocabulary * 4, Place::Logits { at, count: self.vocabulary }),
            };
            encoder.copy_buffer_to_buffer(from, offset as u64, &scratch.readback, layout.bytes, size as u64);
            layout.places.push((segment.work, place));
            layout.bytes += size as u64;
        }
        if jobs.len() as u64 > scratch.jobs.size() {
            return Err(AiError::invalid_data("A batch has more parts than the GPU has room for."));
        }
        Ok(Recorded { commands: encoder.finish(), jobs, layout, dispatches })
    }

    /// Whether some products can be computed with packed weights.
    pub fn can_pack(&self, context: &Context) -> bool {
        self.layers.iter().any(|layer| has_packed(context, layer.gate.format))
    }

    /// Records one product of every layer for one row, so many times: what decoding mostly is, to be timed. Eight bytes are to be read back.
    pub fn record_products(
        &self,
        context: &Context,
        pipelines: &Pipelines,
        scratch: &Scratch,
        packed: bool,
        times: usize,
    ) -> Result<Recorded> {
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut recorder = Recorder::begin(context, pipelines, scratch, &mut encoder, packed);
        let job = recorder.job(Job { rows: 1, ..Job::default() });
        for _ in 0..times {
            self.layers.iter().try_for_each(|layer| recorder.product(&layer.gate, job, 1))?;
        }
        let Recorder { pass, jobs, dispatches, .. } = recorder;
        drop(pass);
        encoder.copy_buffer_to_buffer(&scratch.gate, 0, &scratch.readback, 0, 8);
        Ok(Recorded { commands: encoder.finish(), jobs, layout: Layout { places: Vec::new(), bytes: 8 }, dispatches })
    }

    /// Finds the largest logits of every output, round by round, if any are wanted. Gives the buffer that they end up in and how many they are.
    fn choose(&self, recorder: &mut Recorder, outputs: &[&Segment]) -> Result<Option<(usize, usize)>> {
        let wanted = outputs.iter().filter_map(|segment| match segment.wanted {
            Wanted::Candidates(count) => Some(count.clamp(1, MAX_CANDIDATES)),
            _ => None,
        });
        let Some(wanted) = wanted.max() else { return Ok(None) };
        let (mut count, mut round) = (self.vocabulary, 0);
        loop {
            let job = recorder.job(Job { count, wanted, ..Job::default() });
            let kind = if round == 0 { Round::First } else { Round::Further };
            let kernel = if wanted == 1 { Kernel::ArgMax(kind) } else { Kernel::TopK(kind) };
            let group = &recorder.scratch.choose[if round == 0 { 0 } else { 2 - round % 2 }];
            let segments = count.div_ceil(SEGMENT);
            recorder.run(kernel, job, group, [segments, outputs.len(), 1])?;
            count = segments * wanted;
            if segments == 1 {
                return Ok(Some((round % 2, wanted)));
            }
            round += 1;
        }
    }
}
