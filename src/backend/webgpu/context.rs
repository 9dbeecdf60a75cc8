//! The adapter and its device: capabilities, errors and loss, buffers, uploads, submission and readback.

use crate::backend::Counters;
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::LocalFuture;
use crate::host::signal;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which adapter to request, and which of its features may be used.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Whether a software adapter (SwiftShader, llvmpipe) is acceptable.
    pub software: bool,
    /// Native only: the adapter whose name, driver or driver information contains this text, ignoring case.
    pub named: Option<String>,
    /// Fast paths not to use, even if the adapter has them.
    pub without: Vec<Variant>,
    /// Use the shaders meant for hardware on a software adapter too.
    pub as_hardware: bool,
    /// Upper limit for the bytes of one binding, below the adapter's own limit.
    pub max_binding: Option<u64>,
    /// Timestamps, for `WebGpuBackend::profile`, if the adapter has them.
    pub timestamps: bool,
}

/// An optional fast path: not every adapter supports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `shader-f16`
    F16,
    /// Sums by subgroup operations.
    Subgroups,
    /// Packed dot products: four products of bytes per instruction (`dot4I8Packed`).
    PackedDot,
}

/// A device with its queue. Clones share the device, which is destroyed when the last clone is dropped.
#[derive(Clone)]
pub struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Adapter and backend, for instance "NVIDIA H100 (Vulkan)".
    pub name: String,
    pub is_software: bool,
    pub f16: bool,
    pub subgroups: bool,
    pub packed_dot: bool,
    /// Whether to use product shaders whose threads do not wait for one another, because barriers are expensive (on software adapters).
    pub serial: bool,
    /// Largest size of one binding, in bytes.
    pub max_binding: u64,
    /// Distance in bytes between uniforms that are selected by a dynamic offset.
    pub uniform_alignment: u64,
    counters: Rc<Cell<Counters>>,
    condition: Arc<Mutex<Condition>>,
    _owner: Rc<Owner>,
}

/// Destroys the device when dropped. In a browser its memory would otherwise be freed only when JavaScript collects garbage.
struct Owner(wgpu::Device);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

/// Failures of the device: its loss, and an error that no caller has received yet.
#[derive(Default)]
struct Condition {
    /// Why the device is lost. This is permanent.
    lost: Option<String>,
    /// The first error since the last `check`.
    error: Option<AiError>,
}

/// The workgroup memory in bytes and the threads per workgroup that the shaders need: WebGPU's default limits, which every adapter has.
const WORKGROUP_BYTES: u32 = 16384;
const WORKGROUP_THREADS: u32 = 256;

/// Smallest accepted limit for the bytes of a binding. Matrices are split by rows to fit into bindings, but with a smaller limit some other
/// buffer may not fit.
const LEAST_BINDING: u64 = 1 << 20;

