fn packed(unit: u32) -> Packed {
    let scale = vec2<f32>(half_at(shape.scales, unit));
    return with_fifth_bits(unit, scale, -16.0 * scale);
}
