fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    // Bit `part` of a byte belongs to the column of that place in the part.
    let high = codes[shape.high / 4u + unit / 8u * 2u + unit % 2u];
    let part = unit / 2u % 4u * 2u;
    let scales = k_scales(unit);
    return Unit(
        low_nibbles(low.x) + upper_bits(high.x, part, 1u),
        low_nibbles(low.y) + upper_bits(high.y, part, 1u),
        low_nibbles(low.z) + upper_bits(high.z, part, 1u),
        low_nibbles(low.w) + upper_bits(high.w, part, 1u),
        high_nibbles(low.x) + upper_bits(high.x, part + 1u, 1u),
        high_nibbles(low.y) + upper_bits(high.y, part + 1u, 1u),
        high_nibbles(low.z) + upper_bits(high.z, part + 1u, 1u),
        high_nibbles(low.w) + upper_bits(high.w, part + 1u, 1u),
        scales.xy,
        scales.zw,
    );
}
