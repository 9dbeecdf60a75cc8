//! The forward pass of a llama-architecture model on the GPU: the backend over weights, caches and recorded passes.

use super::check::check_kernels;
use super::context::Context;
use super::forward::{self, MAX_OUTPUTS, MAX_SEGMENTS, Plan, Recorded, Scratch, Segment};
use super::kv_cache::KvCache;
use super::shaders::{Compiling, Kernel, Pipelines, Sizes};
use super::weights::{WebGpuWeights, Weights, kinds};
use crate::backend::{Answer, Backend, CacheId, Counters, Gpu, Wanted, Work};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::LocalFuture;
use crate::host::now_ms;
use crate::model::{Hyperparameters, RopeFrequencies};
use std::collections::HashMap;

/// What can be chosen about the computation.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rows (tokens) of one submission: long prompts are computed in chunks of so many.
    pub chunk_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { chunk_rows: 256 }
    }
}

/// A model on the GPU with its KV caches.
pub struct WebGpuBackend {
    context: Context,
    parameters: Hyperparameters,
    /// The bind groups keep the buffers; this keeps them from being forgotten.
    _weights: Weights,
    rope: RopeFrequencies,
    kernels: Vec<Kernel>,
    pipelines: Pipelines,
    scratch: Scratch,
    plan: Plan,
    caches: HashMap<CacheId, KvCache>,
    next_cache: u64,
    /// Whether packed kernels compute what they should.
    may_pack: bool,
    /// The commands of the next tokens, if they are what comes next.
    ahead: Option<Ahead>,
    /// A future that was dropped may have left the buffer for reading back mapped.
    reading: bool,
}

/// Commands that were recorded before their tokens were known, while the GPU was at work.
struct Ahead {
    for_rows: Vec<Row>,
    recorded: Recorded,
}

/// What recorded commands depend on: a sequence's rows, its cache, and the room in that, which tells its buffers from older ones.
type Row = (Segment, CacheId, usize);

/// The largest head that attention has threads for.
const MAX_HEAD_WIDTH: usize = 256;

impl WebGpuBackend {
    /// Whether the GPU has kernels for a model of this shape: told before any weight is read.
    pub fn check(parameters: &Hyperparameters) -> Result<()> {
        let width = parameters.head_width;
        if width > MAX_HEAD_WIDTH || !width.is_multiple_of(4) {
            return Err(AiError::invalid_data(format!(
                "The model has attention heads of {width} dimensions; the GPU computes multiples of 4 up to {MAX_HEAD_WIDTH}."
            )));
        }
        Ok(())
    }

