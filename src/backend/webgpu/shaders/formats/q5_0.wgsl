fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    let high = words[shape.high + unit];
    var result: Unit;
    result.scale = vec2<f32>(half_at(shape.scales, unit));
    result.offset = -16.0 * result.scale;
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = low_nibbles(low[i]) + fifth_bits(high, 4u * i);
        result.second[i] = high_nibbles(low[i]) + fifth_bits(high, 4u * i + 16u);
    }
    return result;
}
