fn packed(unit: u32) -> Packed {
    // Bit `part` of byte `i` is the fifth bit of column `i` of that part.
    let high = codes[shape.high / 4u + unit / 8u * 2u + unit % 2u];
    let part = unit / 2u % 4u * 2u;
    let scales = k_scales(unit);
    return with_upper_bits(nibbles(codes[unit], scales.xy, scales.zw), high, part, part + 1u, 0x01010101u);
}
