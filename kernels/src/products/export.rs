//! The comparison with the reference implementation as the export of a WebAssembly module that consists of this crate alone.

/// Runs [`compare_with_reference`](super::compare_with_reference). Returns the number of results that differ in any bit in the upper 32 bits,
/// and the number of results in the lower 32.
// SAFETY: no other function of the module is exported under this name.
#[unsafe(no_mangle)]
pub extern "C" fn compare(seed: u32, rounds: u32) -> u64 {
    let (different, compared) = super::compare_with_reference(u64::from(seed), rounds as usize);
    (different as u64) << 32 | compared as u64
}
