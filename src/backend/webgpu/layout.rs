//! How a matrix lies in GPU buffers: the file's blocks, split into planes.
//!
//! Codes of all blocks stand together, then their high bits, then their scales, each plane aligned to 16 bytes. So threads load codes
//! 16 bytes at a time and one after another, and bringing a file's blocks into that order is copying.

use kernels::Format;

/// Weights that a kernel unpacks at once.
pub const UNIT: usize = 32;

/// A piece of every block that is kept in a plane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Where it stands in a file's block.
    pub offset: usize,
    pub bytes: usize,
}

/// The planes of a format: codes, high bits, scales, and one more number; of no bytes where there is none. `None`: the GPU has no
/// kernels for it.
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
        Format::Q2K | Format::Q3K => return None,
    };
    Some(planes.map(|(offset, bytes)| Plane { offset, bytes }))
}

/// Formats that the GPU has kernels for.
#[cfg(test)]
pub fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| planes(*format).is_some())
}

/// Where each plane of `blocks` blocks begins in a buffer, and the buffer's bytes.
pub fn offsets(planes: &[Plane; 4], blocks: usize) -> ([u64; 4], u64) {
    let mut end = 0;
    let offsets = planes.map(|plane| {
        let start = end;
        end = (end + plane.bytes as u64 * blocks as u64).next_multiple_of(16);
        start
    });
    (offsets, end)
}

/// Takes one plane out of whole blocks. `out` has room for it.
pub fn copy_plane(plane: Plane, block_bytes: usize, blocks: &[u8], out: &mut [u8]) {
    /// Of a size that is known to the compiler, so that a piece is a few instructions.
    fn copy<const N: usize>(offset: usize, block_bytes: usize, blocks: &[u8], out: &mut [u8]) {
        for (out, block) in out.as_chunks_mut::<N>().0.iter_mut().zip(blocks.chunks_exact(block_bytes)) {
            out.copy_from_slice(&block[offset..offset + N]);
        }
    }
    match plane.bytes {
        2 => copy::<2>(plane.offset, block_bytes, blocks, out),
        4 => copy::<4>(plane.offset, block_bytes, blocks, out),
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
    fn planes_are_the_whole_block_and_nothing_twice() {
        for format in formats() {
            let mut covered = vec![0; format.file_bytes()];
            for plane in planes(format).expect("planes") {
                covered[plane.offset..plane.offset + plane.bytes].iter_mut().for_each(|count| *count += 1);
            }
            assert!(covered.iter().all(|count| *count == 1), "{format:?}");
        }
    }

    #[test]
    fn a_plane_is_copied() {
        let blocks: Vec<u8> = (0..54).collect();
        let mut out = [0; 12];
        copy_plane(Plane { offset: 2, bytes: 4 }, 18, &blocks, &mut out);
        assert_eq!(out, [2, 3, 4, 5, 20, 21, 22, 23, 38, 39, 40, 41]);
    }
}
