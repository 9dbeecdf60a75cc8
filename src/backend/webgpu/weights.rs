//! The weights of a llama model in GPU buffers, and the sink that brings them there as they arrive.

use super::context::Context;
use super::forward;
use super::layout::{self, Plane, UNIT};
use super::shaders::{Compiling, Sizes};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::{LocalFuture, TensorEntry};
use crate::model::{Collected, Hyperparameters, Role, Tensor, WeightSink};
use kernels::Format;
use kernels::packed::Packing;
use std::future::ready;

/// Every weight of a model.
pub type Weights = crate::model::Weights<Matrix, wgpu::Buffer>;

/// What of a matrix decides by which kernels it is computed.
#[derive(Debug, Clone, Copy)]
pub struct MatrixKind {
    pub role: Role,
    pub format: Format,
    pub columns: usize,
}

/// What matrices that have come are computed by.
pub fn kinds(weights: &Weights) -> impl Iterator<Item = MatrixKind> {
    weights.matrices().map(|(role, matrix)| MatrixKind { role, format: matrix.format, columns: matrix.columns })
}

/// A matrix `[rows, columns]` on the GPU.
pub struct Matrix {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    planes: [Plane; 4],
    /// One buffer, or several where the adapter does not allow one that is large enough.
    pub parts: Vec<Part>,
}

/// Some rows of a matrix in one buffer.
pub struct Part {
    pub rows: usize,
    pub buffer: wgpu::Buffer,
    /// `Shape` of `matrix.wgsl`.
    pub shape: wgpu::Buffer,
    /// Where the planes begin.
    offsets: [u64; 4],
}

/// Rows that threads of `matvec.wgsl` compute together.
pub const ROWS_AT_ONCE: usize = 4;

/// Workgroups that one dispatch may have in one dimension.
const MAX_WORKGROUPS: usize = 65535;

impl Matrix {
    /// Room for a matrix, in as many buffers as it takes.
    pub fn new(context: &Context, what: &str, format: Format, rows: usize, columns: usize) -> Result<Self> {
        let Some(planes) = layout::planes(format) else {
            return Err(no_kernels(what, format));
        };
        if rows == 0 || columns == 0 || !columns.is_multiple_of(UNIT) || !columns.is_multiple_of(format.columns()) {
            return Err(unsupported(format!("Tensor '{what}' has {columns} columns; the GPU computes whole groups of {UNIT}.")));
        }
        let blocks = columns / format.columns();
        // What aligning the planes costs at most.
        let usable = context.max_binding.saturating_sub(64);
        let most = usable / (blocks as u64 * format.file_bytes() as u64);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(MAX_WORKGROUPS * ROWS_AT_ONCE);
        let most = most / ROWS_AT_ONCE * ROWS_AT_ONCE;
        if most == 0 {
            return Err(unsupported(format!("Rows of the tensor '{what}' are larger than a buffer of this GPU may be.")));
        }
        let mut parts = Vec::new();
        for first in (0..rows).step_by(most) {
            let count = most.min(rows - first);
            let (offsets, bytes) = layout::offsets(&planes, count * blocks);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let buffer = context.create_buffer(what, bytes, usage)?;
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let shape = context.create_buffer(what, 32, usage)?;
            let [_, high, scales, extra] = offsets.map(|offset| offset / 4);
            let numbers = [count as u64, (columns / UNIT) as u64, columns as u64 / 4, first as u64, rows as u64, high, scales, extra];
            let numbers: Vec<u8> = numbers.iter().flat_map(|number| (*number as u32).to_le_bytes()).collect();
            context.upload(&shape, 0, &numbers);
            parts.push(Part { rows: count, buffer, shape, offsets });
        }
        Ok(Self { format, rows, columns, planes, parts })
    }
}

/// Brings a tensor's bytes into a matrix, as they come.
pub struct Filling {
    matrix: Matrix,
    /// The part that is being filled, and its blocks that are there.
    part: usize,
    done: usize,
    /// Bytes that are not there yet: less than a block, or as much as one piece.
    pending: Vec<u8>,
    /// One plane of a piece on its way.
    staging: Vec<u8>,
}

/// Bytes that are taken apart at once.
const PIECE: usize = 1 << 20;

impl Filling {
    pub fn new(matrix: Matrix) -> Self {
        Self { matrix, part: 0, done: 0, pending: Vec::new(), staging: Vec::new() }
    }

    /// The next bytes of the tensor.
    pub fn write(&mut self, context: &Context, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            if self.pending.try_reserve(piece.len()).is_err() {
                return Err(AiError::out_of_memory("staging weights for the GPU", piece.len() as u64));
            }
            self.pending.extend_from_slice(piece);
            self.upload(context)?;
        }
        Ok(())
    }

    /// Uploads all whole blocks that are pending.
    fn upload(&mut self, context: &Context) -> Result<()> {
        let block_bytes = self.matrix.format.file_bytes();
        let row_blocks = self.matrix.columns / self.matrix.format.columns();
        let mut used = 0;
        while let Some(part) = self.matrix.parts.get(self.part) {
            let missing = part.rows * row_blocks - self.done;
            let mut count = ((self.pending.len() - used) / block_bytes).min(missing);
            if count < missing {
                // Two bytes of every block are whole words only for pairs of blocks.
                count &= !1;
            }
            if count == 0 {
                break;
            }
            let blocks = &self.pending[used..used + count * block_bytes];
            for (plane, offset) in self.matrix.planes.iter().zip(part.offsets).filter(|(plane, _)| plane.bytes > 0) {
                let to = offset + (self.done * plane.bytes) as u64;
                let bytes = count * plane.bytes;
                if plane.bytes == block_bytes && bytes.is_multiple_of(4) {
                    context.upload(&part.buffer, to, blocks);
                    continue;
                }
                let size = bytes.next_multiple_of(4);
                self.staging.clear();
                if self.staging.try_reserve(size).is_err() {
                    return Err(AiError::out_of_memory("staging weights for the GPU", size as u64));
                }
                self.staging.resize(size, 0);
                layout::copy_plane(*plane, block_bytes, blocks, &mut self.staging[..bytes]);
                context.upload(&part.buffer, to, &self.staging);
            }
            used += blocks.len();
            self.done += count;
            if count == missing {
                (self.part, self.done) = (self.part + 1, 0);
            }
        }
        self.pending.drain(..used);
        Ok(())
    }

    /// The matrix, if all of it has come.
    pub fn finish(self) -> Result<Matrix> {
        if self.part < self.matrix.parts.len() {
            return Err(AiError::invalid_data("A tensor has fewer bytes than its shape says."));
        }
        Ok(self.matrix)
    }
}

