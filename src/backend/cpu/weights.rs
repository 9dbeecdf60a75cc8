//! The weights of a llama model in the CPU's memory, and the sink that collects them.

use crate::error::{AiError, Result};
use crate::model::{Collected, Role, Tensor, WeightSink};
use kernels::packed::{Packed, Packing};

/// Every weight of a model.
pub type Weights = crate::model::Weights<Packed, Vec<f32>>;

/// Collects weights as they arrive.
#[derive(Default)]
pub struct CpuWeights {
    collected: Collected<Packed>,
    filling: Option<Filling>,
}

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
            None => Err(AiError::invalid_data("Bytes came for no tensor.")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        let Some(Filling { role, is_matrix, packing }) = self.filling.take() else { return Ok(()) };
        let packed = packing.finish();
        if is_matrix {
            self.collected.add_matrix(role, packed);
        } else {
            self.collected.add_vector(role, packed.numbers());
        }
        Ok(())
    }
}

impl CpuWeights {
    /// The complete weights of a model of `layers` layers.
    pub fn build(self, layers: usize) -> Result<Weights> {
        self.collected.into_weights(layers, Ok)
    }
}
