fn packed(unit: u32) -> Packed {
    let scales = k_scales(unit);
    return nibbles(codes[unit], scales.xy, scales.zw);
}
