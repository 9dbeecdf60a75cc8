//! Records a forward pass: which shaders run over which buffers, for a chunk of rows.

use super::adapters::{Adapted, Adapters, Dispatched};
use super::context::Context;
use super::kv_cache::KvCache;
use super::layout::UNIT;
use super::profile::Profile;
use super::scratch::{Job, LEAST_TILED_ROWS, SEGMENT, Scratch, TILE, no_steps};
use super::shaders::{Bindings, Epilogue, MAX_SPLITS, Pipelines, ProductStrategy, ReductionPass, Shader, Sizes};
use super::weights::{Matrix, MatrixKind, Weights};
use crate::backend::{Answer, MAX_CANDIDATES, Wanted};
use crate::error::{AiError, Result};
use crate::lora::AdapterId;
use crate::model::{Architecture, Role, Slot, Step};
use kernels::Format;
use std::collections::HashMap;

/// The rows of one sequence in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Index of its work in the batch.
    pub work: usize,
    /// Index of its first row in the chunk.
    pub first_row: usize,
    pub rows: usize,
    /// Position of its first row in the sequence.
    pub start: usize,
    /// The answer for the last row; `Nothing` if that is not the last row of the work.
    pub wanted: Wanted,
    pub adapter: Option<AdapterId>,
}

/// A dispatch or two of every forward pass. Products and norms are fused with the step after them.
#[derive(Clone, Copy)]
enum Operation {
    Norm { norm: Role, from: Slot, to: Slot, adds: bool },
    Product { matrix: Role, from: Slot, to: Slot, epilogue: Epilogue },
    Bias { bias: Role, to: Slot },
    PartNorm { norm: Role, of: Slot },
    Rotate { layer: usize },
    Attend { layer: usize },
}

/// The operations for the steps of an architecture.
///
/// # Errors
///
/// 5004 if there is a step that must be fused, and cannot be.
fn operations(architecture: &Architecture) -> Result<Vec<Operation>> {
    let mut operations: Vec<Operation> = Vec::new();
    for step in architecture.steps() {
        match (step, operations.last_mut()) {
            (Step::Norm { norm, from, to }, _) => operations.push(Operation::Norm { norm, from, to, adds: false }),
            (Step::Products { from, products }, _) => {
                let product = |(matrix, to)| Operation::Product { matrix, from, to, epilogue: Epilogue::Store };
                operations.extend(products.into_iter().map(product));
            }
            (Step::Bias { bias, to }, _) => operations.push(Operation::Bias { bias, to }),
            (Step::PartNorm { norm, of }, _) => operations.push(Operation::PartNorm { norm, of }),
            (Step::Rotate { layer }, _) => operations.push(Operation::Rotate { layer }),
            (Step::Attend { layer }, _) => operations.push(Operation::Attend { layer }),
            (Step::Activate, Some(Operation::Product { to: to @ Slot::Up, epilogue: epilogue @ Epilogue::Store, .. })) => {
                (*to, *epilogue) = (Slot::Gate, Epilogue::Gate(architecture.activation));
            }
            (Step::Add { from }, Some(Operation::Product { to, epilogue: epilogue @ Epilogue::Store, .. })) if *to == from => {
                (*to, *epilogue) = (Slot::Stream, Epilogue::Add);
            }
            (Step::Add { from }, Some(Operation::Norm { to, adds: adds @ false, .. })) if *to == from => {
                (*to, *adds) = (Slot::Stream, true);
            }
            (Step::Activate | Step::Add { .. }, _) => return Err(no_steps()),
        }
    }
    Ok(operations)
}

/// A product beside which an adapter may have another.
pub struct AdaptedProduct<'a> {
    pub matrix: Role,
    pub input: &'a wgpu::Buffer,
    pub output: &'a wgpu::Buffer,
    pub epilogue: Epilogue,
}

/// Every product of an architecture with its buffers.
///
/// # Errors
///
/// 5004 if there is no shader for a step.
pub fn adapted_products<'a>(architecture: &Architecture, s: &'a Scratch) -> Result<Vec<AdaptedProduct<'a>>> {
    let mut products = Vec::new();
    for operation in operations(architecture)? {
        if let Operation::Product { matrix, from, to, epilogue } = operation {
            products.push(AdaptedProduct { matrix, input: s.slot(from)?, output: s.slot(to)?, epilogue });
        }
    }
    products.push(AdaptedProduct { matrix: Role::Output, input: &s.last, output: &s.logits, epilogue: Epilogue::Store });
    Ok(products)
}

