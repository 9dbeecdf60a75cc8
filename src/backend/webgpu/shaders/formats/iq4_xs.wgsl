// A block has 256 columns in eight parts. Its head is two words: the block's scale and the upper two bits of each part's scale, 16 bits
// each; then the lower four bits of each part's scale.

fn packed(unit: u32) -> Packed {
    let head = shape.scales + unit / 8u * 2u;
    let part = unit % 8u;
    let first = words[head];
    let lower = extractBits(words[head + 1u], part * 4u, 4u);
    let upper = extractBits(first, 16u + part * 2u, 2u);
    let scale = halves(first & 0xffffu).x * (f32(lower | (upper << 4u)) - 32.0);
    return nibbles(codes[unit], vec2<f32>(scale), vec2<f32>(0.0));
}
