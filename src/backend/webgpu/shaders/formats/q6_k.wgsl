// A block has 256 columns in two halves. 16 bytes of low nibbles hold 16 columns of a half, and those 64 columns further on; two more
// bits of each stand in the bytes of the high plane. A scale of 8 bits for 16 columns.

fn columns_of(unit: u32) -> vec2<u32> {
    let first = unit / 8u * 64u + unit / 4u % 2u * 32u + unit % 4u * 4u;
    return vec2<u32>(first, first + 16u);
}

fn unpack(unit: u32) -> Unit {
    let block = unit / 8u;
    let side = unit / 4u % 2u;
    let run = unit % 4u;
    let low = codes[unit];
    let high = codes[shape.high / 4u + block * 4u + side * 2u + run % 2u];
    let shift = run / 2u * 2u;
    let scales = words[shape.scales + block * 4u + side * 2u];
    let scales_after = words[shape.scales + block * 4u + side * 2u + 1u];
    let scale = vec2<f32>(
        f32(extractBits(bitcast<i32>(scales), run * 8u, 8u)),
        f32(extractBits(bitcast<i32>(scales_after), run * 8u, 8u)),
    );
    var result: Unit;
    result.scale = half_at(shape.extra, block) * scale;
    result.offset = -32.0 * result.scale;
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = low_nibbles(low[i]) + upper_bits(high[i], shift, 3u);
        result.second[i] = high_nibbles(low[i]) + upper_bits(high[i], shift + 4u, 3u);
    }
    return result;
}