/// A matrix product and its bind groups.
struct Product {
    role: Role,
    format: Format,
    columns: usize,
    epilogue: Epilogue,
    /// Rows and bind group of each part of the matrix.
    parts: Vec<(usize, wgpu::BindGroup)>,
}

impl Product {
    fn new(
        context: &Context,
        pipelines: &Pipelines,
        (role, matrix): (Role, &Matrix),
        epilogue: Epilogue,
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
        Ok(Self { role, format: matrix.format, columns: matrix.columns, epilogue, parts })
    }

    /// Every shader that may compute a product with this matrix.
    fn shaders(context: &Context, matrix: &MatrixKind, epilogue: Epilogue) -> impl Iterator<Item = Shader> {
        let MatrixKind { format, columns, .. } = *matrix;
        let cases = [(1, false), (1, true), (LEAST_TILED_ROWS, false), (usize::MAX, false)];
        let cases = cases.into_iter().filter(move |(_, packed)| !packed || has_packed(context, format));
        cases.map(move |(rows, packed)| Shader::Product { format, strategy: strategy(context, rows, columns, packed), epilogue })
    }
}

/// Whether weights of a format can be computed with packed dot products.
fn has_packed(context: &Context, format: Format) -> bool {
    context.packed_dot && format.is_quantised()
}

/// How to compute a product of a matrix of `columns` columns and `rows` rows of activations.
fn strategy(context: &Context, rows: usize, columns: usize, packed: bool) -> ProductStrategy {
    match rows {
        _ if context.serial => ProductStrategy::Vector { threads: 1, packed },
        0..LEAST_TILED_ROWS => ProductStrategy::Vector { threads: if columns / UNIT <= 32 { 32 } else { 64 }, packed },
        4..=16 => ProductStrategy::Tiles { tokens: 1 },
        _ => ProductStrategy::Tiles { tokens: 4 },
    }
}

/// The attention shader for a sequence with `rows` rows in the chunk. It determines how many rows, and how many query heads of a KV head,
/// one workgroup computes.
pub fn attention(sizes: &Sizes, rows: usize) -> Shader {
    let queries = if sizes.head_width <= 128 { 16 } else { 8 };
    let shared = (sizes.heads / sizes.kv_heads).next_power_of_two().min(8);
    Shader::Attention { rows: if rows < LEAST_TILED_ROWS { 1 } else { queries / shared }, shared }
}

/// An operation with its bind groups.
enum Planned {
    Norm {
        group: wgpu::BindGroup,
        shader: Shader,
    },
    Product(Product),
    /// `width`: of a row.
    Bias {
        group: wgpu::BindGroup,
        width: usize,
    },
    PartNorm {
        group: wgpu::BindGroup,
        parts: usize,
    },
    Rotate {
        layer: usize,
    },
    Attend {
        layer: usize,
    },
}

/// Everything that stays the same from one forward pass to the next.
pub struct Plan {
    /// Whether products of few rows use packed dot products, where the format allows it.
    pub packed: bool,
    sizes: Sizes,
    /// Every width of the layers' windows.
    windows: Vec<Option<usize>>,
    vocabulary: usize,
    embed: Vec<wgpu::BindGroup>,
    embed_shader: Shader,
    embed_units: usize,
    operations: Vec<Planned>,
    output_norm: wgpu::BindGroup,
    output: Product,
}

