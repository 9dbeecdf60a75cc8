//! [`WebGpuBackend`]: a model on the GPU, with its weights, its KV caches and its recorded commands.

use super::adapters::Adapters;
use super::check::check_shaders;
use super::context::Context;
use super::forward::{self, Plan, Recorded, Segment};
use super::kv_cache::KvCache;
use super::profile::{Dispatch, Profile};
use super::scratch::{MAX_OUTPUTS, MAX_SEGMENTS, Scratch};
use super::shaders::{Compilation, Pipelines, Shader, Sizes};
use super::weights::{MatrixKind, WebGpuWeights, Weights, kinds};
use crate::backend::caches::Caches;
use crate::backend::{Answer, Backend, CacheId, Counters, Gpu, Input, ROWS, Wanted, Work};
use crate::error::{AiError, Result};
use crate::gguf::{LocalFuture, TensorEntry};
use crate::host::now_ms;
use crate::lora::Adapter;
use crate::model::{Architecture, Hyperparameters, Role, RopeFrequencies};
use std::rc::Rc;

/// Options of the computation.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The most rows (tokens) of one submission. Longer prompts are computed in chunks of this size.
    pub chunk_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { chunk_rows: 256 }
    }
}

/// A model on the GPU, with its KV caches.
pub struct WebGpuBackend {
    context: Context,
    architecture: Architecture,
    /// Kept for ownership only: the bind groups refer to these buffers.
    _weights: Weights,
    ropes: Vec<RopeFrequencies>,
    shaders: Vec<Shader>,
    pipelines: Pipelines,
    scratch: Scratch,
    plan: Plan,
    caches: Caches<KvCache>,
    adapters: Adapters,
    /// Whether the packed shaders passed `self_check`.
    may_pack: bool,
    /// Commands recorded for the batch that is expected next.
    ahead: Option<RecordedAhead>,
    /// Whether a readback has begun and not ended. If its future was dropped, the readback buffer may still be mapped.
    reading: bool,
    rows_per_step: usize,
    /// Measures the dispatches of the forward pass that is computed.
    profile: Option<Profile>,
}

/// Commands that were recorded while the GPU computed the previous token, before their own tokens were known.
struct RecordedAhead {
    /// The rows that the commands are for.
    rows: Vec<Row>,
    recorded: Recorded,
}

/// The properties of a sequence that recorded commands depend on: its rows, its cache, and the cache's capacity, which identifies the
/// cache's buffers.
type Row = (Segment, CacheId, usize);

/// The largest head width that attention has threads for (64 threads of four dimensions each).
const MAX_HEAD_WIDTH: usize = 256;

impl WebGpuBackend {
    /// Checks, before any weight is read, whether there are shaders for a model of this shape.
    ///
    /// # Errors
    ///
    /// 5004 if the head width is more than 256 or no multiple of 4.
    pub fn check(architecture: &Architecture) -> Result<()> {
        let width = architecture.sizes.head_width;
        if width > MAX_HEAD_WIDTH || !width.is_multiple_of(4) {
            return Err(AiError::invalid_data(format!(
                "The model has attention heads of {width} dimensions; the GPU computes multiples of 4 up to {MAX_HEAD_WIDTH}."
            )));
        }
        Ok(())
    }

