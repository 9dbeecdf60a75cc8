fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    let high = words[shape.high + unit];
    let numbers = halves(words[shape.scales + unit]);
    var result: Unit;
    result.scale = vec2<f32>(numbers.x);
    result.offset = vec2<f32>(numbers.y);
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = low_nibbles(low[i]) + fifth_bits(high, 4u * i);
        result.second[i] = high_nibbles(low[i]) + fifth_bits(high, 4u * i + 16u);
    }
    return result;
}
