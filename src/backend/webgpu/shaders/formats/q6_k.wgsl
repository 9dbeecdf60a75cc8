// A block has 256 columns in two halves. 16 bytes of nibbles hold 16 columns of a half (lower nibbles) and those 64 columns further on
// (upper nibbles). The upper two bits of each code are in the high plane. Every 16 columns have an 8-bit scale.

fn columns_of(unit: u32) -> vec2<u32> {
    let first = unit / 8u * 64u + unit / 4u % 2u * 32u + unit % 4u * 4u;
    return vec2<u32>(first, first + 16u);
}

fn packed(unit: u32) -> Packed {
    let block = unit / 8u;
    let side = unit / 4u % 2u;
    let run = unit % 4u;
    let high = codes[shape.high / 4u + block * 4u + side * 2u + run % 2u];
    let shift = run / 2u * 2u;
    let first = words[shape.scales + block * 4u + side * 2u];
    let second = words[shape.scales + block * 4u + side * 2u + 1u];
    let factors = vec2<f32>(f32(extractBits(bitcast<i32>(first), run * 8u, 8u)), f32(extractBits(bitcast<i32>(second), run * 8u, 8u)));
    let scale = half_at(shape.extra, block) * factors;
    return with_upper_bits(nibbles(codes[unit], scale, -32.0 * scale), high, shift, shift + 4u, 0x03030303u);
}