/// Every shader that a model with these matrices needs, without duplicates.
///
/// # Errors
///
/// 5004 if there is none for a step.
pub fn shaders(context: &Context, architecture: &Architecture, matrices: impl Iterator<Item = MatrixKind>) -> Result<Vec<Shader>> {
    let sizes = Sizes::from(architecture);
    let mut shaders = vec![Shader::Norm, Shader::Rope, attention(&sizes, 1), attention(&sizes, LEAST_TILED_ROWS), Shader::Combine];
    for pass in [ReductionPass::First, ReductionPass::Further] {
        shaders.extend([Shader::ArgMax(pass), Shader::TopK(pass)]);
    }
    let matrices: HashMap<Role, MatrixKind> = matrices.map(|matrix| (matrix.role, matrix)).collect();
    if let Some(embedding) = matrices.get(&Role::TokenEmbedding) {
        shaders.push(Shader::Embed(embedding.format));
    }
    if let Some(output) = matrices.get(&Role::Output).or(matrices.get(&Role::TokenEmbedding)) {
        shaders.extend(Product::shaders(context, output, Epilogue::Store));
    }
    for operation in operations(architecture)? {
        match operation {
            Operation::Product { matrix, epilogue, .. } => {
                let products = matrices.get(&matrix).map(|matrix| Product::shaders(context, matrix, epilogue));
                shaders.extend(products.into_iter().flatten());
            }
            Operation::Bias { .. } => shaders.push(Shader::Bias),
            Operation::PartNorm { .. } => shaders.push(Shader::PartNorm),
            Operation::Norm { adds: true, .. } => shaders.push(Shader::NormAdd),
            Operation::Norm { .. } | Operation::Rotate { .. } | Operation::Attend { .. } => {}
        }
    }
    let mut seen = std::collections::HashSet::new();
    shaders.retain(|shader| seen.insert(*shader));
    Ok(shaders)
}

impl Plan {
    /// Creates the bind groups of a model over `weights` and the buffers of `s`.
    ///
    /// # Errors
    ///
    /// If a weight is missing, if there is no shader for a step, or if `pipelines` lacks a bind group layout.
    pub fn new(context: &Context, pipelines: &Pipelines, architecture: &Architecture, weights: &Weights, s: &Scratch) -> Result<Self> {
        let norm = |from, norm, to| pipelines.bind(context, Bindings::Norm, &[from, norm, to]);
        let product = |matrix, epilogue, input, output| Product::new(context, pipelines, matrix, epilogue, input, output);
        let plan = |operation| {
            Ok(match operation {
                Operation::Norm { norm: scales, from, to, adds } => {
                    let shader = if adds { Shader::NormAdd } else { Shader::Norm };
                    Planned::Norm { group: norm(s.slot(from)?, weights.vector(scales)?, s.slot(to)?)?, shader }
                }
                Operation::Product { matrix, from, to, epilogue } => {
                    Planned::Product(product((matrix, weights.matrix(matrix)?), epilogue, s.slot(from)?, s.slot(to)?)?)
                }
                Operation::Bias { bias, to } => Planned::Bias {
                    group: pipelines.bind(context, Bindings::Pair, &[weights.vector(bias)?, s.slot(to)?])?,
                    width: architecture.width(to),
                },
                Operation::PartNorm { norm, of } => Planned::PartNorm {
                    group: pipelines.bind(context, Bindings::Pair, &[weights.vector(norm)?, s.slot(of)?])?,
                    parts: architecture.width(of) / norm.shape(architecture).iter().product::<usize>(),
                },
                Operation::Rotate { layer } => Planned::Rotate { layer },
                Operation::Attend { layer } => Planned::Attend { layer },
            })
        };
        let operations = operations(architecture)?.into_iter().map(plan).collect::<Result<_>>()?;
        let embedding = weights.matrix(Role::TokenEmbedding)?;
        let embed = product((Role::TokenEmbedding, embedding), Epilogue::Store, &s.tokens, &s.stream)?;
        Ok(Self {
            packed: false,
            sizes: Sizes::from(architecture),
            windows: architecture.windows(),
            vocabulary: architecture.sizes.vocabulary,
            embed: embed.parts.into_iter().map(|(_, group)| group).collect(),
            embed_shader: Shader::Embed(embedding.format),
            embed_units: embedding.columns / UNIT,
            operations,
            output_norm: norm(&s.stream, weights.vector(Role::OutputNorm)?, &s.last)?,
            output: product((Role::Output, weights.output()?), Epilogue::Store, &s.last, &s.logits)?,
        })
    }

    /// The products that are timed: one of every layer.
    fn gates(&self) -> impl Iterator<Item = &Product> {
        let fused =
            |operation: &'_ Planned| matches!(operation, Planned::Product(product) if matches!(product.epilogue, Epilogue::Gate(_)));
        // The gate comes before the product that is fused with it.
        self.operations.windows(2).filter(move |pair| fused(&pair[1])).filter_map(|pair| match &pair[0] {
            Planned::Product(product) => Some(product),
            _ => None,
        })
    }
}

/// Where the answers of a chunk are in the readback buffer.
#[derive(Debug, Default)]
pub struct Layout {
    /// The index of each answer's work, and the answer's place.
    places: Vec<(usize, Place)>,
    /// Bytes to read back.
    pub bytes: u64,
}