impl Context {
    /// Requests an adapter and a device.
    ///
    /// # Errors
    ///
    /// 5004 if there is no WebGPU, no adapter or no device, if the only adapter is a software adapter and `choice` excludes it, or if the
    /// adapter's limits are too small. The text names the adapter and the reason.
    pub async fn request(choice: &Choice) -> Result<Self> {
        let (instance, has_packed_dot) = instance().await?;
        let adapter = find_adapter(&instance, choice).await?;
        let info = adapter.get_info();
        let is_software = info.device_type == wgpu::DeviceType::Cpu;
        let name = format!("{} ({:?})", if info.name.is_empty() { "GPU" } else { &info.name }, info.backend);
        if is_software && !choice.software {
            return Err(unavailable(format!("The only WebGPU adapter, {name}, computes on the CPU.")));
        }
        let limits = adapter.limits();
        let max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let max_binding = choice.max_binding.map_or(max_binding, |bytes| bytes.min(max_binding));
        for (what, has, needs) in [
            ("bytes in a storage binding", max_binding, LEAST_BINDING),
            ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size.into(), WORKGROUP_BYTES.into()),
            ("threads in a workgroup", limits.max_compute_invocations_per_workgroup.into(), WORKGROUP_THREADS.into()),
            ("storage buffers in a shader", limits.max_storage_buffers_per_shader_stage.into(), 5),
        ] {
            if has < needs {
                return Err(unavailable(format!("The WebGPU adapter {name} allows {has} {what}; {needs} are needed.")));
            }
        }
        let has = |feature, variant| adapter.features().contains(feature) && !choice.without.contains(&variant);
        let f16 = has(wgpu::Features::SHADER_F16, Variant::F16);
        let subgroups = has(wgpu::Features::SUBGROUP, Variant::Subgroups);
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::SHADER_F16, f16);
        features.set(wgpu::Features::SUBGROUP, subgroups);
        features.set(wgpu::Features::TIMESTAMP_QUERY, choice.timestamps && adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY));
        let wanted = wgpu::DeviceDescriptor {
            label: Some("workers-ai-local"),
            required_features: features,
            // The adapter's maximum for limits that depend on the model's size; the WebGPU defaults for the rest.
            required_limits: wgpu::Limits {
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                max_buffer_size: limits.max_buffer_size,
                min_uniform_buffer_offset_alignment: limits.min_uniform_buffer_offset_alignment,
                min_storage_buffer_offset_alignment: limits.min_storage_buffer_offset_alignment,
                max_compute_workgroup_storage_size: WORKGROUP_BYTES,
                max_compute_invocations_per_workgroup: WORKGROUP_THREADS,
                ..wgpu::Limits::default()
            },
            ..Default::default()
        };
        let (device, queue) = adapter
            .request_device(&wanted)
            .await
            .map_err(|error| unavailable(format!("The WebGPU adapter {name} provides no device: {}.", reason(&error))))?;
        let condition = Arc::new(Mutex::new(Condition::default()));
        let seen = Arc::clone(&condition);
        device.set_device_lost_callback(move |_, reason| lock(&seen).lost = Some(reason));
        let seen = Arc::clone(&condition);
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&seen).error.get_or_insert_with(|| of_wgpu(error));
        }));
        let serial = is_software && !choice.as_hardware;
        // Software adapters gain nothing from packed dot products.
        let packed_dot = has_packed_dot && !serial && !choice.without.contains(&Variant::PackedDot);
        let uniform_alignment = u64::from(limits.min_uniform_buffer_offset_alignment).max(64);
        Ok(Self {
            _owner: Rc::new(Owner(device.clone())),
            device,
            queue,
            name,
            is_software,
            f16,
            subgroups,
            packed_dot,
            serial,
            max_binding,
            uniform_alignment,
            counters: Default::default(),
            condition,
        })
    }

    /// Whether the device is lost. It then cannot compute any more.
    pub fn is_lost(&self) -> bool {
        lock(&self.condition).lost.is_some()
    }

    /// Marks the device as lost because a readback failed, and returns the error. (A browser reports the loss itself only later.)
    fn lose(&self, reason: &str) -> AiError {
        lock(&self.condition).lost.get_or_insert_with(|| reason.to_owned());
        lost(reason)
    }

    /// Reports uncaptured errors of the device, which have no caller that could receive them.
    ///
    /// # Errors
    ///
    /// 3040 if the device is lost; otherwise the first error since the last call. Further ones are discarded.
    pub fn check(&self) -> Result<()> {
        let mut condition = lock(&self.condition);
        if let Some(reason) = &condition.lost {
            return Err(lost(reason));
        }
        condition.error.take().map_or(Ok(()), Err)
    }

    /// Runs `work` at once inside error scopes. The future resolves to its result, or to its error. In a browser errors arrive only later,
    /// which is why this is asynchronous. `what` names the work in an out-of-memory error.
    pub fn checked<T: 'static>(&self, what: &str, work: impl FnOnce() -> T) -> LocalFuture<'static, Result<T>> {
        let (result, errors) = self.watched(what, work);
        Box::pin(async move { errors.await.map(|()| result) })
    }

    /// Like [`Context::checked`], but returns the result at once; await the future to learn whether the work failed.
    pub(super) fn watched<T>(&self, what: &str, work: impl FnOnce() -> T) -> (T, LocalFuture<'static, Result<()>>) {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let before = self.counters().bytes_allocated;
        let result = work();
        let wanted = self.counters().bytes_allocated.saturating_sub(before);
        // All three scopes are popped, innermost first, before any of them is awaited.
        let (validation, internal, memory) = (validation.pop(), internal.pop(), memory.pop());
        let (context, what) = (self.clone(), what.to_owned());
        let errors = async move {
            let (validation, internal, memory) = (validation.await, internal.await, memory.await);
            if memory.is_some() {
                // Any other error is a consequence: it concerns buffers that could not be allocated.
                return Err(context.out_of_memory(&what, wanted));
            }
            context.check()?;
            validation.or(internal).map_or(Ok(()), |error| Err(of_wgpu(error)))
        };
        (result, Box::pin(errors))
    }

    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Creates a buffer of `bytes` bytes, rounded up to a multiple of 16 and to at least 16. `what` names its purpose in errors.
    ///
    /// # Errors
    ///
    /// 3040 if the size exceeds `max_binding`, and natively if GPU memory runs out. In a browser the latter is reported only by
    /// [`Context::checked`] or [`Context::watched`] around the call.
    pub(super) fn create_buffer(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        // Empty buffers cannot be bound, and copies need whole words.
        let size = bytes.max(16).next_multiple_of(16);
        if size > self.max_binding {
            return Err(AiError::new(
                ErrorCode::OutOfCapacity,
                format!(
                    "The GPU ({}) allows {:.1} MB in one buffer; {what} needs {:.1} MB.",
                    self.name,
                    self.max_binding as f64 / 1e6,
                    size as f64 / 1e6
                ),
            ));
        }
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false });
        self.count(|counters| {
            counters.buffers_created += 1;
            counters.bytes_allocated += size;
        });
        #[cfg(not(target_family = "wasm"))]
        {
            let mut condition = lock(&self.condition);
            if matches!(&condition.error, Some(error) if error.code == ErrorCode::OutOfCapacity) {
                condition.error = None;
                return Err(self.out_of_memory(what, size));
            }
        }
        Ok(buffer)
    }

    /// Like [`Context::create_buffer`], but the buffer's memory is freed when it is dropped.
    pub(super) fn create_owned_buffer(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<OwnedBuffer> {
        Ok(OwnedBuffer { buffer: self.create_buffer(what, bytes, usage)?, context: self.clone() })
    }

    fn out_of_memory(&self, what: &str, bytes: u64) -> AiError {
        let others = self.counters().bytes_allocated.saturating_sub(bytes);
        AiError::new(
            ErrorCode::OutOfCapacity,
            format!(
                "Out of GPU memory ({}): {what} needs {:.1} MB beside {:.1} MB. Use a smaller model or a shorter context.",
                self.name,
                bytes as f64 / 1e6,
                others as f64 / 1e6
            ),
        )
    }

    /// Writes `bytes` into a buffer at `offset` (in bytes), before the next submission executes.
    pub(super) fn upload(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.write(buffer, offset, bytes);
        self.count(|counters| counters.bytes_uploaded += bytes.len() as u64);
    }

    #[cfg(not(target_family = "wasm"))]
    fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        self.queue.write_buffer(buffer, offset, bytes);
    }

    /// Like wgpu's `write_buffer`, except that the host may copy the bytes first, and that a refusal becomes an error instead of a panic.
    #[cfg(target_family = "wasm")]
    fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        let (Some(queue), Some(target)) = (self.queue.as_webgpu(), buffer.as_webgpu()) else { return };
        if let Err(text) = crate::host::gpu::write_buffer(queue.as_ref(), target.as_ref(), offset, bytes) {
            lock(&self.condition).error.get_or_insert_with(|| refused(&text));
        }
    }

    /// Empties wgpu's staging memory. Natively, uploads stay there until the next submission: this makes an empty one and blocks until
    /// it completes. In a browser the staging memory belongs to the browser, and blocking is not allowed.
    pub(super) fn drain_uploads(&self) {
        self.queue.submit([]);
        #[cfg(not(target_family = "wasm"))]
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }

    pub(super) fn submit(&self, commands: wgpu::CommandBuffer) {
        self.queue.submit([commands]);
        self.count(|counters| counters.submissions += 1);
    }

    /// Waits for the submitted work, then returns the first `bytes` bytes of a mappable buffer.
    ///
    /// # Errors
    ///
    /// 3040 if the device is lost or the buffer cannot be mapped, which counts as a lost device; otherwise an earlier uncaptured error.
    pub(super) async fn read(&self, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        self.check()?;
        let outcome = Arc::new(Mutex::new(None));
        let written = Arc::clone(&outcome);
        let (call, called) = signal();
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            *lock(&written) = Some(result);
            call();
        });
        // Native code blocks here, because nothing else polls the device. A browser polls it itself.
        #[cfg(not(target_family = "wasm"))]
        if let Err(error) = self.device.poll(wgpu::PollType::wait_indefinitely()) {
            self.check()?;
            return Err(self.lose(&error.to_string()));
        }
        called.await;
        self.check()?;
        match lock(&outcome).take() {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(self.lose(&error.to_string())),
            None => return Err(self.lose("it did not answer")),
        }
        let view = buffer.get_mapped_range(0..bytes).map_err(|error| self.lose(&error.to_string()))?;
        let result = view.to_vec();
        drop(view);
        buffer.unmap();
        self.count(|counters| counters.bytes_read_back += bytes);
        Ok(result)
    }
}

