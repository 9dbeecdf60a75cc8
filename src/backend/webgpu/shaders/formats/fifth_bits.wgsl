// Common to Q5_0 and Q5_1: one word has the fifth bits of a unit's 32 codes.

// Four of these bits, from bit `first` on, each as the fifth bit of a byte. (The multiplication copies bit `i` to bit `8 i`; the mask
// removes its other copies.)
fn fifth_bits(bits: u32, first: u32) -> u32 {
    return ((((bits >> first) & 15u) * 0x00204081u) & 0x01010101u) << 4u;
}

fn with_fifth_bits(unit: u32, scale: vec2<f32>, offset: vec2<f32>) -> Packed {
    let high = words[shape.high + unit];
    var p = nibbles(codes[unit], scale, offset);
    p.a |= fifth_bits(high, 0u);
    p.b |= fifth_bits(high, 4u);
    p.c |= fifth_bits(high, 8u);
    p.d |= fifth_bits(high, 12u);
    p.e |= fifth_bits(high, 16u);
    p.f |= fifth_bits(high, 20u);
    p.g |= fifth_bits(high, 24u);
    p.h |= fifth_bits(high, 28u);
    return p;
}
