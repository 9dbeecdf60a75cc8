//! The layout of a matrix in GPU buffers: the file's blocks, split into planes.
//!
//! The codes of all blocks are stored first, then their high bits, then their scales, each plane aligned to 16 bytes. Therefore threads
//! load codes 16 bytes at a time, neighbouring threads from neighbouring addresses. Loading a model costs no arithmetic: splitting the
//! file's blocks into planes only copies bytes.
//!
//! Shaders see *units* of [`UNIT`] weights. In the formats with nibbles a unit is 16 bytes of low bits; in every format it is two runs of
//! 16 columns. So there is one product shader for all formats, and a format is a function that unpacks a unit (`shaders/formats/`).
//!
//! A matrix that is larger than a binding may be is split into several buffers of whole rows (`Matrix` in `weights.rs`).

use kernels::Format;

/// Weights (columns of a row) that a shader unpacks at once.
pub const UNIT: usize = 32;

/// A part of every block that is stored in a separate plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Its offset in a block of the file, in bytes.
    pub offset: usize,
    /// Its bytes per block.
    pub bytes: usize,
}

/// The planes of a format: codes, high bits, scales, and one extra number (the block scale of Q6_K). A plane that a format does not have
/// has 0 bytes. Returns `None` for formats without shaders.
pub fn planes(format: Format) -> Option<[Plane; 4]> {
    const NONE: (usize, usize) = (0, 0);
    let planes = match format {
        Format::F32 => [(0, 4), NONE, NONE, NONE],
        Format::F16 | Format::Bf16 => [(0, 2), NONE, NONE, NONE],
        Format::Q4_0 => [(2, 16), NONE, (0, 2), NONE],
        Format::Q4_1 => [(4, 16), NONE, (0, 4), NONE],
        Format::Q5_0 => [(6, 16), (2, 4), (0, 2), NONE],
        Format::Q5_1 => [(8, 16), (4, 4), (0, 4), NONE],
        Format::Q8_0 => [(2, 32), NONE, (0, 2), NONE],
        Format::Q4K => [(16, 128), NONE, (0, 16), NONE],
        Format::Q5K => [(48, 128), (16, 32), (0, 16), NONE],
        Format::Q6K => [(0, 128), (128, 64), (192, 16), (208, 2)],
        Format::Iq4Nl => [(2, 16), NONE, (0, 2), NONE],
        Format::Iq4Xs => [(8, 128), NONE, (0, 8), NONE],
        Format::Q2K | Format::Q3K => return None,
    };
    Some(planes.map(|(offset, bytes)| Plane { offset, bytes }))
}

/// The formats that have shaders.
#[cfg(test)]
pub fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| planes(*format).is_some())
}

/// The offset in bytes of each plane in a buffer of `blocks` blocks, and the size of the buffer in bytes.
pub fn offsets(planes: &[Plane; 4], blocks: usize) -> ([u64; 4], u64) {
    let mut end = 0;
    let offsets = planes.map(|plane| {
        let start = end;
        end = (end + plane.bytes as u64 * blocks as u64).next_multiple_of(16);
        start
    });
    (offsets, end)
}

/// Copies one plane out of whole blocks of `block_bytes` bytes each. `out` must have room for `plane.bytes` bytes per block.
pub fn copy_plane(plane: Plane, block_bytes: usize, blocks: &[u8], out: &mut [u8]) {
    /// The size is a compile-time constant, so that copying one part takes a few instructions.
    fn copy<const N: usize>(offset: usize, block_bytes: usize, blocks: &[u8], out: &mut [u8]) {
        for (out, block) in out.as_chunks_mut::<N>().0.iter_mut().zip(blocks.chunks_exact(block_bytes)) {
            out.copy_from_slice(&block[offset..offset + N]);
        }
    }
    match plane.bytes {
        2 => copy::<2>(plane.offset, block_bytes, blocks, out),
        4 => copy::<4>(plane.offset, block_bytes, blocks, out),
        8 => copy::<8>(plane.offset, block_bytes, blocks, out),
        16 => copy::<16>(plane.offset, block_bytes, blocks, out),
        32 => copy::<32>(plane.offset, block_bytes, blocks, out),
        64 => copy::<64>(plane.offset, block_bytes, blocks, out),
        _ => copy::<128>(plane.offset, block_bytes, blocks, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_cover_every_byte_of_a_block_once() {
        for format in formats() {
            let mut covered = vec![0; format.file_bytes()];
            for plane in planes(format).expect("planes") {
                covered[plane.offset..plane.offset + plane.bytes].iter_mut().for_each(|count| *count += 1);
            }
            assert!(covered.iter().all(|count| *count == 1), "{format:?}");
        }
    }

    #[test]
    fn copies_a_plane_out_of_blocks() {
        let blocks: Vec<u8> = (0..54).collect();
        let mut out = [0; 12];
        copy_plane(Plane { offset: 2, bytes: 4 }, 18, &blocks, &mut out);
        assert_eq!(out, [2, 3, 4, 5, 20, 21, 22, 23, 38, 39, 40, 41]);
    }
}