/// `at`: offset in bytes; `count`: logits or candidates.
#[derive(Debug, Clone, Copy)]
enum Place {
    Logits { at: usize, count: usize },
    Candidates { at: usize, count: usize },
}

impl Layout {
    /// Decodes the answers from the bytes read back, each with the index of its work.
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

/// Decodes a logit from its ordered bits (`ordered.wgsl`). `None` if it was not finite, or if the entry is padding.
pub fn logit_of(key: u32) -> Option<f32> {
    let bits = if key & 0x8000_0000 != 0 { key & 0x7fff_ffff } else { !key };
    (key > 1).then(|| f32::from_bits(bits))
}

/// Records the dispatches of a chunk and collects their jobs.
struct Recorder<'a> {
    context: &'a Context,
    pipelines: &'a Pipelines,
    scratch: &'a Scratch,
    encoder: wgpu::CommandEncoder,
    /// The compute pass of all dispatches, or of the latest one where a profile measures each.
    pass: Option<wgpu::ComputePass<'static>>,
    profile: Option<&'a Profile>,
    jobs: Vec<u8>,
    dispatches: u64,
    packed: bool,
}

impl<'a> Recorder<'a> {
    fn begin(context: &'a Context, pipelines: &'a Pipelines, scratch: &'a Scratch, packed: bool, profile: Option<&'a Profile>) -> Self {
        let encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Self { context, pipelines, scratch, encoder, pass: None, profile, jobs: Vec::new(), dispatches: 0, packed }
    }

    /// Appends a job to the buffer of jobs and returns its offset in bytes.
    fn job(&mut self, job: Job) -> u32 {
        let offset = self.jobs.len();
        self.jobs.extend(job.bytes());
        self.jobs.resize(offset + self.context.uniform_alignment as usize, 0);
        offset as u32
    }

    fn run(&mut self, shader: Shader, job: u32, group: &wgpu::BindGroup, workgroups: [usize; 3]) -> Result<()> {
        if let Some(profile) = self.profile {
            // Ends the pass before, which must come first.
            self.pass = None;
            self.pass = Some(profile.begin(&mut self.encoder, shader, workgroups));
        }
        let begin = || self.encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
        let pass = self.pass.get_or_insert_with(begin);
        pass.set_pipeline(self.pipelines.get(shader)?);
        pass.set_bind_group(0, &self.scratch.job_group, &[job]);
        pass.set_bind_group(1, group, &[]);
        let [x, y, z] = workgroups.map(|count| count as u32);
        pass.dispatch_workgroups(x, y, z);
        self.dispatches += 1;
        Ok(())
    }

    /// Dispatches of adapters, with the job of the rows that each is for.
    fn adapt<'b>(&mut self, dispatches: impl Iterator<Item = (u32, Vec<Dispatched<'b>>)>) -> Result<()> {
        for (job, dispatches) in dispatches {
            dispatches.into_iter().try_for_each(|(shader, group, workgroups)| self.run(shader, job, group, workgroups))?;
        }
        Ok(())
    }

    fn product(&mut self, product: &Product, job: u32, rows: usize) -> Result<()> {
        let strategy = strategy(self.context, rows, product.columns, self.packed && has_packed(self.context, product.format));
        let shader = Shader::Product { format: product.format, strategy, epilogue: product.epilogue };
        for (matrix_rows, group) in &product.parts {
            self.run(shader, job, group, strategy.workgroups(*matrix_rows, rows))?;
        }
        Ok(())
    }
}

/// The recorded commands of a chunk. They do not depend on the tokens, which `submit` uploads.
pub struct Recorded {
    commands: wgpu::CommandBuffer,
    jobs: Vec<u8>,
    layout: Layout,
    dispatches: u64,
}

impl Recorded {
    /// Uploads the input and submits the commands. `tokens`: one per row; `angles`: for each rope `[rows, rope_width]`, the cosine and sine
    /// of each rotated pair. Returns where the answers will be in the readback buffer.
    pub fn submit(self, context: &Context, scratch: &Scratch, tokens: &[u32], angles: &[Vec<f32>]) -> Layout {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        context.upload(&scratch.tokens, 0, &bytes);
        for (angles, buffer) in angles.iter().zip(&scratch.angles) {
            let bytes: Vec<u8> = angles.iter().flat_map(|angle| angle.to_le_bytes()).collect();
            context.upload(buffer, 0, &bytes);
        }
        context.upload(&scratch.jobs, 0, &self.jobs);
        context.submit(self.commands);
        context.count(|counters| counters.dispatches += self.dispatches);
        self.layout
    }
}