    /// Creates a model from complete weights. It uses the shaders whose compilation was started with the weights
    /// ([`WebGpuWeights::start_compiling`]), or compiles them now. `progress` receives the number of compiled shaders and their total
    /// number.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, the shape is not supported, a shader does not compile, GPU memory runs out, or the device is lost.
    pub async fn new(
        architecture: Architecture,
        weights: WebGpuWeights,
        options: Options,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self> {
        Self::check(&architecture)?;
        let (context, weights, compilation) = weights.build().await?;
        let ropes = architecture.frequencies(weights.rope_divisors.as_deref());
        let compilation = match compilation {
            Some(compilation) => compilation,
            None => {
                let shaders = forward::shaders(&context, &architecture, kinds(&weights))?;
                Compilation::start(&context, &Sizes::from(&architecture), &shaders).await
            }
        };
        let shaders = compilation.shaders();
        let pipelines = compilation.finish(&context, progress).await?;
        let made = context.checked("computing a batch", || {
            let scratch = Scratch::new(&context, &pipelines, &architecture, options.chunk_rows.max(1))?;
            let plan = Plan::new(&context, &pipelines, &architecture, &weights, &scratch)?;
            Result::Ok((scratch, plan))
        });
        let (scratch, plan) = made.await??;
        Ok(Self {
            context,
            architecture,
            _weights: weights,
            ropes,
            shaders,
            pipelines,
            scratch,
            plan,
            caches: Caches::default(),
            adapters: Adapters::default(),
            may_pack: true,
            ahead: None,
            reading: false,
            rows_per_step: ROWS,
            profile: None,
        })
    }

    /// Compares every shader of the model with its reference on random numbers. If only packed shaders are wrong, they are not used, and
    /// that is no error. `progress` receives the number of shaders that were run and their total number.
    ///
    /// # Errors
    ///
    /// 5004 if another shader is wrong on this adapter; the text names it. Also if the device fails or memory runs out.
    pub async fn self_check(&mut self, progress: &dyn Fn(usize, usize)) -> Result<()> {
        let sizes = Sizes::from(&self.architecture);
        let comparisons = check_shaders(&self.context, &self.pipelines, &sizes, &self.shaders, 1, progress).await?;
        let wrong = self.shaders.iter().zip(comparisons).filter(|(_, comparison)| !comparison.agrees());
        let (packed, wrong): (Vec<_>, Vec<_>) = wrong.partition(|(shader, _)| shader.is_packed());
        self.may_pack = packed.is_empty();
        wrong.first().map_or(Ok(()), |(_, comparison)| {
            Err(AiError::invalid_data(format!(
                "The GPU ({}) computes wrongly: {} differs from its reference by {:e}.",
                self.context.name, comparison.shader, comparison.difference
            )))
        })
    }

    /// Selects whether products of few rows, as in decode, use packed dot products (`activations_packed.wgsl`) from now on.
    pub fn pack(&mut self, packed: bool) {
        self.plan.packed = packed;
        self.ahead = None;
    }

    /// Whether products of few rows use packed dot products.
    pub fn is_packed(&self) -> bool {
        self.plan.packed
    }

    /// Times this model on this device, and chooses what is fastest: packed dot products or products of floats, and the rows of a step.
    /// Takes some tenths of a second. Called when a model is loaded.
    ///
    /// # Errors
    ///
    /// If the device fails, or memory runs out.
    pub async fn tune(&mut self) -> Result<()> {
        if self.context.serial {
            return Ok(());
        }
        if self.may_pack && self.plan.can_pack(&self.context) {
            self.tune_products().await?;
        }
        self.tune_rows().await
    }

    /// Chooses between packed dot products and products of floats. Packed ones are used where they are clearly faster.
    ///
    /// Measuring is the only way to know: every current WGSL implementation has packed dot products, some adapters only emulate them, and
    /// no adapter reports which. Accuracy does not enter into the choice, because packed activations have 15 bits in two bytes (two
    /// packed products instead of four multiply-adds).
    async fn tune_products(&mut self) -> Result<()> {
        /// Milliseconds to measure at least, so that a clock with a resolution of one millisecond is accurate enough.
        const ENOUGH: f64 = 30.0;
        // The first runs determine the number of repetitions, and bring the weights in.
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
        let [unpacked, packed] = fastest;
        // The margin decides ties the same way at every load, because the results of the two differ in their last bits.
        self.pack(packed < 0.87 * unpacked);
        Ok(())
    }

    /// Chooses the most rows of a step, up to those of a submission, that the device computes within a quarter of a second: a request that
    /// is cancelled, other requests, and whatever else the GPU draws wait that long.
    async fn tune_rows(&mut self) -> Result<()> {
        const LONGEST_MS: f64 = 250.0;
        while 2 * self.rows_per_step <= self.scratch.rows.min(self.architecture.sizes.positions) {
            let rows = 2 * self.rows_per_step;
            // The first time includes what drivers compile at the first use.
            if self.time_rows(rows).await? > LONGEST_MS && self.time_rows(rows).await? > LONGEST_MS {
                break;
            }
            self.rows_per_step = rows;
        }
        Ok(())
    }

    /// Milliseconds that the forward pass of a prompt of `rows` tokens takes.
    async fn time_rows(&mut self, rows: usize) -> Result<f64> {
        let cache = self.create_cache()?;
        let started = now_ms();
        let computed =
            self.compute(&[Work { cache, input: Input::Tokens(&vec![0; rows]), wanted: Wanted::Candidates(1), adapter: None }]).await;
        self.release_cache(cache);
        computed.map(|_| now_ms() - started)
    }

    /// Milliseconds that `times` repetitions of one product per layer take.
    async fn time_products(&mut self, packed: bool, times: usize) -> Result<f64> {
        let recorded = self.plan.record_products(&self.context, &self.pipelines, &self.scratch, packed, times)?;
        let started = now_ms();
        let layout = recorded.submit(&self.context, &self.scratch, &[0], &[]);
        self.read_back(layout.bytes).await?;
        Ok(now_ms() - started)
    }

    /// Waits for the submitted work and returns the first `bytes` bytes of the readback buffer.
    async fn read_back(&mut self, bytes: u64) -> Result<Vec<u8>> {
        self.reading = true;
        let read = self.context.read(&self.scratch.readback, bytes).await?;
        self.reading = false;
        Ok(read)
    }

    /// Computes a batch like [`Backend::forward`] and returns how long each dispatch took on the GPU. Recording them one by one makes the
    /// whole slower.
    ///
    /// # Errors
    ///
    /// If the device has no timestamps, and as `forward`.
    pub async fn profile(&mut self, batch: &[Work<'_>]) -> Result<Vec<Dispatch>> {
        self.ahead = None;
        self.profile = Some(Profile::new(&self.context)?);
        let computed = self.compute(batch).await;
        let profile = self.profile.take();
        computed?;
        match profile {
            Some(profile) => profile.read(&self.context).await,
            None => Ok(Vec::new()),
        }
    }

    /// The device that the model is on.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Statistics of the device.
    pub fn counters(&self) -> Counters {
        self.context.counters()
    }

    fn row(&self, segment: Segment, batch: &[Work<'_>]) -> Option<Row> {
        let id = batch[segment.work].cache;
        Some((segment, id, self.caches.get(id)?.capacity()))
    }

    fn record(&self, rows: &[Row]) -> Result<Recorded> {
        let chunk: Vec<_> = rows.iter().filter_map(|(segment, id, _)| Some((*segment, self.caches.get(*id)?))).collect();
        self.plan.record(&self.context, &self.pipelines, &self.architecture, &self.scratch, &self.adapters, &chunk, self.profile.as_ref())
    }

    /// Records the batch that follows these rows if every sequence continues with one token, as in decode. The commands depend on
    /// positions and buffers, not on the tokens, so they can be recorded while the GPU computes. Returns `None` if a sequence is still in
    /// its prompt, or if its cache has no room for another position.
    fn record_ahead(&self, segments: &[Segment], batch: &[Work<'_>]) -> Option<RecordedAhead> {
        if segments.len() != batch.len() || self.profile.is_some() {
            return None;
        }
        let following = segments.iter().enumerate().map(|(index, segment)| {
            let start = segment.start + segment.rows;
            let row = self.row(Segment { first_row: index, rows: 1, start, ..*segment }, batch)?;
            (segment.wanted != Wanted::Nothing && start < row.2).then_some(row)
        });
        let rows = following.collect::<Option<Vec<Row>>>()?;
        // An error is reported when the same commands are recorded again for the actual batch.
        let recorded = self.record(&rows).ok()?;
        Some(RecordedAhead { rows, recorded })
    }

    /// Makes room for `additional` more positions in a cache. Unknown ids are ignored.
    async fn grow(&mut self, cache: CacheId, additional: usize) -> Result<()> {
        let Some(cache) = self.caches.get_mut(cache) else { return Ok(()) };
        let positions = cache.length() + additional;
        cache.grow(&self.context, &self.pipelines, &self.scratch, &self.architecture, positions).await
    }

    /// Computes a batch in chunks. Returns one entry per work, in the order of the batch: its answer, if it wants one.
    async fn compute(&mut self, batch: &[Work<'_>]) -> Result<Vec<Option<Answer>>> {
        self.context.check()?;
        if std::mem::replace(&mut self.reading, false) {
            self.scratch.readback.unmap();
        }
        self.caches.check(batch, self.architecture.sizes.vocabulary)?;
        for work in batch {
            self.grow(work.cache, work.tokens().len()).await?;
        }
        let mut answers = vec![None; batch.len()];
        // The next token to compute: the index of its work, and its index in the work.
        let mut next = (0, 0);
        let (mut tokens, mut segments) = (Vec::new(), Vec::new());
        let mut angles = vec![Vec::new(); self.ropes.len()];
        while next.0 < batch.len() {
            tokens.clear();
            angles.iter_mut().for_each(Vec::clear);
            segments.clear();
            while let Some(work) = batch.get(next.0)
                && tokens.len() < self.scratch.rows
                && segments.len() < MAX_SEGMENTS
                && segments.iter().filter(|segment: &&Segment| segment.wanted != Wanted::Nothing).count() < MAX_OUTPUTS
            {
                let rest = &work.tokens()[next.1..];
                let rows = rest.len().min(self.scratch.rows - tokens.len());
                let start = self.caches.get(work.cache).map_or(0, KvCache::length) + next.1;
                let ends = rows == rest.len();
                if rows > 0 {
                    let wanted = if ends { work.wanted } else { Wanted::Nothing };
                    segments.push(Segment {
                        work: next.0,
                        first_row: tokens.len(),
                        rows,
                        start,
                        wanted,
                        adapter: work.adapter.map(|adapter| adapter.id),
                    });
                    tokens.extend(&rest[..rows]);
                    for (rope, angles) in self.ropes.iter().zip(&mut angles) {
                        (start..start + rows).for_each(|position| rope.push_angles(position, angles));
                    }
                }
                next = if ends { (next.0 + 1, 0) } else { (next.0, next.1 + rows) };
            }
            let rows: Vec<Row> = segments.iter().filter_map(|segment| self.row(*segment, batch)).collect();
            let recorded = match self.ahead.take() {
                Some(ahead) if ahead.rows == rows => ahead.recorded,
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
                    answers[work] = Some(answer.capped(self.architecture.logit_softcap));
                }
            }
        }
        for work in batch {
            if let Some(cache) = self.caches.get_mut(work.cache) {
                cache.commit(work.tokens().len());
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
        &self.architecture.sizes
    }

    fn gpu(&self) -> Option<Gpu> {
        Some(Gpu { adapter: self.context.name.clone(), counters: self.counters() })
    }

    fn rows_per_step(&self) -> usize {
        self.rows_per_step
    }

    fn is_lost(&self) -> bool {
        self.context.is_lost()
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        Ok(self.caches.add(KvCache::default()))
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.caches.remove(cache);
    }

    fn truncate_cache(&mut self, cache: CacheId, length: usize) -> usize {
        self.caches.get_mut(cache).map_or(0, |cache| cache.truncate(length))
    }

    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<usize>> {
        Box::pin(async move {
            if from == to {
                return Ok(self.truncate_cache(to, length));
            }
            let Some(positions) = self.caches.get(from).map(|source| length.min(source.length())) else { return Ok(0) };
            let Some(target) = self.caches.get_mut(to) else { return Ok(0) };
            target.truncate(0);
            target.grow(&self.context, &self.pipelines, &self.scratch, &self.architecture, positions).await?;
            if let Some((source, target)) = self.caches.pair(from, to) {
                target.copy(&self.context, &self.architecture.sizes, source, length);
            }
            Ok(positions)
        })
    }

    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>> {
        Box::pin(self.grow(cache, additional))
    }

    fn prepare_adapter<'a>(&'a mut self, adapter: &'a Rc<Adapter>) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.adapters.prepare(&self.context, &mut self.pipelines, &self.architecture, &self.scratch, adapter))
    }

    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>> {
        Box::pin(async move { Ok(self.compute(batch).await?.into_iter().flatten().collect()) })
    }
}

impl WebGpuWeights {
    /// Starts compiling the shaders for these tensors, so that compiling overlaps with loading the weights. The header is all that is
    /// needed.
    ///
    /// # Errors
    ///
    /// 5004 if there is no shader for a step of the architecture.
    pub async fn start_compiling(&mut self, architecture: &Architecture, tensors: &[TensorEntry]) -> Result<()> {
        let matrices = tensors.iter().filter(|entry| entry.shape.len() == 2).flat_map(|entry| {
            let kind = |role| MatrixKind { role, format: entry.format, columns: entry.shape[1] };
            Role::of_tensor(&entry.name, architecture).into_iter().map(kind)
        });
        let shaders = forward::shaders(self.context(), architecture, matrices)?;
        self.compile(&Sizes::from(architecture), &shaders).await;
        Ok(())
    }
}
