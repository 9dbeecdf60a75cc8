//! A separate WebAssembly module that compares the kernels of one build with the reference implementation. The package's relaxed-SIMD
//! builds differ only in this crate, so `npm test` compares this module instead of compiling the whole package for them.

use workers_ai_local_kernels::products;

/// Multiplies random matrices, `rounds` per format, with the kernels and with the reference. Returns the number of results that differ in
/// any bit (in the upper 32 bits) and the number of results (in the lower 32 bits).
// SAFETY: no other function of this module is exported under this name.
#[unsafe(no_mangle)]
pub extern "C" fn compare(seed: u32, rounds: u32) -> u64 {
    let (different, compared) = products::compare_with_reference(u64::from(seed), rounds as usize);
    (different as u64) << 32 | compared as u64
}
