//! Chooses the backend of a model: loads its weights on the GPU if that is wanted and possible, otherwise on the CPU.

use super::memory::{Memory, Needs, Taken};
use crate::backend::Backend;
use crate::backend::cpu::{CpuBackend, CpuModel, CpuWeights};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::{Header, Parts, Progress, Source, TensorEntry};
use crate::model::{Architecture, load_weights};
use kernels::memory::try_grow;
use serde::Serialize;
use std::rc::Rc;

/// The backend that a configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The GPU if there is a hardware adapter that computes correctly, otherwise the CPU.
    #[default]
    Auto,
    /// The GPU, including software adapters (SwiftShader, llvmpipe); an error if there is none.
    WebGpu,
    Cpu,
}

/// A backend that holds a model's weights.
pub struct LoadedBackend {
    pub backend: Box<dyn Backend>,
    /// What it takes of this instance's memory; `None` on the GPU.
    pub taken: Option<Taken>,
    /// Why it is not the GPU, if the configuration did not ask for the CPU.
    pub reason: Option<String>,
}

/// The phase of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Loading the file's weights into the backend.
    Weights,
    /// Waiting for the GPU's kernels, which are compiled while the weights are loaded.
    Compile,
    /// Comparing each kernel with its reference implementation.
    Check,
}

/// Progress of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    pub phase: Phase,
    /// Bytes of the file.
    pub bytes: Progress,
    /// The GPU's kernels, in the phases `Compile` and `Check`.
    pub kernels: Option<ShaderProgress>,
}

/// How many of the GPU's kernels the current phase has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShaderProgress {
    pub ready: usize,
    pub total: usize,
}

/// A model's file, or files if it is split, and the backend that is asked for.
pub struct ModelFile {
    pub source: Rc<dyn Source>,
    pub memory: Rc<Memory>,
    pub choice: BackendChoice,
    pub on_progress: Rc<dyn Fn(LoadProgress)>,
}

impl ModelFile {
    /// Reads its header, and returns it with a reader at the beginning of the file; see [`Parts::open`].
    ///
    /// # Errors
    ///
    /// Like [`Parts::open`].
    pub async fn open(&self) -> Result<(Header, Parts)> {
        let on_progress = Rc::clone(&self.on_progress);
        let report = move |bytes| on_progress(LoadProgress { phase: Phase::Weights, bytes, kernels: None });
        Parts::open(Rc::clone(&self.source), Rc::new(report)).await
    }

    /// The same file with the CPU as backend; `None` unless the choice is `Auto`.
    pub fn cpu_fallback(&self) -> Option<Self> {
        (self.choice == BackendChoice::Auto).then(|| Self {
            source: Rc::clone(&self.source),
            memory: Rc::clone(&self.memory),
            choice: BackendChoice::Cpu,
            on_progress: Rc::clone(&self.on_progress),
        })
    }

    /// Loads the weights into a backend. `reader` has read the header.
    ///
    /// # Errors
    ///
    /// An error of the file, 3040 if memory runs out, and with the choice `WebGpu` the reason why there is no usable GPU.
    pub async fn load_backend(&self, tensors: Vec<TensorEntry>, architecture: &Architecture, reader: Parts) -> Result<LoadedBackend> {
        let (unread, error) = match gpu::find(self.choice, &tensors, architecture).await {
            None => (Some((tensors, reader)), None),
            // No weights have been read yet: the CPU continues with the same reader.
            Some(Err(error)) => (Some((tensors, reader)), Some(error)),
            Some(Ok(gpu)) => match gpu.load_backend(&tensors, architecture, reader, &*self.on_progress).await {
                Ok(backend) => return Ok(LoadedBackend { backend, taken: None, reason: None }),
                // The file may be the cause (damaged or unreachable). Then the CPU fails too, and its error is the clearest.
                Err(error) => (None, Some(error)),
            },
        };
        if let Some(error) = &error
            && self.choice == BackendChoice::WebGpu
        {
            return Err(AiError { text: format!("{} Set backend: \"cpu\" to compute on the CPU.", error.text), code: error.code });
        }
        let reason = error.map(|error| error.text);
        let (tensors, reader) = match unread {
            Some(unread) => unread,
            None => {
                let (header, reader) = self.open().await?;
                (header.into_tensors(), reader)
            }
        };
        match (load_on_cpu(&tensors, architecture, reader, &self.memory).await, reason) {
            (Err(AiError { code: ErrorCode::OutOfCapacity, text }), Some(reason)) => {
                Err(AiError::new(ErrorCode::OutOfCapacity, format!("{text} The GPU was not used: {reason}")))
            }
            (loaded, reason) => {
                let (model, taken) = loaded?;
                Ok(LoadedBackend { backend: Box::new(CpuBackend::new(model)), taken: Some(taken), reason })
            }
        }
    }