/// Collects weights as they arrive.
pub struct WebGpuWeights {
    context: Context,
    collected: Collected<Matrix>,
    filling: Option<(Role, Target)>,
    /// Bytes that were uploaded since the last time that the GPU was waited for.
    undrained: usize,
    /// The kernels, which are compiled meanwhile.
    compiling: Option<Compiling>,
    /// Whether there was memory for the tensor that was begun, as soon as that is known.
    room: Option<LocalFuture<'static, Result<()>>>,
}

enum Target {
    Matrix(Box<Filling>),
    /// Norms are few numbers: they become F32.
    Vector(Packing),
}

/// Bytes that may be on their way to the GPU at once, where we can tell.
const MAX_UNDRAINED: usize = 64 << 20;

impl WebGpuWeights {
    /// Whether the GPU has kernels for these tensors: told before any of them is read.
    pub fn check(tensors: &[TensorEntry]) -> Result<()> {
        let matrices = tensors.iter().filter(|entry| entry.shape.len() == 2);
        let missing = matrices.filter_map(|entry| Some((entry, entry.format()?))).find(|(_, format)| layout::planes(*format).is_none());
        missing.map_or(Ok(()), |(entry, format)| Err(no_kernels(&entry.name, format)))
    }

    pub fn new(context: &Context) -> Self {
        Self { context: context.clone(), collected: Collected::default(), filling: None, undrained: 0, compiling: None, room: None }
    }

    /// Begins to compile the kernels for these tensors, so that they are ready when the tensors are there.
    pub async fn begin_kernels(&mut self, p: &Hyperparameters, tensors: &[TensorEntry]) {
        let matrices = tensors.iter().filter_map(|entry| {
            let [_, columns] = entry.shape[..] else { return None };
            Some(MatrixKind { role: Role::from_name(&entry.name)?, format: entry.format()?, columns })
        });
        let kernels = forward::kernels(&self.context, p, matrices);
        self.compiling = Some(Compiling::begin(&self.context, &Sizes::from(p), &kernels).await);
    }
}

impl WeightSink for WebGpuWeights {
    fn begin(&mut self, tensor: &Tensor<'_>) -> Result<()> {
        self.context.check()?;
        let Tensor { role, name, format, rows, columns, is_matrix } = *tensor;
        let target = if is_matrix {
            let what = format!("the tensor '{name}'");
            let (matrix, room) = self.context.watched(&what, || Matrix::new(&self.context, name, format, rows, columns));
            self.room = Some(room);
            Target::Matrix(Box::new(Filling::new(matrix?)))
        } else {
            Target::Vector(Packing::new(format, rows, columns)?)
        };
        self.filling = Some((role, target));
        Ok(())
    }

    fn room(&mut self) -> LocalFuture<'_, Result<()>> {
        self.room.take().unwrap_or_else(|| Box::pin(ready(Ok(()))))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.filling {
            Some((_, Target::Matrix(filling))) => {
                filling.write(&self.context, bytes)?;
                self.undrained += bytes.len();
                if self.undrained > MAX_UNDRAINED {
                    self.context.drain_uploads();
                    self.context.check()?;
                    self.undrained = 0;
                }
                Ok(())
            }
            Some((_, Target::Vector(packing))) => Ok(packing.write(bytes)?),
            None => Err(AiError::invalid_data("Bytes came for no tensor.")),
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self.filling.take() {
            Some((role, Target::Matrix(filling))) => self.collected.add_matrix(role, filling.finish()?),
            Some((role, Target::Vector(packing))) => self.collected.add_vector(role, packing.finish().numbers()),
            None => {}
        }
        Ok(())
    }
}

impl WebGpuWeights {
    /// The complete weights of a model of `layers` layers, the device that they are on, and kernels that were begun.
    pub async fn build(self, layers: usize) -> Result<(Context, Weights, Option<Compiling>)> {
        let Self { context, collected, compiling, .. } = self;
        context.drain_uploads();
        let weights = context.checked("the model's norms", || collected.into_weights(layers, |norm| upload(&context, &norm))).await??;
        Ok((context, weights, compiling))
    }
}

fn upload(context: &Context, numbers: &[f32]) -> Result<wgpu::Buffer> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = context.create_buffer("a norm", bytes.len() as u64, usage)?;
    context.upload(&buffer, 0, &bytes);
    Ok(buffer)
}

fn no_kernels(tensor: &str, format: Format) -> AiError {
    unsupported(format!("Tensor '{tensor}' is of type {}, which the GPU does not compute.", format.name()))
}

/// What only the CPU computes.
fn unsupported(text: String) -> AiError {
    AiError::new(ErrorCode::InvalidData, text)
}