fn create_instance() -> wgpu::Instance {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    wgpu::Instance::new(wgpu::InstanceDescriptor { flags: wgpu::InstanceFlags::empty(), ..descriptor })
}

/// WebGPU, and whether its WGSL has packed dot products.
#[cfg(target_family = "wasm")]
async fn instance() -> Result<(wgpu::Instance, bool)> {
    let gpu = crate::host::gpu::find().await.map_err(unavailable)?;
    let instance = gpu.while_shown(create_instance).map_err(unavailable)?;
    Ok((instance, gpu.has_extension("packed_4x8_integer_dot_product")))
}

#[cfg(not(target_family = "wasm"))]
async fn instance() -> Result<(wgpu::Instance, bool)> {
    let instance = create_instance();
    let has_packed_dot = instance.wgsl_language_features().contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
    Ok((instance, has_packed_dot))
}

/// A buffer that is destroyed when it is dropped, not when JavaScript collects garbage. Work submitted before that can still use it.
pub struct OwnedBuffer {
    buffer: wgpu::Buffer,
    context: Context,
}

impl std::ops::Deref for OwnedBuffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for OwnedBuffer {
    fn drop(&mut self) {
        self.buffer.destroy();
        self.context.count(|counters| counters.bytes_allocated = counters.bytes_allocated.saturating_sub(self.buffer.size()));
    }
}

