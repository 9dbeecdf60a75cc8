fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    let scales = k_scales(unit);
    return Unit(
        low_nibbles(low.x),
        low_nibbles(low.y),
        low_nibbles(low.z),
        low_nibbles(low.w),
        high_nibbles(low.x),
        high_nibbles(low.y),
        high_nibbles(low.z),
        high_nibbles(low.w),
        scales.xy,
        scales.zw,
    );
}
