// The order in which candidates stand: the larger logit first, of equal ones that of the smaller id.

// Logits that a workgroup looks at.
const SEGMENT = 1024u;

// Bits that are ordered as numbers are. What is no number, or infinite, comes last.
fn ordered(bits: u32) -> u32 {
    if (bits & 0x7fffffffu) >= 0x7f800000u {
        return 1u;
    }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn precedes(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}