#[cfg(target_family = "wasm")]
async fn find_adapter(instance: &wgpu::Instance, _: &Choice) -> Result<wgpu::Adapter> {
    preferred_adapter(instance).await
}

#[cfg(not(target_family = "wasm"))]
async fn find_adapter(instance: &wgpu::Instance, choice: &Choice) -> Result<wgpu::Adapter> {
    let Some(name) = &choice.named else { return preferred_adapter(instance).await };
    let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let names = |info: &wgpu::AdapterInfo| format!("{} {} {}", info.name, info.driver, info.driver_info).to_lowercase();
    let found: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let wanted = name.to_lowercase();
    adapters
        .into_iter()
        .find(|adapter| names(&adapter.get_info()).contains(&wanted))
        .ok_or_else(|| unavailable(format!("There is no WebGPU adapter named '{name}', only: {}.", found.join(", "))))
}

async fn preferred_adapter(instance: &wgpu::Instance) -> Result<wgpu::Adapter> {
    let options = wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    // wgpu's own error lists backends that are not compiled in, which helps nobody.
    instance.request_adapter(&options).await.map_err(|_| unavailable("There is no WebGPU adapter here.".to_owned()))
}

/// The message of an error, without the `JsValue(…)` around it and the stack after it that JavaScript errors are printed with.
fn reason(error: &wgpu::RequestDeviceError) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("JsValue(").unwrap_or(first).trim_end_matches(['.', ')']).to_owned()
}

/// Locks a mutex, even if another thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 5004: this machine has no GPU that can compute. Trying again does not help.
fn unavailable(text: String) -> AiError {
    AiError::invalid_data(text)
}

fn lost(reason: &str) -> AiError {
    AiError::new(ErrorCode::OutOfCapacity, format!("The GPU was lost ({reason}). Try again."))
}

fn of_wgpu(error: wgpu::Error) -> AiError {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            AiError::new(ErrorCode::OutOfCapacity, "Out of GPU memory. Use a smaller model or a shorter context.")
        }
        error => refused(&error),
    }
}

pub(super) fn refused(reason: &dyn std::fmt::Display) -> AiError {
    AiError::invalid_data(format!("The GPU refused its work: {reason}."))
}
