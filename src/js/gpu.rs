//! The host's WebGPU, as the package's `gpu.js` finds it.

use super::task::settled;
use js_sys::{Function, Promise, Reflect};
use std::panic::{AssertUnwindSafe, UnwindSafe};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(raw_module = "../../gpu.js")]
extern "C" {
    #[wasm_bindgen(catch, js_name = findGpu)]
    fn find_gpu() -> Result<Promise, JsValue>;

    #[wasm_bindgen(catch, js_name = whileShown)]
    fn while_shown(gpu: &JsValue, work: &mut dyn FnMut()) -> Result<(), JsValue>;

    #[wasm_bindgen(catch, js_name = writeBuffer)]
    fn write_to_buffer(queue: &JsValue, buffer: &JsValue, offset: f64, bytes: &[u8]) -> Result<(), JsValue>;

    #[wasm_bindgen(catch, js_name = beginPipeline)]
    fn begin_pipeline(device: &JsValue, create: &mut dyn FnMut()) -> Result<Promise, JsValue>;

    #[wasm_bindgen(catch, js_name = takePipeline)]
    fn take_pipeline(device: &JsValue, pipeline: &JsValue, create: &mut dyn FnMut()) -> Result<(), JsValue>;
}

/// The host's `GPU` object; in a page it is `navigator.gpu`.
pub struct HostGpu(JsValue);

/// Finds the host's WebGPU. Only inside a [`Task`](super::task::Task).
///
/// # Errors
///
/// The reason why there is none.
pub async fn find() -> Result<HostGpu, String> {
    let promise = find_gpu().map_err(text_of)?;
    settled(promise).await.map(HostGpu).map_err(text_of)
}

impl HostGpu {
    /// Whether its WGSL supports a language extension.
    pub fn has_extension(&self, name: &str) -> bool {
        let get = |from: &JsValue, key: &str| Reflect::get(from, &key.into()).unwrap_or_default();
        let extensions = get(&self.0, "wgslLanguageFeatures");
        let has = get(&extensions, "has").dyn_into::<Function>();
        has.and_then(|has| has.call1(&extensions, &name.into())).is_ok_and(|has| has.is_truthy())
    }

    /// Returns the result of `work`. While `work` runs, wgpu finds this GPU where it looks for one.
    ///
    /// # Errors
    ///
    /// The text of a JavaScript exception.
    pub fn while_shown<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        let (mut work, mut result) = (Some(work), None);
        while_shown(&self.0, &mut unwind_safe(|| result = work.take().map(|work| work()))).map_err(text_of)?;
        result.ok_or_else(|| "gpu.js did not run the callback.".to_owned())
    }
}

/// Writes `bytes` at `offset` (bytes) into a `GPUBuffer`, before the commands that are submitted next.
///
/// # Errors
///
/// The text of a JavaScript exception.
pub fn write_buffer(queue: &JsValue, buffer: &JsValue, offset: u64, bytes: &[u8]) -> Result<(), String> {
    write_to_buffer(queue, buffer, offset as f64, bytes).map_err(text_of)
}

/// A compute pipeline that the host compiles concurrently with other work.
pub struct PendingPipeline {
    device: JsValue,
    pipeline: Promise,
}

impl PendingPipeline {
    /// Starts to compile the pipeline that `create` makes with wgpu. The object that `create` returns here is not usable and is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The text of a JavaScript exception.
    pub fn begin<T>(device: &JsValue, create: impl Fn() -> T) -> Result<Self, String> {
        let pipeline = begin_pipeline(device, &mut unwind_safe(|| drop(create()))).map_err(text_of)?;
        Ok(Self { device: device.clone(), pipeline })
    }

    /// Waits until the pipeline is compiled. Then calls `create` again, and wgpu receives the compiled pipeline. Only inside a
    /// [`Task`](super::task::Task).
    ///
    /// # Errors
    ///
    /// Why the pipeline could not be compiled.
    pub async fn finish<T>(self, create: impl Fn() -> T) -> Result<T, String> {
        let pipeline = settled(self.pipeline).await.map_err(text_of)?;
        let mut result = None;
        take_pipeline(&self.device, &pipeline, &mut unwind_safe(|| result = Some(create()))).map_err(text_of)?;
        result.ok_or_else(|| "wgpu made no pipeline".to_owned())
    }
}

/// `work` as a callback for JavaScript. If it panics, the panic goes on as an exception in the caller, whose result is then an error.
fn unwind_safe(work: impl FnMut()) -> impl FnMut() + UnwindSafe {
    let mut work = AssertUnwindSafe(work);
    move || {
        let work = &mut work;
        (work.0)();
    }
}

/// The text of a thrown value: its message, if it has one.
fn text_of(thrown: JsValue) -> String {
    let message = Reflect::get(&thrown, &"message".into()).ok().and_then(|message| message.as_string());
    message.unwrap_or_else(|| format!("{thrown:?}"))
}