    /// Makes a model of weights that have come. Its kernels are those that were begun beside them, or are compiled now; `progress` is told how
    /// many are ready, and of how many.
    pub async fn new(
        parameters: Hyperparameters,
        weights: WebGpuWeights,
        options: Options,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self> {
        let p = &parameters;
        Self::check(p)?;
        let (context, weights, compiling) = weights.build(p.layers).await?;
        let rope = RopeFrequencies::new(p, weights.rope_divisors.as_deref());
        let compiling = match compiling {
            Some(compiling) => compiling,
            None => Compiling::begin(&context, &Sizes::from(p), &forward::kernels(&context, p, kinds(&weights))).await,
        };
        let kernels = compiling.kernels();
        let pipelines = compiling.finish(&context, progress).await?;
        let made = context.checked("computing a batch", || {
            let scratch = Scratch::new(&context, &pipelines, p, options.chunk_rows.max(1))?;
            let plan = Plan::new(&context, &pipelines, p, &weights, &scratch)?;
            Result::Ok((scratch, plan))
        });
        let (scratch, plan) = made.await??;
        Ok(Self {
            context,
            parameters,
            _weights: weights,
            rope,
            kernels,
            pipelines,
            scratch,
            plan,
            caches: HashMap::new(),
            next_cache: 0,
            may_pack: true,
            ahead: None,
            reading: false,
        })
    }

    /// Runs every kernel of the model on random numbers. An error says which one is wrong on this adapter; it can do without packed ones.
    /// `progress` is told how many were run, and of how many.
    pub async fn self_check(&mut self, progress: &dyn Fn(usize, usize)) -> Result<()> {
        let sizes = Sizes::from(&self.parameters);
        let comparisons = check_kernels(&self.context, &self.pipelines, &sizes, &self.kernels, 1, progress).await?;
        let wrong = self.kernels.iter().zip(comparisons).filter(|(_, comparison)| !comparison.agrees());
        let (packed, wrong): (Vec<_>, Vec<_>) = wrong.partition(|(kernel, _)| kernel.is_packed());
        self.may_pack = packed.is_empty();
        wrong.first().map_or(Ok(()), |(_, comparison)| {
            Err(AiError::invalid_data(format!(
                "The GPU ({}) computes wrongly: {} differs from its twin by {:e}.",
                self.context.name, comparison.kernel, comparison.difference
            )))
        })
    }

    /// Computes single tokens with packed weights from now on (`activations_packed.wgsl`), or no longer.
    pub fn pack(&mut self, packed: bool) {
        self.plan.packed = packed;
        self.ahead = None;
    }

    pub fn is_packed(&self) -> bool {
        self.plan.packed
    }

    /// Whether packed weights are computed faster depends on the adapter, and no adapter tells: so both are timed, for some tenths of a
    /// second, and packed ones are taken where they are clearly faster.
    pub async fn tune(&mut self) -> Result<()> {
        /// Milliseconds, of which a clock of whole ones tells enough.
        const ENOUGH: f64 = 30.0;
        if !self.may_pack || !self.plan.can_pack(&self.context) {
            return Ok(());
        }
        // The first runs find out how many products it takes, and bring the weights in.
        let mut times = 1;
        while self.time_products(false, times).await? < ENOUGH && times < 256 {
            times *= 2;
        }
        let mut fastest = [f64::INFINITY; 2];
        for _ in 0..3 {
            for (fastest, packed) in fastest.iter_mut().zip([false, true]) {
                *fastest = fastest.min(self.time_products(packed, times).await?);
            }
        }
        let [plain, packed] = fastest;
        // A tie must not be decided anew at every load, because results differ in their last bits.
        self.pack(packed < 0.87 * plain);
        Ok(())
    }

    async fn time_products(&mut self, packed: bool, times: usize) -> Result<f64> {
        let recorded = self.plan.record_products(&self.context, &self.pipelines, &self.scratch, packed, times)?;
        let started = now_ms();
        let layout = recorded.submit(&self.context, &self.scratch, &[0], &[0.0]);
        self.read_back(layout.bytes).await?;
        Ok(now_ms() - started)
    }

    /// Waits for what was submitted, and reads what it was to give.
    async fn read_back(&mut self, bytes: u64) -> Result<Vec<u8>> {
        self.reading = true;
        let read = self.context.read(&self.scratch.readback, bytes).await?;
        self.reading = false;
        Ok(read)
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn counters(&self) -> Counters {
        self.context.counters()
    }

    fn row(&self, segment: Segment, batch: &[Work<'_>]) -> Option<Row> {
        let id = batch[segment.work].cache;
        Some((segment, id, self.caches.get(&id)?.capacity()))
    }

    fn record(&self, rows: &[Row]) -> Result<Recorded> {
        let chunk: Vec<_> = rows.iter().filter_map(|(segment, id, _)| Some((*segment, self.caches.get(id)?))).collect();
        self.plan.record(&self.context, &self.pipelines, &self.parameters, &self.scratch, &chunk)
    }

    /// Records what comes after these rows if every sequence goes on by one token, as in decoding. `None` where a sequence does not yet
    /// have all of its prompt, or no room for one more.
    fn record_ahead(&self, segments: &[Segment], batch: &[Work<'_>]) -> Option<Ahead> {
        if segments.len() != batch.len() {
            return None;
        }
        let following = segments.iter().enumerate().map(|(index, segment)| {
            let start = segment.start + segment.rows;
            let row = self.row(Segment { first_row: index, rows: 1, start, ..*segment }, batch)?;
            (segment.wanted != Wanted::Nothing && start < row.2).then_some(row)
        });
        let for_rows = following.collect::<Option<Vec<Row>>>()?;
        // An error shows itself when the commands are recorded in their turn.
        let recorded = self.record(&for_rows).ok()?;
        Some(Ahead { for_rows, recorded })
    }

    /// Gives an answer for each work, in the order of the batch.
    async fn compute(&mut self, batch: &[Work<'_>]) -> Result<Vec<Option<Answer>>> {
        self.context.check()?;
        if std::mem::replace(&mut self.reading, false) {
            self.scratch.readback.unmap();
        }
        for (index, work) in batch.iter().enumerate() {
            let twice = batch[..index].iter().any(|earlier| earlier.cache == work.cache);
            let Some(cache) = self.caches.get_mut(&work.cache).filter(|_| !twice) else {
                return Err(AiError::new(ErrorCode::OutOfCapacity, "A KV cache is gone or stands in a batch twice."));
            };
            if let Some(token) = work.tokens.iter().find(|token| **token as usize >= self.parameters.vocabulary) {
                return Err(AiError::invalid_data(format!("Token {token} is not in the vocabulary.")));
            }
            let positions = cache.length() + work.tokens.len();
            cache.grow(&self.context, &self.pipelines, &self.scratch, &self.parameters, positions).await?;
        }
        let mut answers = vec![None; batch.len()];
        // The next token to compute: its work, and its place there.
        let mut next = (0, 0);
        let (mut tokens, mut angles, mut segments) = (Vec::new(), Vec::new(), Vec::new());
        while next.0 < batch.len() {
            (tokens.clear(), angles.clear(), segments.clear());
            while let Some(work) = batch.get(next.0)
                && tokens.len() < self.scratch.rows
                && segments.len() < MAX_SEGMENTS
                && segments.iter().filter(|segment: &&Segment| segment.wanted != Wanted::Nothing).count() < MAX_OUTPUTS
            {
                let rest = &work.tokens[next.1..];
                let rows = rest.len().min(self.scratch.rows - tokens.len());
                let start = self.caches.get(&work.cache).map_or(0, KvCache::length) + next.1;
                let ends = rows == rest.len();
                if rows > 0 {
                    let wanted = if ends { work.wanted } else { Wanted::Nothing };
                    segments.push(Segment { work: next.0, first_row: tokens.len(), rows, start, wanted });
                    tokens.extend(&rest[..rows]);
                    (start..start + rows).for_each(|position| self.rope.push_angles(position, &mut angles));
                }
                next = if ends { (next.0 + 1, 0) } else { (next.0, next.1 + rows) };
            }
            let rows: Vec<Row> = segments.iter().filter_map(|segment| self.row(*segment, batch)).collect();
            let recorded = match self.ahead.take() {
                Some(ahead) if ahead.for_rows == rows => ahead.recorded,
                _ => self.record(&rows)?,
            };
            let layout = recorded.submit(&self.context, &self.scratch, &tokens, &angles);
            self.context.check()?;
            if layout.bytes > 0 {
                if next.0 == batch.len() {
                    self.ahead = self.record_ahead(&segments, batch);
                }
                let bytes = self.read_back(layout.bytes).await?;
                for (work, answer) in layout.read(&bytes) {
                    answers[work] = Some(answer);
                }
            }
        }
        for work in batch {
            if let Some(cache) = self.caches.get_mut(&work.cache) {
                cache.commit(work.tokens.len());
            }
        }
        Ok(answers)
    }
}

impl Backend for WebGpuBackend {
    fn name(&self) -> &'static str {
        "webgpu"
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        &self.parameters
    }

    fn gpu(&self) -> Option<Gpu> {
        Some(Gpu { adapter: self.context.name.clone(), counters: self.counters() })
    }

    fn is_lost(&self) -> bool {
        self.context.is_lost()
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        let id = CacheId(self.next_cache);
        self.next_cache += 1;
        self.caches.insert(id, KvCache::default());
        Ok(id)
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.caches.remove(&cache);
    }

    fn truncate_cache(&mut self, cache: CacheId, length: usize) {
        if let Some(cache) = self.caches.get_mut(&cache) {
            cache.truncate(length);
        }
    }

    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            let Some(positions) = self.caches.get(&from).map(|source| length.min(source.length())) else { return Ok(()) };
            let Some(target) = self.caches.get_mut(&to) else { return Ok(()) };
            target.truncate(0);
            target.grow(&self.context, &self.pipelines, &self.scratch, &self.parameters, positions).await?;
            // Taken out, so that two caches of the map can be borrowed at once; put back before anything is waited for.
            let Some(mut target) = self.caches.remove(&to) else { return Ok(()) };
            if let Some(source) = self.caches.get(&from) {
                target.copy(&self.context, &self.parameters, source, length);
            }
            self.caches.insert(to, target);
            Ok(())
        })
    }

    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            let Some(cache) = self.caches.get_mut(&cache) else { return Ok(()) };
            let positions = cache.length() + additional;
            cache.grow(&self.context, &self.pipelines, &self.scratch, &self.parameters, positions).await
        })
    }

    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>> {
        Box::pin(async move { Ok(self.compute(batch).await?.into_iter().flatten().collect()) })
    }
}
