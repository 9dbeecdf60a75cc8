//! Memory that may not be there: taken so that running out is an error, never a trap.

/// Bytes that must still be free after something large was taken: logits, candidates, messages and texts are small and
/// taken without asking.
const HEADROOM: usize = 2 << 20;

/// Makes room for exactly `additional` further elements. `false`, and nothing taken, where memory would not last.
pub fn try_grow<T>(vector: &mut Vec<T>, additional: usize) -> bool {
    let before = vector.capacity();
    if vector.try_reserve_exact(additional).is_err() {
        return false;
    }
    let lasts = vector.capacity() == before || has_headroom();
    if !lasts {
        vector.shrink_to(before);
    }
    lasts
}

fn has_headroom() -> bool {
    Vec::<u8>::new().try_reserve_exact(HEADROOM).is_ok()
}
