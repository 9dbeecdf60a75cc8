fn unpack(unit: u32) -> Unit {
    let low = codes[unit];
    let scale = vec2<f32>(half_at(shape.scales, unit));
    return Unit(
        low_nibbles(low.x),
        low_nibbles(low.y),
        low_nibbles(low.z),
        low_nibbles(low.w),
        high_nibbles(low.x),
        high_nibbles(low.y),
        high_nibbles(low.z),
        high_nibbles(low.w),
        scale,
        -8.0 * scale,
    );
}
