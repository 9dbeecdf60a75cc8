fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    // Bit `part` of a byte belongs to the column of that place in the part.
    let high = codes[shape.high / 4u + unit / 8u * 2u + unit % 2u];
    let part = unit / 2u % 4u * 2u;
    var result: Unit;
    k_scales(unit, &result);
    for (var i = 0u; i < 4u; i++) {
        result.first[i] = low_nibbles(low[i]) + upper_bits(high[i], part, 1u);
        result.second[i] = high_nibbles(low[i]) + upper_bits(high[i], part + 1u, 1u);
    }
    return result;
}
