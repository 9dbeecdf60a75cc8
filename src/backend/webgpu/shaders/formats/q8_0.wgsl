fn unpack(unit: u32) -> Unit {
    let first = codes[2u * unit];
    let second = codes[2u * unit + 1u];
    let scale = vec2<f32>(half_at(shape.scales, unit));
    return Unit(
        signed_bytes(first.x),
        signed_bytes(first.y),
        signed_bytes(first.z),
        signed_bytes(first.w),
        signed_bytes(second.x),
        signed_bytes(second.y),
        signed_bytes(second.z),
        signed_bytes(second.w),
        scale,
        vec2<f32>(0.0),
    );
}