impl Plan {
    /// Records the commands of a chunk, given as the segments of its sequences with their caches.
    ///
    /// # Errors
    ///
    /// If a pipeline is missing, or if the chunk has more jobs than the buffer of jobs holds.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of one backend, of which others are borrowed meanwhile")]
    pub fn record(
        &self,
        context: &Context,
        pipelines: &Pipelines,
        architecture: &Architecture,
        scratch: &Scratch,
        adapters: &Adapters,
        chunk: &[(Segment, &KvCache)],
        profile: Option<&Profile>,
    ) -> Result<Recorded> {
        let p = &architecture.sizes;
        let rows = chunk.iter().map(|(segment, _)| segment.rows).sum();
        let mut recorder = Recorder::begin(context, pipelines, scratch, self.packed, profile);
        let whole = recorder.job(Job { rows, ..Job::default() });

        for group in &self.embed {
            recorder.run(self.embed_shader, whole, group, [self.embed_units.div_ceil(64), rows, 1])?;
        }
        // The segments, once for every width of window.
        let mut by_window = Vec::new();
        for window in &self.windows {
            let mut segments = Vec::new();
            for (segment, cache) in chunk {
                let length = segment.start + segment.rows;
                let (begin, split_length) = match segment.rows {
                    0..LEAST_TILED_ROWS => {
                        let begin = window.map_or(0, |window| (segment.start + 1).saturating_sub(window) / TILE * TILE);
                        (begin, (length - begin).div_ceil(MAX_SPLITS).next_multiple_of(TILE))
                    }
                    _ => (0, length),
                };
                let splits = (length - begin).div_ceil(split_length);
                let job = recorder.job(Job {
                    rows: segment.rows,
                    first_row: segment.first_row,
                    start: segment.start,
                    values: cache.values_offset(p),
                    splits,
                    split_length,
                    begin,
                    window: window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX),
                    ..Job::default()
                });
                segments.push((segment, cache, job, splits));
            }
            by_window.push((window, segments));
        }
        let segments_of = |layer: usize| {
            let window = &architecture.layers[layer].window;
            by_window.iter().find(|(of, _)| *of == window).into_iter().flat_map(|(_, segments)| segments)
        };
        // The rows with an adapter, and their jobs, which are those of attention too.
        let first_window = by_window.first().into_iter().flat_map(|(_, segments)| segments);
        let adapted: Vec<(AdapterId, u32, usize)> =
            first_window.filter_map(|(segment, _, job, _)| Some((segment.adapter?, *job, segment.rows))).collect();
        let beside = |role: Role| {
            let own = adapted.iter().filter_map(move |(id, job, rows)| Some((adapters.matrix(*id, role)?, *job, *rows)));
            own.collect::<Vec<(&Adapted, u32, usize)>>()
        };
        for operation in &self.operations {
            match operation {
                Planned::Norm { group, shader } => recorder.run(*shader, whole, group, [rows, 1, 1])?,
                Planned::Product(product) => {
                    let beside = beside(product.role);
                    recorder.adapt(beside.iter().map(|(own, job, rows)| (*job, own.before(*rows))))?;
                    recorder.product(product, whole, rows)?;
                    recorder.adapt(beside.iter().map(|(own, job, rows)| (*job, own.after(*rows))))?;
                }
                Planned::Bias { group, width } => recorder.run(Shader::Bias, whole, group, [(width / 4).div_ceil(64), rows, 1])?,
                Planned::PartNorm { group, parts } => recorder.run(Shader::PartNorm, whole, group, [*parts, rows, 1])?,
                Planned::Rotate { layer } => {
                    for (segment, cache, job, _) in segments_of(*layer) {
                        let Some(cache) = cache.layer(*layer) else { continue };
                        let pairs = (p.query_width() + 2 * p.kv_width()) / 2;
                        recorder.run(Shader::Rope, *job, &cache.rope, [pairs.div_ceil(64), segment.rows, 1])?;
                    }
                }
                Planned::Attend { layer } => {
                    for (segment, cache, job, splits) in segments_of(*layer) {
                        let Some(cache) = cache.layer(*layer) else { continue };
                        let shader = attention(&self.sizes, segment.rows);
                        let Shader::Attention { rows: rows_at_once, shared } = shader else { continue };
                        let portions = (p.heads / p.kv_heads).div_ceil(shared);
                        let workgroups = [*splits, p.kv_heads * portions, segment.rows.div_ceil(rows_at_once)];
                        recorder.run(shader, *job, &cache.attention, workgroups)?;
                        if *splits > 1 {
                            recorder.run(Shader::Combine, *job, &scratch.combine, [p.heads, segment.rows, 1])?;
                        }
                    }
                }
            }
        }

