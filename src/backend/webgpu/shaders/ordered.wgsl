// The order of candidates: larger logits first, equal logits by ascending id. A candidate is a pair of ordered bits and id.

// Logits or candidates that one workgroup selects from.
const SEGMENT = 1024u;

// Maps the bits of an f32 to an unsigned integer that has the same order. NaN and infinities map to 1, below all finite numbers.
fn ordered(bits: u32) -> u32 {
    if (bits & 0x7fffffffu) >= 0x7f800000u {
        return 1u;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn precedes(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}
