//! Which backend computes a model: bringing its weights to the GPU where that is wanted and possible, to the CPU otherwise.

use crate::backend::Backend;
use crate::backend::cpu::{CpuBackend, CpuWeights};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::{Header, Progress, Reader, Source, TensorEntry};
use crate::model::{Hyperparameters, load_weights};
use serde::Serialize;
use std::rc::Rc;

/// What a configuration wants to be computed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The GPU if there is a real one that computes rightly, otherwise the CPU.
    #[default]
    Auto,
    /// The GPU, even one that a CPU plays; an error without it.
    WebGpu,
    Cpu,
}

/// A model's weights in their place.
pub struct Placed {
    pub backend: Box<dyn Backend>,
    /// Why it is not the GPU, where that was not asked for.
    pub reason: Option<String>,
}

/// What a load is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Bringing the file's weights to where they are computed.
    Weights,
    /// Waiting for the GPU's kernels, which are compiled while the weights come.
    Compile,
    /// Holding each kernel to its plain twin.
    Check,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    pub phase: Phase,
    /// Of the file.
    pub bytes: Progress,
    /// Of the GPU's kernels, in the phases that are about them.
    pub kernels: Option<Kernels>,
}

/// How many of them a phase is through with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kernels {
    pub ready: usize,
    pub total: usize,
}

/// A file with a model, and how it is to be computed.
pub struct ModelFile {
    pub source: Rc<dyn Source>,
    pub choice: BackendChoice,
    pub on_progress: Rc<dyn Fn(LoadProgress)>,
}

impl ModelFile {
    /// Reads the file from its beginning.
    pub fn reader(&self) -> Reader {
        let on_progress = Rc::clone(&self.on_progress);
        let report = move |bytes| on_progress(LoadProgress { phase: Phase::Weights, bytes, kernels: None });
        Reader::new(Rc::clone(&self.source), Box::new(report))
    }

    /// The same file on the CPU, if that is allowed.
    pub fn on_cpu(&self) -> Option<Self> {
        (self.choice == BackendChoice::Auto).then(|| Self {
            source: Rc::clone(&self.source),
            choice: BackendChoice::Cpu,
            on_progress: Rc::clone(&self.on_progress),
        })
    }

    /// Brings the weights to a backend. `reader` has read the header.
    pub async fn place(&self, tensors: &[TensorEntry], parameters: &Hyperparameters, reader: Reader) -> Result<Placed> {
        let (reader, error) = match gpu::find(self.choice, tensors, parameters).await {
            None => (reader, None),
            // Nothing is read yet: the CPU goes on with the same reader.
            Some(Err(error)) => (reader, Some(error)),
            Some(Ok(gpu)) => match gpu.place(tensors, parameters, reader, &*self.on_progress).await {
                Ok(backend) => return Ok(Placed { backend, reason: None }),
                // A file that is damaged or does not come is so for every backend, and the CPU's error says it best.
                Err(error) => (self.reader(), Some(error)),
            },
        };
        if let Some(error) = &error
            && self.choice == BackendChoice::WebGpu
        {
            return Err(AiError { text: format!("{} backend: \"cpu\" would compute on the CPU.", error.text), code: error.code });
        }
        let reason = error.map(|error| error.text);
        match (to_cpu(tensors, parameters, reader).await, reason) {
            (Err(AiError { code: ErrorCode::OutOfCapacity, text }), Some(reason)) => {
                Err(AiError::new(ErrorCode::OutOfCapacity, format!("{text} The GPU was not taken: {reason}")))
            }
            (backend, reason) => Ok(Placed { backend: backend?, reason }),
        }
    }

    /// Brings a model that was loaded before to a backend again.
    pub async fn place_again(&self) -> Result<Placed> {
        let mut reader = self.reader();
        let name = reader.name();
        let header = Header::read(&mut reader).await?;
        let parameters = Hyperparameters::from_header(&header, &name)?;
        self.place(&header.into_tensors(), &parameters, reader).await
    }
}

async fn to_cpu(tensors: &[TensorEntry], parameters: &Hyperparameters, mut reader: Reader) -> Result<Box<dyn Backend>> {
    // What no address can reach is not begun, as it would take all the memory that there is. (A file that is too short for its own tensors
    // is damaged rather than large.)
    let bytes = tensors.iter().fold(0u64, |sum, tensor| sum.saturating_add(tensor.length));
    if usize::try_from(bytes).is_err() && reader.size().is_none_or(|size| size >= bytes) {
        return Err(AiError::out_of_memory("loading the model's weights", bytes));
    }
    let mut weights = CpuWeights::default();
    load_weights(tensors, parameters, &mut reader, &mut weights).await?;
    Ok(Box::new(CpuBackend::new(parameters.clone(), weights)?))
}

#[cfg(feature = "webgpu")]
mod gpu {
    use super::*;
    use crate::backend::webgpu::{Choice, Context, Options, WebGpuBackend, WebGpuWeights};

    /// A GPU that has kernels for a model.
    pub struct Gpu(Context);

    /// The GPU that is to compute; `None` where none is wanted.
    pub async fn find(choice: BackendChoice, tensors: &[TensorEntry], parameters: &Hyperparameters) -> Option<Result<Gpu>> {
        let software = match choice {
            BackendChoice::Cpu => return None,
            BackendChoice::Auto => false,
            BackendChoice::WebGpu => true,
        };
        let context = Context::request(&Choice { software, ..Choice::default() }).await;
        Some(context.and_then(|context| {
            WebGpuWeights::check(tensors)?;
            WebGpuBackend::check(parameters)?;
            Ok(Gpu(context))
        }))
    }

    impl Gpu {
        /// Brings the weights there while the kernels are compiled, and checks every kernel.
        pub async fn place(
            self,
            tensors: &[TensorEntry],
            parameters: &Hyperparameters,
            mut reader: Reader,
            on_progress: &dyn Fn(LoadProgress),
        ) -> Result<Box<dyn Backend>> {
            let mut weights = WebGpuWeights::new(&self.0);
            weights.begin_kernels(parameters, tensors).await;
            load_weights(tensors, parameters, &mut reader, &mut weights).await?;
            let bytes = reader.progress();
            drop(reader);
            let report = |phase| move |ready, total| on_progress(LoadProgress { phase, bytes, kernels: Some(Kernels { ready, total }) });
            let mut backend = WebGpuBackend::new(parameters.clone(), weights, Options::default(), &report(Phase::Compile)).await?;
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

    pub async fn find(choice: BackendChoice, _: &[TensorEntry], _: &Hyperparameters) -> Option<Result<Gpu>> {
        (choice != BackendChoice::Cpu).then(|| Err(AiError::invalid_data("This build computes on the CPU only.")))
    }

    impl Gpu {
        pub async fn place(self, _: &[TensorEntry], _: &Hyperparameters, _: Reader, _: &dyn Fn(LoadProgress)) -> Result<Box<dyn Backend>> {
            match self {}
        }
    }
}