        let outputs: Vec<&Segment> = chunk.iter().map(|(segment, _)| segment).filter(|segment| segment.wanted != Wanted::Nothing).collect();
        let mut found = None;
        if !outputs.is_empty() {
            let mut beside = Vec::new();
            for (output_row, segment) in outputs.iter().enumerate() {
                let input_row = segment.first_row + segment.rows - 1;
                let job = recorder.job(Job { input_row, output_row, rows: 1, first_row: output_row, ..Job::default() });
                recorder.run(Shader::Norm, job, &self.output_norm, [1, 1, 1])?;
                beside.extend(segment.adapter.and_then(|id| adapters.matrix(id, Role::Output)).map(|own| (job, own.after(1))));
            }
            let job = recorder.job(Job { rows: outputs.len(), ..Job::default() });
            recorder.product(&self.output, job, outputs.len())?;
            recorder.adapt(beside.into_iter())?;
            found = self.choose(&mut recorder, &outputs)?;
        }
        let Recorder { mut encoder, pass, jobs, dispatches, .. } = recorder;
        drop(pass);
        if let Some(profile) = profile {
            profile.resolve(&mut encoder);
        }

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

    /// Whether some products can use packed dot products.
    pub fn can_pack(&self, context: &Context) -> bool {
        self.gates().any(|product| has_packed(context, product.format))
    }

    /// Records `times` repetitions of one product of every layer (the gate) for one row, to be timed: decode consists mostly of such
    /// products. Eight bytes are read back.
    ///
    /// # Errors
    ///
    /// If a pipeline is missing.
    pub fn record_products(
        &self,
        context: &Context,
        pipelines: &Pipelines,
        scratch: &Scratch,
        packed: bool,
        times: usize,
    ) -> Result<Recorded> {
        let mut recorder = Recorder::begin(context, pipelines, scratch, packed, None);
        let job = recorder.job(Job { rows: 1, ..Job::default() });
        for _ in 0..times {
            self.gates().try_for_each(|product| recorder.product(product, job, 1))?;
        }
        let Recorder { mut encoder, pass, jobs, dispatches, .. } = recorder;
        drop(pass);
        encoder.copy_buffer_to_buffer(&scratch.gate, 0, &scratch.readback, 0, 8);
        Ok(Recorded { commands: encoder.finish(), jobs, layout: Layout { places: Vec::new(), bytes: 8 }, dispatches })
    }

    /// Selects the largest logits of every output, pass by pass, if any output wants candidates. Returns the index of the buffer of
    /// candidates with the result, and the number of candidates per output.
    fn choose(&self, recorder: &mut Recorder, outputs: &[&Segment]) -> Result<Option<(usize, usize)>> {
        let wanted = outputs.iter().filter_map(|segment| match segment.wanted {
            Wanted::Candidates(count) => Some(count.clamp(1, MAX_CANDIDATES)),
            _ => None,
        });
        let Some(wanted) = wanted.max() else { return Ok(None) };
        let (mut count, mut index) = (self.vocabulary, 0);
        loop {
            let job = recorder.job(Job { count, wanted, ..Job::default() });
            let pass = if index == 0 { ReductionPass::First } else { ReductionPass::Further };
            let shader = if wanted == 1 { Shader::ArgMax(pass) } else { Shader::TopK(pass) };
            let group = &recorder.scratch.choose[if index == 0 { 0 } else { 2 - index % 2 }];
            let segments = count.div_ceil(SEGMENT);
            recorder.run(shader, job, group, [segments, outputs.len(), 1])?;
            count = segments * wanted;
            if segments == 1 {
                return Ok(Some((index % 2, wanted)));
            }
            index += 1;
        }
    }
}