    /// Reads the file again from its beginning and loads it into a new backend.
    ///
    /// # Errors
    ///
    /// Like [`ModelFile::load_backend`].
    pub async fn reload_backend(&self) -> Result<LoadedBackend> {
        let (header, reader) = self.open().await?;
        let architecture = Architecture::from_header(&header, &reader.name())?;
        self.load_backend(header.into_tensors(), &architecture, reader).await
    }
}

/// Loads the weights into this instance's memory. `reader` has read the header.
///
/// # Errors
///
/// An error of the file; 3040 or [`ErrorCode::NeedsMoreMemory`] if memory runs out.
pub async fn load_on_cpu(
    tensors: &[TensorEntry],
    architecture: &Architecture,
    mut reader: Parts,
    memory: &Rc<Memory>,
) -> Result<(CpuModel, Taken)> {
    // Weights for which there can be no memory are refused at once; loading them would first use up all of it. (A file that is shorter than its
    // tensors claim is damaged, not large, so it gets another error.)
    let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.length));
    let total = reader.progress().total;
    let is_cut = total.is_some_and(|size| size < bytes);
    let needs = if is_cut { Needs::of(&[], architecture) } else { Needs::of(tensors, architecture) };
    let taken = memory.take(&reader.name(), needs)?;
    if let Ok(bytes) = usize::try_from(bytes)
        && total.is_some()
        && !is_cut
    {
        grow_once(bytes);
    }
    let mut weights = CpuWeights::default();
    load_weights(tensors, architecture, &mut reader, &mut weights).await?;
    reader.verify().await?;
    Ok((CpuModel::new(architecture.clone(), weights)?, taken))
}

/// Lets the memory grow once by the size of the weights, not for every tensor. Where it cannot, the tensors may still find room in what earlier
/// models have left.
fn grow_once(bytes: usize) {
    let mut room = Vec::<u8>::new();
    try_grow(&mut room, bytes);
}

#[cfg(feature = "webgpu")]
mod gpu {
    use super::*;
    use crate::backend::webgpu::{Choice, Context, Options, WebGpuBackend, WebGpuWeights};

    /// A GPU that can compute a model.
    pub struct Gpu(Context);

    /// The GPU for a model: `None` if the choice is `Cpu`, an error if no adapter can compute this model.
    pub async fn find(choice: BackendChoice, tensors: &[TensorEntry], architecture: &Architecture) -> Option<Result<Gpu>> {
        let software = match choice {
            BackendChoice::Cpu => return None,
            BackendChoice::Auto => false,
            BackendChoice::WebGpu => true,
        };
        let context = Context::request(&Choice { software, ..Choice::default() }).await;
        Some(context.and_then(|context| {
            WebGpuWeights::check(tensors)?;
            WebGpuBackend::check(architecture)?;
            Ok(Gpu(context))
        }))
    }

    impl Gpu {
        /// Loads the weights while the kernels are compiled, then checks every kernel.
        pub async fn load_backend(
            self,
            tensors: &[TensorEntry],
            architecture: &Architecture,
            mut reader: Parts,
            on_progress: &dyn Fn(LoadProgress),
        ) -> Result<Box<dyn Backend>> {
            let mut weights = WebGpuWeights::new(&self.0);
            weights.start_compiling(architecture, tensors).await?;
            load_weights(tensors, architecture, &mut reader, &mut weights).await?;
            reader.verify().await?;
            let bytes = reader.progress();
            drop(reader);
            let report =
                |phase| move |ready, total| on_progress(LoadProgress { phase, bytes, kernels: Some(ShaderProgress { ready, total }) });
            let mut backend = WebGpuBackend::new(architecture.clone(), weights, Options::default(), &report(Phase::Compile)).await?;
            backend.self_check(&report(Phase::Check)).await?;
            backend.tune().await?;
            Ok(Box::new(backend))
        }
    }
}

#[cfg(not(feature = "webgpu"))]
mod gpu {
    use super::*;

    pub enum Gpu {}

    pub async fn find(choice: BackendChoice, _: &[TensorEntry], _: &Architecture) -> Option<Result<Gpu>> {
        (choice != BackendChoice::Cpu).then(|| Err(AiError::invalid_data("The build with 64-bit memory computes on the CPU only.")))
    }

    impl Gpu {
        pub async fn load_backend(
            self,
            _: &[TensorEntry],
            _: &Architecture,
            _: Parts,
            _: &dyn Fn(LoadProgress),
        ) -> Result<Box<dyn Backend>> {
            match self {}
        }
    }
}
