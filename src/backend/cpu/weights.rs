//! The packed weights of a model, and the sink that collects them while a model loads.

use crate::error::{AiError, Result};
use crate::model::{Role, Tensor, WeightCollector, WeightSink};
use kernels::packed::Packed;
use kernels::packing::Packing;

/// All weights of a model: matrices are packed, vectors are f32.
pub type Weights = crate::model::Weights<Packed, Vec<f32>>;

/// Packs and collects weights as their bytes arrive.
#[derive(Default)]
pub struct CpuWeights {
    collected: WeightCollector<Packed>,
    filling: Option<Filling>,
}

/// The tensor whose bytes are arriving.
struct Filling {
    role: Role,
    is_matrix: bool,
    packing: Packing,
}

impl WeightSink for CpuWeights {
    fn begin(&mut self, tensor: &Tensor<'_>) -> Result<()> {
        let packing = Packing::new(tensor.format, tensor.rows, tensor.columns)?;
        self.filling = Some(Filling { role: tensor.role, is_matrix: tensor.is_matrix, packing });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.filling {
            Some(filling) => Ok(filling.packing.write(bytes)?),
            None => Err(AiError::invalid_data("Bytes arrived before a tensor was begun.")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let Some(Filling { role, is_matrix, packing }) = self.filling.take() else { return Ok(()) };
        let packed = packing.finish()?;
        if is_matrix {
            self.collected.add_matrix(role, packed);
        } else {
            self.collected.add_vector(role, packed.numbers());
        }
        Ok(())
    }
}

impl CpuWeights {
    /// The weights that have arrived.
    ///
    /// # Errors
    /// None here; see [`WeightCollector::into_weights`].
    pub fn build(self) -> Result<Weights> {
        self.collected.into_weights(Ok)
    }
}
