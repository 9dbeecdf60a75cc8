//! Fallible allocation: running out of memory is an error, never a trap.

/// Bytes that must remain free after a large allocation, for the small ones that are not checked: logits, candidates, messages
/// and texts.
const HEADROOM: usize = 2 << 20;

/// Reserves capacity for exactly `additional` further elements. Returns `false`, with the capacity unchanged, if the memory is
/// not available or fewer than `HEADROOM` bytes (2 MiB) would remain free.
pub fn try_grow<T>(vector: &mut Vec<T>, additional: usize) -> bool {
    let before = vector.capacity();
    if vector.try_reserve_exact(additional).is_err() {
        return false;
    }
    let fits = vector.capacity() == before || has_headroom();
    if !fits {
        vector.shrink_to(before);
    }
    fits
}

fn has_headroom() -> bool {
    Vec::<u8>::new().try_reserve_exact(HEADROOM).is_ok()
}
