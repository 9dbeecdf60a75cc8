//! The weights of a model in GPU buffers, and the sink that uploads them as they arrive.

use super::context::Context;
use super::layout::{self, Plane, UNIT};
use super::shaders::{Compilation, ROWS_AT_ONCE, Shader, Sizes};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::{LocalFuture, TensorEntry};
use crate::model::{Role, Tensor, WeightCollector, WeightSink};
use kernels::Format;
use kernels::packing::Packing;
use std::future::ready;

/// All weights of a model.
pub type Weights = crate::model::Weights<Matrix, wgpu::Buffer>;

/// The properties of a matrix that determine its shaders.
#[derive(Debug, Clone, Copy)]
pub struct MatrixKind {
    pub role: Role,
    pub format: Format,
    pub columns: usize,
}

/// The kinds of all matrices of a model.
pub fn kinds(weights: &Weights) -> impl Iterator<Item = MatrixKind> {
    weights.matrices().map(|(role, matrix)| MatrixKind { role, format: matrix.format, columns: matrix.columns })
}

/// A matrix `[rows, columns]` on the GPU.
pub struct Matrix {
    pub format: Format,
    pub rows: usize,
    pub columns: usize,
    planes: [Plane; 4],
    /// One buffer, or several if the whole matrix is larger than the adapter's limit for a binding.
    pub parts: Vec<Part>,
}

/// The rows of a matrix that are in one buffer.
pub struct Part {
    pub rows: usize,
    pub buffer: wgpu::Buffer,
    /// `Shape` of `matrix.wgsl`.
    pub shape: wgpu::Buffer,
    /// Offsets of the planes in the buffer, in bytes.
    offsets: [u64; 4],
}

/// The most workgroups of a dispatch in one dimension (WebGPU's default limit).
const MAX_WORKGROUPS: usize = 65535;

impl Matrix {
    /// Allocates a matrix `[rows, columns]`, in as many buffers as the adapter's limits require. `what` names the tensor in errors.
    ///
    /// # Errors
    ///
    /// 5004 if the GPU does not support the format or shape; 3040 if there is no memory.
    pub fn new(context: &Context, what: &str, format: Format, rows: usize, columns: usize) -> Result<Self> {
        let Some(planes) = layout::planes(format) else {
            return Err(no_shader(what, format));
        };
        if rows == 0 || columns == 0 || !columns.is_multiple_of(UNIT) || !columns.is_multiple_of(format.columns()) {
            return Err(unsupported(format!("Tensor '{what}' has {columns} columns; the GPU computes whole groups of {UNIT}.")));
        }
        let blocks = columns / format.columns();
        // Aligning the planes costs at most 64 bytes.
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

/// Uploads a tensor's bytes into a matrix as they arrive.
pub struct Filling {
    matrix: Matrix,
    /// Index of the part that is being filled, and the number of its blocks that were uploaded.
    part: usize,
    done: usize,
    /// Bytes received but not uploaded yet: an incomplete block or pair of blocks, plus at most one piece during `write`.
    pending: Vec<u8>,
    /// Staging memory for one plane of a piece.
    staging: Vec<u8>,
}

/// Bytes that are split into planes at once.
const PIECE: usize = 1 << 20;

impl Filling {
    pub fn new(matrix: Matrix) -> Self {
        Self { matrix, part: 0, done: 0, pending: Vec::new(), staging: Vec::new() }
    }

    /// Accepts the next bytes of the tensor, in the file's layout.
    ///
    /// # Errors
    ///
    /// 3040 if there is no memory for staging.
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
                // Planes of two bytes per block fill whole words only for pairs of blocks.
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

    /// Returns the complete matrix.
    ///
    /// # Errors
    ///
    /// 5004 if bytes are missing.
    pub fn finish(self) -> Result<Matrix> {
        if self.part < self.matrix.parts.len() {
            return Err(AiError::invalid_data("A tensor has fewer bytes than its shape says."));
        }
        Ok(self.matrix)
    }
}

/// The [`WeightSink`] that uploads weights to the GPU as they arrive.
pub struct WebGpuWeights {
    context: Context,
    collected: WeightCollector<Matrix>,
    filling: Option<(Role, Target)>,
    /// Bytes uploaded since the last `drain_uploads`.
    undrained: usize,
    /// The shaders, which compile meanwhile.
    compilation: Option<Compilation>,
    /// Resolves once it is known whether there was memory for the tensor that was begun.
    room: Option<LocalFuture<'static, Result<()>>>,
}

enum Target {
    Matrix(Box<Filling>),
    /// Norms are small, so they are stored as F32.
    Vector(Packing),
}

/// The most bytes to upload between two calls of `drain_uploads`. Natively this bounds the memory that uploads wait in.
const MAX_UNDRAINED: usize = 64 << 20;

impl WebGpuWeights {
    /// Checks, before any tensor is read, whether there are shaders for the formats of these tensors.
    ///
    /// # Errors
    ///
    /// 5004 for the first matrix of an unsupported format; the text names it.
    pub fn check(tensors: &[TensorEntry]) -> Result<()> {
        let matrices = tensors.iter().filter(|entry| entry.shape.len() == 2);
        let missing = matrices.into_iter().find(|entry| layout::planes(entry.format).is_none());
        missing.map_or(Ok(()), |entry| Err(no_shader(&entry.name, entry.format)))
    }

    /// An empty sink for the device of `context`.
    pub fn new(context: &Context) -> Self {
        Self { context: context.clone(), collected: WeightCollector::default(), filling: None, undrained: 0, compilation: None, room: None }
    }

    /// Starts compiling shaders, so that compiling overlaps with loading the weights.
    pub async fn compile(&mut self, sizes: &Sizes, shaders: &[Shader]) {
        self.compilation = Some(Compilation::start(&self.context, sizes, shaders).await);
    }

    /// The device that the weights are on.
    pub fn context(&self) -> &Context {
        &self.context
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
            Some((role, Target::Vector(packing))) => self.collected.add_vector(role, packing.finish()?.numbers()),
            None => {}
        }
        Ok(())
    }
}

impl WebGpuWeights {
    /// Returns the device, the weights, and the compilation started by `start_compiling`, if any.
    ///
    /// # Errors
    ///
    /// If there is no memory for the vectors.
    pub async fn build(self) -> Result<(Context, Weights, Option<Compilation>)> {
        let Self { context, collected, compilation, .. } = self;
        context.drain_uploads();
        let weights = context.checked("the model's norms", || collected.into_weights(|numbers| upload(&context, &numbers))).await??;
        Ok((context, weights, compilation))
    }
}

fn upload(context: &Context, numbers: &[f32]) -> Result<wgpu::Buffer> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = context.create_buffer("a vector", bytes.len() as u64, usage)?;
    context.upload(&buffer, 0, &bytes);
    Ok(buffer)
}

fn no_shader(tensor: &str, format: Format) -> AiError {
    unsupported(format!("Tensor '{tensor}' is of type {}, which the GPU does not compute.", format.name()))
}

/// An error for models that only the CPU backend supports.
fn unsupported(text: String) -> AiError {
    AiError::new(ErrorCode::InvalidData, text)
}
